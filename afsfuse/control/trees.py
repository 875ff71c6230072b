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
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.control.verbs import Peer, Request
    from afsfuse.vfs.expiry import TreeReport
    from afsfuse.vfs.filesystem import FileSystem
    from afsfuse.vfs.trees import Keep

TYPES = {"RW": "read-write", "RO": "read-only", "BACKUP": "backup"}


class TreeVerbs:
    """Answers for one mount."""

    def __init__(
        self,
        filesystem: FileSystem,
        directory: str,
        device: Callable[[], str | None],
        identify: Callable[[Peer], Identity],
        expire: int,
    ) -> None:
        """`directory`: where it is mounted, `device`: as what (`major:minor`); `identify` says who
        asks; `expire`: the period of expiry in seconds.
        """
        self._filesystem = filesystem
        self._directory = directory
        self._device = device
        self._identify = identify
        self._expire = expire
        self.verbs: dict[str, Callable[[Request, Peer], Awaitable[dict[str, Any]]]] = {
            "trees": self._trees,
            "let-go": self._let_go,
        }

    async def _trees(self, request: Request, peer: Peer) -> dict[str, Any]:
        who = None if peer.owns_daemon else self._identify(peer)
        reports = await self._filesystem.expiry.report()
        return {
            "directory": self._directory,
            "expire": self._expire,
            "trees": [
                self._shown(report, peer)
                for report in reports
                if who is None or self._filesystem.may_see(report.mount.point, who)
            ],
        }

    def _shown(self, report: TreeReport, peer: Peer) -> dict[str, Any]:
        volume = report.mount.volume
        servers = [host for site in volume.sites for host, _ in site.server.addresses[:1]]
        root = report.mount.point.vnode
        if root is not None and root.server is not None and root.server.addresses:
            servers = [root.server.addresses[0][0]]
        return {
            "path": self._path(report.path),
            "volume": volume.name,
            "number": volume.id,
            "cell": volume.cell.name,
            "type": TYPES[volume.type.name],
            "server": servers[0] if servers else None,
            "idle": round(report.idle, 1),
            "kept_by": [self._keep(keep, peer) for keep in report.keeps],
            "kept": report.kept,
            "nodes": report.nodes,
            "memory": report.memory,
            "data": report.data,
        }

    def _path(self, path: str) -> str:
        return self._directory if path == "/" else self._directory.rstrip("/") + path

    def _keep(self, keep: Keep, peer: Peer) -> dict[str, str]:
        who = keep.who
        if keep.what == "tree below":
            who = self._path(who) if peer.owns_daemon else ""
        elif not peer.owns_daemon and keep.uid != peer.uid:
            who = "another user"
        return {"what": keep.what, "who": who}

    async def _let_go(self, request: Request, peer: Peer) -> dict[str, Any]:
        if request.get("device") != self._device():
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
                {"path": self._path(each.point.path()), **self._keep(keep, peer)}
                for each, keep in using
            ]
        }
