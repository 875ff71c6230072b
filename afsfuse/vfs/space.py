"""How much room a volume has: statfs, from the volume's quota."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from afsfuse.vfs.entry import VolumeSpace
from afsfuse.vfs.names import NAME_MAX

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.fileserver import VolumeStatus

_KIB = 1024  # servers count in these
_REMEMBERED = 256  # volumes


class Spaces:
    """The space of volumes, asked at most once in a while for each."""

    def __init__(self, client: FileServerClient, lifetime: float) -> None:
        """`lifetime`: seconds for which an answer counts."""
        self._client = client
        self._lifetime = lifetime
        self._known: OrderedDict[tuple[str, int], tuple[float, VolumeSpace]] = OrderedDict()

    async def space(self, volume: Volume, who: Identity) -> VolumeSpace:
        """Ask the volume's server, unless it was asked a short time ago, for whomever."""
        key = (volume.cell.name, volume.id)
        known = self._known.get(key)
        if known is not None and known[0] > trio.current_time():
            return known[1]
        reply = await self._client.volume_status(volume, who)
        space = space_of(reply.status)
        self._known[key] = (trio.current_time() + self._lifetime, space)
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return space

    def forget(self, volume: Volume) -> None:
        """The quota of a volume is another one."""
        self._known.pop((volume.cell.name, volume.id), None)


def space_of(status: VolumeStatus) -> VolumeSpace:
    """Quota and use, or the partition when there is no quota.

    Neither is ever more free than the partition has left: a quota is no promise of room.
    """
    if status.max_quota:
        blocks = status.max_quota
        free = min(blocks - status.blocks_in_use, status.partition_blocks_available)
    else:
        blocks = status.partition_blocks
        free = status.partition_blocks_available
    return VolumeSpace(
        block_size=_KIB,
        blocks=max(blocks, 0),
        blocks_free=min(max(free, 0), max(blocks, 0)),
        files=0,
        files_free=0,
        name_max=NAME_MAX,
    )
