"""Volumes behind paths: quota and use, where they are, and what a path is in them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from afsfuse.control.protocol import raw
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from afsfuse.cell.volumes import Volume
    from afsfuse.control.paths import Paths
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.fileserver.client import FileServerClient

log = logging.getLogger(__name__)

QUOTA_MAX = 2**31 - 1
"""KiB: the wire has a signed word for it."""
MESSAGE_MAX = 255
"""Bytes of a volume's message. Source: VMSGSIZE in voldefs.h."""


class VolumeVerbs:
    """Answers for one mount."""

    def __init__(self, paths: Paths, client: FileServerClient) -> None:
        self._paths = paths
        self._client = client
        self._spaces = paths.mounted.filesystem.spaces
        self.verbs: dict[str, Verb] = {
            "what": self._what,
            "volume": self._volume,
            "set-volume": self._set,
        }

    async def _what(self, request: Request, peer: Peer) -> dict[str, Any]:
        """What a path is, and the servers of its volume, the one to be asked first before."""
        found = await self._paths.find(request, peer)
        volume, fid = found.mount.volume, found.fid
        return {
            **_named(volume),
            "kind": found.vnode.status.kind.value,
            "fid": [fid.volume, fid.vnode, fid.unique],
            "servers": self._client.sites_of(volume),
        }

    async def _volume(self, request: Request, peer: Peer) -> dict[str, Any]:
        found = await self._paths.find(request, peer)
        reply = await self._client.volume_status(found.mount.volume, found.who)
        status = reply.status
        return {
            **_named(found.mount.volume),
            "volume": reply.name.decode("utf-8", "backslashreplace"),
            "quota": status.max_quota,
            "used": status.blocks_in_use,
            "partition": status.partition_blocks,
            "available": status.partition_blocks_available,
            "offline_message": reply.offline_message.decode("utf-8", "backslashreplace"),
            "message": reply.message_of_the_day.decode("utf-8", "backslashreplace"),
        }

    async def _set(self, request: Request, peer: Peer) -> dict[str, Any]:
        """The server lets administrators of the cell do it."""
        quota, message = request.get("quota"), request.get("offline_message")
        if quota is not None and not (isinstance(quota, int) and 0 <= quota <= QUOTA_MAX):
            raise ControlRefused(f"a quota is a number of KiB from 0 to {QUOTA_MAX}")
        if not isinstance(message, str | None):
            raise ControlRefused("a message is expected")
        text = raw(message or "")
        if len(text) > MESSAGE_MAX:
            raise ControlRefused(f"a message has {MESSAGE_MAX} bytes at most")
        found = await self._paths.find(request, peer)
        volume = found.mount.volume
        await self._client.changes.set_volume_status(volume, quota, text, found.who)
        self._spaces.forget(volume)
        log.info("volume %s of %s was set: quota %s KiB", volume.name, volume.cell, quota)
        return _named(volume)


def _named(volume: Volume) -> dict[str, Any]:
    return {"cell": volume.cell.name, "volume": volume.name, "number": volume.id}
