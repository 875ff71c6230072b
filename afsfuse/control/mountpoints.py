"""Mount points, which the kernel shows as directories: where they lead, and removing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afsfuse.cell.volumes import Preference
from afsfuse.control.protocol import raw
from afsfuse.errors import CellUnknown, ControlRefused, VolumeMissing
from afsfuse.vfs.mountpoints import MountPoint, parse_mountpoint

if TYPE_CHECKING:
    from afsfuse.cell.volumes import VolumeLocator
    from afsfuse.control.paths import Paths
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.vfs.forgetting import Forgetting


class MountPointVerbs:
    """Answers for one mount."""

    def __init__(self, paths: Paths, locator: VolumeLocator, forgetting: Forgetting) -> None:
        self._paths = paths
        self._filesystem = paths.mounted.filesystem
        self._cache = paths.mounted.cache
        self._locator = locator
        self._forgetting = forgetting
        self.verbs: dict[str, Verb] = {
            "mount-point": self._mount_point,
            "remove-mount-point": self._remove,
            "flush-mount-point": self._flush,
            "find-volume": self._find_volume,
        }

    async def _mount_point(self, request: Request, peer: Peer) -> dict[str, Any]:
        """What a mount point says, which is not entered for it; nothing if it is none."""
        node = await self._paths.node(request, peer)
        if not isinstance(node, MountPoint):
            return {"target": None}
        spec = node.spec
        if node.mount is not None and node.fid is not None:
            who = self._paths.identify(peer)
            body = await self._cache.readlink(node.mount.volume, node.fid, who)
            spec = parse_mountpoint(body)
        assert spec is not None
        return {"target": str(spec)}

    async def _remove(self, request: Request, peer: Peer) -> dict[str, Any]:
        """The mount point `name` in the directory that the request names."""
        name = request.get("name")
        if not isinstance(name, str) or not name or "/" in name:
            raise ControlRefused("a name is expected")
        who = self._paths.identify(peer)
        parent = await self._paths.node(request, peer)
        await self._filesystem.dirops.rmmount(parent, raw(name), who)
        return {}

    async def _flush(self, request: Request, peer: Peer) -> dict[str, Any]:
        node = await self._paths.node(request, peer)
        if not isinstance(node, MountPoint):
            raise ControlRefused("not a mount point")
        self._forgetting.target(node)
        if node.mount is not None and node.fid is not None:
            vnode = self._cache.peek(node.mount.volume, node.fid)
            self._cache.flusher.flush([] if vnode is None else [vnode])
        return {}

    async def _find_volume(self, request: Request, peer: Peer) -> dict[str, Any]:
        """Whether a cell, by default that of the directory, has a volume of a name."""
        volume, cell = request.get("volume"), request.get("cell")
        if not isinstance(volume, str) or not isinstance(cell, str | None):
            raise ControlRefused("a volume is expected")
        found = await self._paths.find(request, peer)
        own = found.mount.volume.cell.name
        try:
            await self._locator.volume(cell or own, volume, Preference.PREFER_RO, found.who)
        except (VolumeMissing, CellUnknown) as exc:
            return {"found": False, "cell": cell or own, "why": exc.message}
        return {"found": True, "cell": cell or own}
