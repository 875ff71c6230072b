"""Changes of directories: made at the server, then in what the cache holds of them.

One change is one call. Its reply has the status of the directory and of what was made, and the
cached copy of the directory is edited in place if its version rose by exactly one: so nothing is
fetched after a change, nor told to the kernel, which knows what it asked for. If the version rose
by more, somebody else made a change, too: the promise went with that, and the directory is asked
for anew.

When a server falls silent over a change, it is found out whether it was made as soon as anybody
answers (`afsfuse.cache.outcomes`). Where nobody does, or who asked gave up, the promise is taken
for void, as no callback tells us of what we did ourselves. The server may even make it later, so
the directory is doubted a few times more.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.directories import Directory
from afsfuse.cache.keylocks import KeyLocks
from afsfuse.cache.outcomes import SURPRISES, Before, Outcomes
from afsfuse.cache.vnodes import Vnode
from afsfuse.errors import AfsError, DataCorrupt, OutcomeUnknown
from afsfuse.fileserver.changes import StatusChange
from afsfuse.fileserver.replies import ChangeReply, LinkReply, RenameReply, StatusReply
from afsfuse.model import FileKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.keylocks import Holding
    from afsfuse.cache.listings import Listings
    from afsfuse.cache.statuses import StatusKeeper
    from afsfuse.cache.vnodes import VnodeTable
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.replies import CreateReply
    from afsfuse.interfaces.common import Fid
    from afsfuse.model import Status

_LINK_MODE = 0o777  # as everywhere on Linux: programs that compare trees compare it, too
_MOUNTPOINT_MODE = 0o644
_DOT_DOT = b".."
# Seconds after which a directory is asked for anew, when a server may still be about to change it.
_DOUBTS = (1.0, 5.0, 15.0, 60.0)

_Key = tuple[str, int, int, int]


class DirectoryChanger:
    """Makes changes in directories. All raise `AfsError`; see `afsfuse.fileserver.changes`.

    Whoever asks is judged by the server alone. What is returned is in the table, with the promise
    that the server gave for it.
    """

    def __init__(
        self,
        client: FileServerClient,
        table: VnodeTable,
        statuses: StatusKeeper,
        listings: Listings,
        log: BreakLog,
        distrust: Callable[[Vnode], object],
        read: Callable[[Volume, Fid, Identity], Awaitable[Directory]],
        patience: float = 0.0,
    ) -> None:
        """`distrust` ends the promise of a vnode and has the rest found out. `read` and `patience`
        are those of `Outcomes`.
        """
        self._client = client
        self._table = table
        self._statuses = statuses
        self._listings = listings
        self._log = log
        self._distrust = distrust
        self._locks: KeyLocks[_Key] = KeyLocks()
        self._doubts: list[tuple[float, _Key, Volume, Fid]] = []  # a heap, by time
        self._doubtful = trio.Event()
        self.outcomes = Outcomes(
            read,
            lambda volume, fid: self._distrust_all(volume, (fid,)),
            statuses,
            patience,
        )
        self.edits = 0  # directories edited in place
        self.reloads = 0  # ... and not, since the copy was of another version

    async def run(self) -> None:
        """Doubt directories when it is time to, until cancelled."""
        while True:
            if not self._doubts:
                self._doubtful = trio.Event()
                await self._doubtful.wait()
            await trio.sleep_until(self._doubts[0][0])
            _, _, volume, fid = heapq.heappop(self._doubts)
            self._distrust_all(volume, (fid,))

    # What makes something

    async def create_file(
        self, volume: Volume, directory: Fid, name: bytes, mode: int, who: Identity
    ) -> Vnode:
        """A new empty file."""
        change = StatusChange(mode=mode)
        changes = self._client.changes

        def like_it(made: Vnode) -> bool:
            status = made.status
            return status.kind is FileKind.FILE and status.mode == mode and not status.length

        async with self._changing(volume, directory) as ticket:
            before = self._before(volume, directory, ticket)
            reply = await self.outcomes.sure(
                lambda: changes.create_file(volume, directory, name, change, who),
                lambda: self.outcomes.made(before, name, like_it, who),
            )
            if isinstance(reply, Vnode):
                return reply
            return self._made(volume, directory, name, reply, ticket, who)

    async def make_dir(
        self, volume: Volume, directory: Fid, name: bytes, mode: int, who: Identity
    ) -> Vnode:
        """A new directory, whose contents are known, too: `.` and `..`."""
        change = StatusChange(mode=mode)
        changes = self._client.changes

        def like_it(made: Vnode) -> bool:
            return made.status.kind is FileKind.DIRECTORY and made.status.links == 2

        async with self._changing(volume, directory) as ticket:
            before = self._before(volume, directory, ticket)
            reply = await self.outcomes.sure(
                lambda: changes.make_dir(volume, directory, name, change, who),
                lambda: self.outcomes.made(before, name, like_it, who),
            )
            if isinstance(reply, Vnode):
                return reply
            made = self._made(volume, directory, name, reply, ticket, who)
        if made.status is reply.status:
            me, above = made.fid, directory
            empty = Directory.empty(
                (me.vnode, me.unique), (above.vnode, above.unique), reply.status.data_version
            )
            self._listings.adopt(made, empty)
        return made

    async def symlink(
        self,
        volume: Volume,
        directory: Fid,
        name: bytes,
        body: bytes,
        who: Identity,
        *,
        mountpoint: bool = False,
    ) -> Vnode:
        """A new symbolic link or mount point. Servers give no promise for one."""
        change = StatusChange(mode=_MOUNTPOINT_MODE if mountpoint else _LINK_MODE)
        changes = self._client.changes
        kind = FileKind.MOUNTPOINT if mountpoint else FileKind.SYMLINK

        def like_it(made: Vnode) -> bool:
            return made.status.kind is kind and made.status.length == len(body)

        async with self._changing(volume, directory) as ticket:
            before = self._before(volume, directory, ticket)
            reply = await self.outcomes.sure(
                lambda: changes.symlink(volume, directory, name, body, change, who),
                lambda: self.outcomes.made(before, name, like_it, who),
            )
            if isinstance(reply, Vnode):
                return reply
            made = self._made(volume, directory, name, reply, ticket, who)
        made.link = (made.data_version, body)
        return made

    async def link(
        self, volume: Volume, directory: Fid, name: bytes, existing: Fid, who: Identity
    ) -> Vnode:
        """A further name for a file of the same directory."""
        changes = self._client.changes
        async with self._changing(volume, directory) as ticket:
            before = self._before(volume, directory, ticket)
            reply = await self.outcomes.sure(
                lambda: changes.link(volume, directory, name, existing, who),
                lambda: self.outcomes.linked(before, name, existing, who),
            )
            if not isinstance(reply, LinkReply):
                return reply
            speaker = self._statuses.speaker(who, volume)
            file = self._statuses.changed(
                volume,
                existing,
                ChangeReply(reply.status, reply.sync, reply.server),
                ticket,
                speaker,
            )
            answer = ChangeReply(reply.directory, reply.sync, reply.server)
            vnode = self._changed(volume, directory, answer, ticket, who)
            self._edit(
                vnode, reply.directory, lambda d: d.add(name, existing.vnode, existing.unique)
            )
            return file

    # What takes something away

    async def remove_file(
        self,
        volume: Volume,
        directory: Fid,
        name: bytes,
        file: Fid,
        who: Identity,
        *,
        patient: bool = True,
    ) -> None:
        """Take the name of `file` (or symbolic link, or mount point) away.

        Without patience a silent server is not waited for, whatever the mount is told to do.
        """
        changes = self._client.changes
        async with self._changing(volume, directory) as ticket:
            last = await self._last_name(volume, file, who)
            before = self._before(volume, directory, ticket)
            reply = await self.outcomes.sure(
                lambda: changes.remove_file(volume, directory, name, who),
                lambda: self.outcomes.gone(before, name, file, who),
                patient=patient,
            )
            if isinstance(reply, ChangeReply):
                vnode = self._changed(volume, directory, reply, ticket, who)
                self._edit(vnode, reply.status, lambda d: d.remove(name))
            self._name_gone(volume, file, last=last)

    async def remove_dir(
        self, volume: Volume, directory: Fid, name: bytes, removed: Fid, who: Identity
    ) -> None:
        """Remove the empty directory `removed`."""
        changes = self._client.changes
        async with self._changing(volume, directory) as ticket:
            before = self._before(volume, directory, ticket)
            reply = await self.outcomes.sure(
                lambda: changes.remove_dir(volume, directory, name, who),
                lambda: self.outcomes.gone(before, name, removed, who),
            )
            if isinstance(reply, ChangeReply):
                vnode = self._changed(volume, directory, reply, ticket, who)
                self._edit(vnode, reply.status, lambda d: d.remove(name))
            self._name_gone(volume, removed, last=True)

    async def rename(
        self,
        volume: Volume,
        old: Fid,
        old_name: bytes,
        new: Fid,
        new_name: bytes,
        who: Identity,
        *,
        moved: Fid,
        replaced: Fid | None = None,
    ) -> None:
        """Move the name of `moved`; what had the new one is `replaced`, and goes."""

        def leave(directory: Directory) -> bool:
            return directory.remove(old_name)

        def come(directory: Directory) -> bool:
            if replaced is not None and not directory.remove(new_name):
                return False
            return directory.add(new_name, moved.vnode, moved.unique)

        changes = self._client.changes
        directories = (old,) if old == new else (old, new)
        async with self._changing(volume, *directories) as ticket:
            last = await self._last_name(volume, replaced, who)
            version = self._certain_version(volume, moved)
            there, here = (self._before(volume, fid, ticket) for fid in (new, old))
            reply = await self.outcomes.sure(
                lambda: changes.rename(volume, old, old_name, new, new_name, who),
                lambda: self.outcomes.moved((here, old_name), (there, new_name), moved, who),
            )
            if isinstance(reply, RenameReply):
                if old == new:
                    answer = ChangeReply(reply.new_directory, reply.sync, reply.server)
                    vnode = self._changed(volume, new, answer, ticket, who)
                    self._edit(vnode, reply.new_directory, lambda d: come(d) and leave(d))
                else:
                    for fid, status, edit in (
                        (new, reply.new_directory, come),
                        (old, reply.old_directory, leave),
                    ):
                        answer = ChangeReply(status, reply.sync, reply.server)
                        self._edit(self._changed(volume, fid, answer, ticket, who), status, edit)
            self._renamed(volume, moved, new, replaced, last=last)
            if old != new:
                self._reparented(
                    volume, moved, new, version if isinstance(reply, RenameReply) else None
                )

    # What they have in common

    def _changing(self, volume: Volume, *directories: Fid) -> _Changing:
        """Hold the directories' locks; gives the ticket of what is asked inside."""
        cell = volume.cell.name
        keys = sorted((cell, fid.volume, fid.vnode, fid.unique) for fid in directories)

        def distrust(certain: bool) -> None:
            self._distrust_all(volume, directories)
            if not certain:
                self._doubt(volume, directories)

        return _Changing(self._locks.holding(*keys), self._log, distrust)

    def _before(self, volume: Volume, directory: Fid, ticket: int) -> Before:
        """What there is to compare a directory with, should its server fall silent."""
        version = self._certain_version(volume, directory)
        return Before(self._log, volume, directory, version, ticket)

    def _doubt(self, volume: Volume, directories: tuple[Fid, ...]) -> None:
        now = trio.current_time()
        for fid in directories:
            key = (volume.cell.name, fid.volume, fid.vnode, fid.unique)
            for pause in _DOUBTS:
                heapq.heappush(self._doubts, (now + pause, key, volume, fid))
        self._doubtful.set()

    def _distrust_all(self, volume: Volume, directories: tuple[Fid, ...]) -> None:
        for fid in directories:
            self._log.note(fid)  # what is being asked now may be true of the time before
            vnode = self._table.find(volume, fid)
            if vnode is not None:
                self._distrust(vnode)

    def _made(
        self,
        volume: Volume,
        directory: Fid,
        name: bytes,
        reply: CreateReply,
        ticket: int,
        who: Identity,
    ) -> Vnode:
        """Enter what was made, and its name."""
        fid = reply.fid
        speaker = self._statuses.speaker(who, volume)
        answer = StatusReply(reply.status, reply.promise, reply.sync, reply.server)
        made = self._statuses.apply(volume, fid, answer, ticket, speaker)
        above = ChangeReply(reply.directory, reply.sync, reply.server)
        vnode = self._changed(volume, directory, above, ticket, who)
        self._edit(vnode, reply.directory, lambda d: d.add(name, fid.vnode, fid.unique))
        return made

    def _changed(
        self, volume: Volume, fid: Fid, reply: ChangeReply, ticket: int, who: Identity
    ) -> Vnode:
        """Enter a directory's status after a change of ours."""
        known = self._table.find(volume, fid)
        version = None if known is None else known.data_version
        speaker = self._statuses.speaker(who, volume)
        vnode = self._statuses.changed(volume, fid, reply, ticket, speaker)
        if version is not None and reply.status.data_version > version + 1:
            self._distrust(vnode)
        return vnode

    def _edit(self, vnode: Vnode, status: Status, edit: Callable[[Directory], bool]) -> None:
        """Have the cached copy be what the server has after the change, if it can be."""
        copy = vnode.directory
        before = status.data_version - 1
        if copy is None:
            if vnode.evicted_version == before:
                vnode.evicted_version += 1  # the kernel knows of this change
            return
        if copy.data_version != before:
            self.reloads += 1
            return
        if edit(copy):
            copy.data_version += 1
            self.edits += 1
        else:  # not what the server has, whatever its version says: compared when it is next asked
            copy.data_version = -1
        self._listings.edited(vnode)

    async def _last_name(self, volume: Volume, fid: Fid | None, who: Identity) -> bool:
        """Whether a vnode goes with the next of its names. Ask before the change is made: a server
        tells of one link less while we wait, and then it looks like the last one.

        Its server is asked only if something of the file is not stored: that is given up with the
        last name, and with no other.
        """
        vnode = None if fid is None else self._table.find(volume, fid)
        if fid is None or vnode is None or vnode.status.kind is not FileKind.FILE:
            return True
        if vnode.dirty is not None and not vnode.valid(trio.current_time()):
            try:
                vnode, _ = await self._statuses.fetch(volume, fid, who)
            except AfsError:
                return False
        return vnode.status.links == 1 and vnode.valid(trio.current_time())

    def _name_gone(self, volume: Volume, fid: Fid, *, last: bool) -> None:
        """A vnode has one name less."""
        vnode = self._table.find(volume, fid)
        if vnode is None:
            return
        if last:
            self._table.remove(vnode)
        else:  # its server breaks the promise, too: the links have changed
            self._distrust_all(volume, (fid,))

    def _renamed(
        self, volume: Volume, moved: Fid, home: Fid, replaced: Fid | None, *, last: bool
    ) -> None:
        """Enter what a renaming means for what was moved and what is gone."""
        if replaced is not None:
            self._name_gone(volume, replaced, last=last)
        vnode = self._table.find(volume, moved)
        if vnode is not None and vnode.status.kind is not FileKind.DIRECTORY:
            vnode.status = vnode.status._replace(parent_vnode=home.vnode, parent_unique=home.unique)
            vnode.door = None

    def _certain_version(self, volume: Volume, fid: Fid) -> int | None:
        """The version of the copy of a directory, if that is known to be the present one."""
        vnode = self._table.find(volume, fid)
        if vnode is None or vnode.directory is None or not vnode.valid(trio.current_time()):
            return None
        version = vnode.directory.data_version
        return version if version == vnode.data_version else None

    def _reparented(self, volume: Volume, moved: Fid, home: Fid, version: int | None) -> None:
        """A directory stands in another one. Its ".." was rewritten, which is a new version, and
        the server breaks our promise, too.
        """
        vnode = self._table.find(volume, moved)
        if vnode is None or vnode.status.kind is not FileKind.DIRECTORY:
            return
        copy = vnode.directory
        if copy is not None and copy.data_version == version:
            rewritten = copy.remove(_DOT_DOT) and copy.add(_DOT_DOT, home.vnode, home.unique)
            copy.data_version = version + 1 if rewritten else -1
            self._listings.edited(vnode)
        self._distrust(vnode)


class _Changing:
    """One change: its locks, its ticket, and what an error in it means."""

    __slots__ = ("_distrust", "_holding", "_log")

    def __init__(
        self, holding: Holding[_Key], log: BreakLog, distrust: Callable[[bool], object]
    ) -> None:
        """`distrust` ends the promises of the directories that it is about; it is told whether the
        change was certainly not made.
        """
        self._holding = holding
        self._log = log
        self._distrust = distrust

    async def __aenter__(self) -> int:
        await self._holding.__aenter__()
        return self._log.begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is no error of ours is a cancellation, most likely: nobody knows whether it was done.
        # Nor is it after an answer that makes no sense.
        certain = isinstance(error, AfsError) and not isinstance(
            error, OutcomeUnknown | DataCorrupt
        )
        if error is not None and (not certain or _surprises(error)):
            self._distrust(certain)
        self._log.end()
        await self._holding.__aexit__(kind, error, trace)


def _surprises(error: BaseException) -> bool:
    """Whether a server knew better of a name or a directory than we did."""
    return isinstance(error, AfsError) and error.errno in SURPRISES
