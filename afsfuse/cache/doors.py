"""Who may see what of that which the cache holds for all.

Statuses, directories and data are kept once, whoever brought them. Rights are a matter of
directories: the access list of a directory counts for it and for the files in it. A directory's
status tells two kinds of rights. Those of anybody are the same whoever asks, and with them go the
times until which everybody may be let in without a word (`Vnode.look_until`, `read_until`). Those
of the asker are kept in `Vnode.permits`, by identity, until the directory's promise ends: a change
of its list breaks the promise. A file's own promise is not broken by that, so rights told with the
status of a file are not kept.

An identity is asked for by the name under which its calls reach the servers: whoever has no token
for a cell is nobody there, and shares what nobody may.
Source: fs/afs/security.c of Linux, afs_AccessOK of OpenAFS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from afsfuse.errors import AfsError, DataCorrupt, NotPermitted
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind, Rights

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cache.vnodes import Vnode, VnodeTable
    from afsfuse.cell.volumes import Volume

# As plain numbers: the operators of an IntFlag cost ten times as much.
LOOK = int(Rights.LOOKUP)
"""What names take, and the statuses of directories and symbolic links."""
READ = int(Rights.LOOKUP | Rights.READ)
"""What data takes, and the statuses of files: servers tell them to nobody else."""

_ADMINISTER = int(Rights.ADMINISTER)


def needed_to_see(kind: FileKind) -> int:
    """The rights, in the directory in which it stands, that the status of a vnode takes."""
    return READ if kind is FileKind.FILE else LOOK


NOT_ALLOWED = "the access list does not allow it"


class Doors:
    """Judges identities by what servers said of their rights; asks where they said nothing yet."""

    def __init__(self, statuses: StatusKeeper, table: VnodeTable) -> None:
        self._statuses = statuses
        self._table = table

    def door(self, vnode: Vnode) -> Vnode | None:
        """The directory whose access list counts for a vnode, if it is known."""
        if vnode.status.kind is FileKind.DIRECTORY:
            return vnode
        door = vnode.door
        if door is None or not door.expires:  # that one may have left the table
            door = vnode.door = self._table.find(vnode.volume, _home(vnode))
        return door

    def open_until(self, vnode: Vnode, needed: int) -> float:
        """Until when everybody has these rights to a vnode, `LOOK` or `READ`, as far as is known;
        trio's time.
        """
        door = self.door(vnode)
        if door is None:
            return 0.0
        return door.look_until if needed == LOOK else door.read_until

    def lets_in(self, vnode: Vnode, needed: int, who: Identity) -> bool:
        """Whether an identity is known to have these rights now. Free of await."""
        now = trio.current_time()
        door = self.door(vnode)
        if door is None:
            return False
        if (door.look_until if needed == LOOK else door.read_until) > now:
            return True
        known = self._known(door, who, now)
        return known is not None and known & needed == needed

    def let_in_lately(self, vnode: Vnode, needed: int, who: Identity) -> bool:
        """Whether an identity had these rights when they were last told, and nobody has taken the
        promise back since: it may have run out. For what is told of names that one has seen
        before, while no server answers; never for data. Free of await.
        """
        door = self.door(vnode)
        if door is None or not door.expires:
            return False
        if door.look_until if needed == LOOK else door.read_until:
            return True
        mine = (door.permits or {}).get(self._statuses.speaker(who, door.volume))
        return mine is not None and (mine | int(door.status.anonymous_access)) & needed == needed

    def known_rights(self, vnode: Vnode, who: Identity) -> int | None:
        """All rights of an identity to a vnode, if servers have told them; else None."""
        return self._known(self.door(vnode), who, trio.current_time())

    async def rights(self, vnode: Vnode, who: Identity) -> int:
        """All rights of an identity to a vnode; raise `AfsError` when nobody can say."""
        door = self.door(vnode)
        known = self._known(door, who, trio.current_time())
        if known is not None:
            return known
        fid = _home(vnode) if door is None else door.fid
        door, mine = await self._statuses.fetch(vnode.volume, fid, who)
        if vnode.status.kind is not FileKind.DIRECTORY:
            vnode.door = door
        return mine | int(door.status.anonymous_access)

    async def allows(self, vnode: Vnode, needed: int, who: Identity) -> bool:
        """Whether an identity has these rights; asks the server if need be."""
        if self.open_until(vnode, needed) > trio.current_time():
            return True
        return await self.rights(vnode, who) & needed == needed

    async def require(self, vnode: Vnode, needed: int, who: Identity) -> None:
        """`NotPermitted` unless an identity has these rights."""
        if not await self.allows(vnode, needed, who):
            raise self.refusal(vnode.volume, who)

    def refusal(self, volume: Volume, who: Identity) -> AfsError:
        """What is said to whom the access list does not let in: a kind of `NotPermitted`."""
        error = NotPermitted(NOT_ALLOWED, cell=volume.cell.name, volume=volume.name)
        return self._statuses.as_told_to(error, who, volume)

    async def owns(self, vnode: Vnode, who: Identity) -> bool:
        """Whether a file belongs to an identity; asks the server, in its name, each time.

        The right to administer in the status of a file does not come from any list: it stands for
        being the owner. Source: GetVolumePackage in afsfileprocs.c.
        """
        _, mine = await self._statuses.fetch(vnode.volume, vnode.fid, who)
        return bool(mine & _ADMINISTER)

    def _known(self, door: Vnode | None, who: Identity, now: float) -> int | None:
        if door is None or not door.permits or not door.valid(now):
            return None
        mine = door.permits.get(self._statuses.speaker(who, door.volume))
        return None if mine is None else mine | int(door.status.anonymous_access)


def _home(vnode: Vnode) -> Fid:
    """The directory in which a file stands; hard links do not leave it."""
    status = vnode.status
    if not status.parent_vnode & 1:
        raise DataCorrupt(f"a server says that {vnode.fid} stands in no directory")
    return Fid(vnode.fid.volume, status.parent_vnode, status.parent_unique)
