"""Why a path hangs, or where its answer came from: told from memory, without asking a server.

Everything is in the name of whoever asks: nobody hears of names in a directory that he is not known
to be allowed to look into, of another one's token, or of what another one has not stored yet. How
many others wait is told, and what failed if it says nothing of them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import trio

from afsfuse.control.statistics import call
from afsfuse.control.trees import TYPES
from afsfuse.errors import ControlRefused
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.auth.store import TokenStore
    from afsfuse.cache import Vnode
    from afsfuse.cell.directory import Cell, CellDirectory
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.control.mounted import Mounted
    from afsfuse.control.unstored import UnstoredFiles
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.refusals import Refusal
    from afsfuse.vfs.mountpoints import MountPoint
    from rxrpc import Endpoint

_RIGHTS = ((1, "r"), (8, "l"), (4, "i"), (16, "d"), (2, "w"), (32, "k"), (64, "a"))
"""Of an access list, in the order in which they are written."""


class Why:
    """Answers for one mount."""

    def __init__(
        self,
        mounted: Mounted,
        endpoint: Endpoint,
        cells: CellDirectory,
        client: FileServerClient,
        unstored: UnstoredFiles,
        tokens: TokenStore,
    ) -> None:
        self._mounted = mounted
        self._tracker = mounted.filesystem.tracker
        self._endpoint = endpoint
        self._cells = cells
        self._client = client
        self._unstored = unstored
        self._tokens = tokens
        self.verbs: dict[str, Verb] = {
            "why": self._why,
        }

    def volume_of(self, request: Request, peer: Peer) -> Volume:
        """The volume of a path, as far as it is known. Raises `ControlRefused`."""
        found = self._tracker.follow(_path(request), self._mounted.identify(peer))
        if found.volume is None or found.rest:
            raise ControlRefused("it is not known in which volume this is: try `afsfuse why`")
        return found.volume

    async def _why(self, request: Request, peer: Peer) -> dict[str, Any]:
        who = self._mounted.identify(peer)
        found = self._tracker.follow(_path(request), who)
        volume, vnode = found.volume, found.vnode
        cell = self._cell(found.volume, found.point)
        shown = os.fsdecode(found.path)
        answer: dict[str, Any] = {
            "mount": self._mounted.directory,
            "path": self._mounted.shown(shown),
            "rest": os.fsdecode(found.rest),
            "ending": found.ending.value,
            "identity": who.text,
            "cell": None if cell is None else cell.name,
            "location_servers": [] if cell is None else self._location_servers(cell),
            "volume": None,
            "servers": [],
            "fid": None,
            "kind": None,
            "promise": None,
            "rights": None,
            "cached": None,
            "token": self._token(who, cell),
            "speaks_as": None if cell is None else self._client.speaker(who, cell.name).text,
            "mount_point": None if found.point is None else self._point(found.point),
            "failure": None,
            "calls": [],
            "calls_of_others": 0,
            "files": [],
        }
        if volume is not None:
            answer |= self._of_volume(volume, who)
        if vnode is not None:
            answer |= self._of_vnode(vnode, who)
        return answer

    def _cell(self, volume: Volume | None, point: MountPoint | None) -> Cell | None:
        """The cell in question, if it has been looked up."""
        if volume is not None:
            return volume.cell
        if point is not None and point.spec is not None and point.spec.cell is not None:
            name = point.spec.cell
            return next((cell for cell in self._cells.cells() if cell.name == name), None)
        return point.mount.volume.cell if point is not None and point.mount is not None else None

    def _location_servers(self, cell: Cell) -> list[dict[str, Any]]:
        """The cell's location servers, and since when each is silent; None: it was never asked."""
        peers = {peer.address: peer for peer in self._endpoint.statistics().peers}
        return [
            {
                "address": address[0],
                "rtt": None if address not in peers else peers[address].rtt,
                "silent": None if address not in peers else round(peers[address].silent, 1),
            }
            for address in cell.vl_servers
        ]

    def _point(self, point: MountPoint) -> dict[str, Any]:
        return {
            "target": None if point.spec is None else str(point.spec),
            "resolved": point.target is not None,
            "searching": point.resolution is not None,
            "failure": None if point.failure is None else str(point.failure.error),
        }

    def _of_volume(self, volume: Volume, who: Identity) -> dict[str, Any]:
        me = (who, self._client.speaker(who, volume.cell.name))  # who has no token is nobody
        running = [
            one for one in self._client.operations.under_way() if one.operation.volume is volume
        ]
        mine = [call(one) for one in running if one.operation.who in me]
        failure = self._client.operations.failure(volume, me)
        refusals = self._client.refusals.of(volume)
        return {
            "volume": {"name": volume.name, "id": volume.id, "type": TYPES[volume.type.name]},
            "servers": [
                {**self._server(site.server), "refusal": _refusal(refusals.get(site.server))}
                for site in volume.sites
            ],
            "calls": mine,
            "calls_of_others": len(running) - len(mine),
            "failure": None
            if failure is None
            else {"name": failure.name, "at": failure.at, "error": failure.error},
        }

    def _server(self, server: FileServer) -> dict[str, Any]:
        now = trio.current_time()
        status = next((one for one in self._client.servers() if one.uuid == str(server.uuid)), None)
        seen = now - server.last_seen
        return {
            "addresses": [host for host, _ in server.addresses],
            "used": None if status is None else status.used,
            "up": None if status is None else status.up,
            "rtt": server.rtt,
            "seen": round(seen, 1) if seen < now + 1e9 and server.last_seen > 0 else None,
            "waiting": server.waiting,
        }

    def _of_vnode(self, vnode: Vnode, who: Identity) -> dict[str, Any]:
        now = trio.current_time()
        rights = self._mounted.cache.doors.known_rights(vnode, who)
        server = vnode.server
        data = vnode.data
        return {
            "fid": f"{vnode.fid.volume}.{vnode.fid.vnode}.{vnode.fid.unique}",
            "kind": vnode.status.kind.name.lower(),
            "promise": None
            if not vnode.expires
            else {
                "left": round(vnode.expires - now, 1),
                "counts": vnode.valid(now),
                "server": None if server is None else server.host,
            },
            "rights": None
            if rights is None
            else "".join(letter for bit, letter in _RIGHTS if rights & bit),
            "cached": {
                "bytes": 0 if data is None else sum(len(c.buffer) for c in data.chunks.values()),
                "names": None if vnode.directory is None else len(vnode.directory),
            },
            "files": []
            if vnode.dirty is None or vnode.status.kind is not FileKind.FILE
            else self._unstored.of_path(vnode.dirty.path, who),
        }

    def _token(self, who: Identity, cell: Cell | None) -> dict[str, Any] | None:
        token = None if cell is None else self._tokens.get(who, cell.name)
        if token is None:
            return None
        return {
            "client": token.client,
            "end": token.end,
            "expired": token.expired(time.time()),
        }


def _refusal(refusal: Refusal | None) -> dict[str, Any] | None:
    """What a server says of the volume; it says nothing of who asked, and for what."""
    if refusal is None:
        return None
    now = trio.current_time()
    return {
        "said": refusal.said,
        "since": round(now - refusal.since, 1),
        "last": round(now - refusal.last, 1),
    }


def _path(request: Request) -> bytes:
    path = request.get("path")
    if not isinstance(path, str):
        raise ControlRefused("a path below the mount is expected")
    return os.fsencode(path)
