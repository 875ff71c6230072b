"""What can be asked about the trees of a mount: which there are, and that one goes now.

Root and whoever runs the daemon are told of all trees and of who uses them. Others are told of
trees whose path they may look at in any case, as far as that is known without asking a server, and
of their own processes. Only root and the owner may have a tree let go: it costs everybody else a
round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afsfuse.errors import ControlRefused
from afsfuse.model import Inode

if TYPE_CHECKING:
    from afsfuse.control.mounted import Mounted
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.vfs.expiry import TreeReport
    from afsfuse.vfs.trees import Keep

TYPES = {"RW": "read-write", "RO": "read-only", "BACKUP": "backup"}


class TreeVerbs:
    """Answers for one mount."""

    def __init__(self, mounted: Mounted, expire: int) -> None:
        """`expire`: the period of expiry in seconds."""
        self._mounted = mounted
        self._filesystem = mounted.filesystem
        self._expire = expire
        self.verbs: dict[str, Verb] = {
            "trees": self._trees,
            "let-go": self._let_go,
        }

    async def _trees(self, request: Request, peer: Peer) -> dict[str, Any]:
        who = None if peer.owns_daemon else self._mounted.identify(peer)
        reports = await self._filesystem.expiry.report()
        return {
            "directory": self._mounted.directory,
            "expire": self._expire,
            "trees": [
                self._shown(report, peer)
                for report in reports
                if who is None or self._filesystem.may_see(report.mount.point, who)
            ],
        }

    def _shown(self, report: TreeReport, peer: Peer) -> dict[str, Any]:
        volume = report.mount.volume
        servers = [site.server for site in volume.sites]
        root = report.mount.point.vnode
        if root is not None and root.server is not None:
            servers.insert(0, root.server)
        return {
            "path": self._mounted.shown(report.path),
            "volume": volume.name,
            "number": volume.id,
            "cell": volume.cell.name,
            "type": TYPES[volume.type.name],
            "server": next((server.host for server in servers if server.host), None),
            "idle": round(report.idle, 1),
            "kept_by": [self._keep(keep, peer) for keep in report.keeps],
            "kept": report.kept,
            "nodes": report.nodes,
            "memory": report.memory,
            "data": report.data,
        }

    def _keep(self, keep: Keep, peer: Peer) -> dict[str, str]:
        who = keep.who
        if keep.what == "tree below":
            who = self._mounted.shown(who) if peer.owns_daemon else ""
        elif not peer.owns_daemon and keep.uid != peer.uid:
            who = "another user"
        return {"what": keep.what, "who": who}

    async def _let_go(self, request: Request, peer: Peer) -> dict[str, Any]:
        if request.get("device") != self._mounted.device():
            return {"other": True}  # some other daemon's
        if not peer.owns_daemon:
            raise ControlRefused("only root and whoever mounted it may let a tree go")
        number = request.get("inode")
        if not isinstance(number, int):
            raise ControlRefused("the inode number of a tree's root is expected")
        tree = self._filesystem.expiry.find(Inode(number))
        if tree is None:
            return {"missing": True}
        using = await self._filesystem.expiry.let_go_at_once(tree)
        return {
            "using": [
                {"path": self._mounted.shown(each.point.path()), **self._keep(keep, peer)}
                for each, keep in using
            ]
        }
