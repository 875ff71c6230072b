"""Files that lost their last name while somebody has them open.

An AFS server removes a file with its last name. So a file that is open here gets another name in
its directory, `.__afs` and some digits, as all AFS clients give it, and that goes when the last
user has closed the file, in the name of whoever removed it. Others see it in listings until then,
as they do with other clients.

Unlinking renames the file to such a name: one call. What a renaming replaces gets it as a second
name before, so that the name that is replaced stands for one of the two files at any moment.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cache.leftovers import PREFIX, Leftover
from afsfuse.cell.records import Preference
from afsfuse.errors import AfsError, CellUnknown, OutcomeUnknown, VolumeMissing
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind
from afsfuse.vfs.inodes import holders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.cache import CacheManager, Vnode
    from afsfuse.cache.leftovers import Leftovers
    from afsfuse.cell.volumes import Volume, VolumeLocator
    from afsfuse.vfs.background import Background
    from afsfuse.vfs.invalidation import OwnChanges

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0  # seconds between attempts to remove a name; each pause is twice as long
_LONGEST_PAUSE = 300.0
_GONE = frozenset({errno.ENOENT, errno.ESTALE, errno.ENOTDIR})


@dataclass(slots=True)
class _Orphan:
    """A name of ours, and what it is for."""

    volume: Volume
    directory: Fid
    name: bytes
    file: Fid
    who: Identity
    leftover: Leftover


class Kept(NamedTuple):
    """What was done to keep a file that is being replaced."""

    name: bytes
    """Its further name."""
    orphan: _Orphan
    linked: bool
    """Whether it has its own name still."""


class Orphans:
    """Keeps removed files for those who have them open, and removes them afterwards."""

    def __init__(
        self,
        cache: CacheManager,
        locator: VolumeLocator,
        own: OwnChanges,
        background: Background,
        leftovers: Leftovers,
    ) -> None:
        self._cache = cache
        self._locator = locator
        self._own = own
        self._background = background
        self._leftovers = leftovers
        self._kept: dict[Vnode, _Orphan] = {}
        self._removing = 0
        self._ending = False
        self._idle = trio.Event()
        self._news = trio.Event()  # somebody has another token

    def __len__(self) -> int:
        """Files that wait for the end of their last user, and names that wait for their end."""
        return len(self._kept) + self._removing

    # Losing the last name

    async def must_stay(self, vnode: Vnode, who: Identity) -> bool:
        """Whether a file would be missed by somebody here if its name went."""
        if vnode.status.kind is not FileKind.FILE or vnode.unlinked or not _is_open(vnode):
            return False
        if vnode.status.links > 1 and not vnode.valid(trio.current_time()):
            # It had another name. Each change of its names breaks the promise, so ask for that.
            vnode = await self._cache.status(vnode.volume, vnode.fid, who)
        return vnode.status.links == 1 and _is_open(vnode)

    async def put_aside(
        self, volume: Volume, directory: Fid, name: bytes, vnode: Vnode, who: Identity
    ) -> bytes:
        """Rename a file that is to be removed; returns its new name."""
        orphan = self._new(volume, directory, vnode, who)
        try:
            await self._cache.changer.rename(
                volume, directory, name, directory, orphan.name, who, moved=vnode.fid
            )
        except BaseException as exc:
            self._failed(vnode, orphan, exc)
            raise
        self._keep(vnode, orphan)
        return orphan.name

    async def keep(
        self, volume: Volume, directory: Fid, name: bytes, vnode: Vnode, who: Identity
    ) -> Kept:
        """Give a file that is to be replaced another name. To be followed by `replaced` or
        `not_replaced`.
        """
        orphan = self._new(volume, directory, vnode, who)
        try:
            await self._cache.changer.link(volume, directory, orphan.name, vnode.fid, who)
        except BaseException as exc:
            if isinstance(exc, AfsError) and not isinstance(exc, OutcomeUnknown):
                log.debug("%s: no second name, so it is renamed: %s", vnode, exc)
                return await self._rename(orphan, name, vnode)
            self._failed(vnode, orphan, exc)
            raise
        self._keep(vnode, orphan)
        return Kept(orphan.name, orphan, linked=True)

    async def _rename(self, orphan: _Orphan, name: bytes, vnode: Vnode) -> Kept:
        """Have the file by its other name only, which is on no list as long as it may have to get
        its own one back.
        """
        self._leftovers.strike(orphan.leftover)
        volume, directory = orphan.volume, orphan.directory
        await self._cache.changer.rename(
            volume, directory, name, directory, orphan.name, orphan.who, moved=vnode.fid
        )
        return Kept(orphan.name, orphan, linked=False)

    def replaced(self, vnode: Vnode, kept: Kept) -> None:
        """The name for which `keep` was called stands for something else now."""
        if not kept.linked:
            self._leftovers.note(kept.orphan.leftover)
            self._background.start(self._leftovers.sync)
            self._keep(vnode, kept.orphan)

    async def not_replaced(
        self, vnode: Vnode, kept: Kept, name: bytes, error: BaseException
    ) -> None:
        """Renaming failed, so the file for which `keep` was called keeps its name, or gets it back.

        Where nobody knows whether it was replaced it keeps both until it is closed, for ours may be
        its only one.
        """
        certain = isinstance(error, AfsError) and not isinstance(error, OutcomeUnknown)
        orphan = kept.orphan
        if kept.linked:
            if self._kept.get(vnode) is not orphan:
                return  # it was closed meanwhile
            vnode.unlinked = 0
            if certain:
                self._begin(self._kept.pop(vnode))
            else:
                self.closed(vnode)
            return
        back = False
        try:
            back = certain and await self._give_back(orphan, name)
        finally:
            if not back:
                self._own.name_changed(
                    self._cache.peek(orphan.volume, orphan.directory), name, None
                )
                log.warning(
                    "%s in the volume %d may be the only name of what was %s, and stays",
                    orphan.leftover.name, orphan.leftover.volume, os.fsdecode(name),
                )  # fmt: skip

    async def _give_back(self, orphan: _Orphan, name: bytes) -> bool:
        """Rename a file to what it was called before, unless something else is called so now."""
        volume, directory, who = orphan.volume, orphan.directory, orphan.who
        try:
            if name in await self._cache.directory(volume, directory, who):
                return False
            await self._cache.changer.rename(
                volume, directory, orphan.name, directory, name, who, moved=orphan.file
            )
        except AfsError as exc:
            log.debug("%s does not get its name back: %s", orphan.leftover.name, exc)
            return False
        self._own.name_changed(self._cache.peek(volume, directory), orphan.name, None)
        return True

    def _new(self, volume: Volume, directory: Fid, vnode: Vnode, who: Identity) -> _Orphan:
        home = self._cache.peek(volume, directory)
        names = home.directory if home is not None else None
        name = _fresh_name()
        while names is not None and name in names:
            name = _fresh_name()
        file = vnode.fid
        leftover = Leftover(
            volume.cell.name,
            volume.id,
            (directory.vnode, directory.unique),
            name.decode(),
            (file.vnode, file.unique),
            who.text,
        )
        self._leftovers.note(leftover)
        self._background.start(self._leftovers.sync)
        return _Orphan(volume, directory, name, file, who, leftover)

    def _keep(self, vnode: Vnode, orphan: _Orphan) -> None:
        vnode.unlinked = 1
        self._await_end(vnode, orphan)

    def _failed(self, vnode: Vnode, orphan: _Orphan, error: BaseException) -> None:
        """The name was not made, or nobody knows whether it was: then it is looked for later."""
        if isinstance(error, AfsError) and not isinstance(error, OutcomeUnknown):
            self._leftovers.strike(orphan.leftover)
        else:
            self._await_end(vnode, orphan)

    def _await_end(self, vnode: Vnode, orphan: _Orphan) -> None:
        """The name goes when the file is closed, which may have been meanwhile."""
        before = self._kept.get(vnode)
        if before is not None:  # nobody knew whether the file had got that one; now it has this
            self._begin(before)
        self._kept[vnode] = orphan
        self.closed(vnode)

    # The end

    def closed(self, vnode: Vnode) -> None:
        """Somebody has closed a file. Never waits or fails."""
        if vnode in self._kept and not _is_open(vnode):
            if vnode.unlinked:
                self._cache.writes.removed(vnode)  # nobody can read any more what is not stored
            vnode.unlinked = 0
            self._begin(self._kept.pop(vnode))

    def removed(self, vnode: Vnode, name: bytes) -> None:
        """Somebody has removed a name himself, be it one of ours."""
        orphan = self._kept.get(vnode)
        if orphan is not None and orphan.name == name:
            del self._kept[vnode]
            vnode.unlinked = 0
            self._leftovers.strike(orphan.leftover)

    def token_changed(self) -> None:
        """Somebody has another token, with which he may be let in."""
        self._news.set()
        self._news = trio.Event()

    async def finish(self) -> None:
        """The mount is gone: return when all names are gone, or stay on the list for later."""
        self._ending = True
        for vnode in list(self._kept):
            self._begin(self._kept.pop(vnode))
        self.token_changed()
        while self._removing:
            await self._idle.wait()
        self._leftovers.close()

    def inherit(self) -> None:
        """Remove what daemons before this one have left, as soon as that is possible."""
        for leftover in self._leftovers.inherit():
            self._start(leftover)

    def _begin(self, orphan: _Orphan) -> None:
        self._removing += 1
        self._background.start(self._work, orphan)

    def _start(self, leftover: Leftover) -> None:
        self._removing += 1
        self._background.start(self._work_off, leftover)

    async def _work(self, orphan: _Orphan) -> None:
        try:
            await self._persist(orphan.leftover, lambda: self._remove(orphan))
        finally:
            self._done()

    async def _work_off(self, leftover: Leftover) -> None:
        try:
            await self._persist(leftover, lambda: self._remove_left(leftover))
        finally:
            self._done()

    def _done(self) -> None:
        self._removing -= 1
        if not self._removing:
            self._idle.set()
            self._idle = trio.Event()

    async def _persist(self, leftover: Leftover, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until the name is gone."""
        pause = _FIRST_PAUSE
        told = False
        while True:
            try:
                await attempt()
                break
            except AfsError as exc:
                if _is_gone(exc):
                    break
                level = logging.DEBUG if told else logging.INFO
                log.log(level, "%s in the volume %d cannot be removed yet: %s",
                        leftover.name, leftover.volume, exc)  # fmt: skip
                told = True
                if self._ending:
                    return
            with trio.move_on_after(pause):
                await self._news.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._leftovers.strike(leftover)

    async def _remove(self, orphan: _Orphan) -> None:
        volume, directory = orphan.volume, orphan.directory
        await self._cache.changer.remove_file(
            volume, directory, orphan.name, orphan.file, orphan.who, patient=False
        )
        self._own.name_changed(self._cache.peek(volume, directory), orphan.name, None)

    async def _remove_left(self, leftover: Leftover) -> None:
        """Remove a name of which only the list knows, if it still is what the list says."""
        who = Identity.parse(leftover.who) or NOBODY
        number = str(leftover.volume)
        volume = await self._locator.volume(leftover.cell, number, Preference.FORCE_RW, who)
        directory = Fid(volume.id, *leftover.directory)
        name = leftover.name.encode()
        known = await self._cache.directory(volume, directory, who)
        if not name.startswith(PREFIX) or known.find(name) != leftover.file:
            return
        file = Fid(volume.id, *leftover.file)
        await self._remove(_Orphan(volume, directory, name, file, who, leftover))
        log.info("%s in the volume %s: left by an earlier daemon, removed", name, volume.name)


def _fresh_name() -> bytes:
    """Servers have no call that makes a free name; with 32 random bits two meet hardly ever."""
    return PREFIX + secrets.token_hex(4).upper().encode()


def _is_gone(error: AfsError) -> bool:
    """Whether a name is not there any more, or nothing is that it could be in."""
    if isinstance(error, CellUnknown):  # today: the network may just not be up
        return False
    return isinstance(error, VolumeMissing) or error.errno in _GONE


def _is_open(vnode: Vnode) -> bool:
    return any(node.handles for node in holders(vnode))
