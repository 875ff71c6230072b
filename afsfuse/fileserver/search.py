"""The search of one operation for a volume that is not where its record says.

A volume that is being moved is nowhere for moments: its old server says VMOVED or VNOVOL before the
record names the new one, and on a busy machine that takes seconds. So the record is asked for again
with growing pauses. What tells that it is worth while to go on: a server says VMOVED, the record is
locked by an operation of the administrators, or it names other servers than before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from afsfuse.errors import AfsError, ViceCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume, VolumeLocator
    from afsfuse.fileserver.limits import RetryLimits

FIRST_PAUSE = 0.05  # seconds; each pause is twice as long as the one before


class Search:
    """Asks where a volume is, again and again, as long as there is hope."""

    __slots__ = ("_began", "_limits", "_locator", "_moving", "_news", "_pause", "_volume", "_who")

    def __init__(
        self, locator: VolumeLocator, volume: Volume, who: Identity, limits: RetryLimits
    ) -> None:
        """The record is asked for in the name of `who`."""
        self._locator = locator
        self._volume = volume
        self._who = who
        self._limits = limits
        self._began: float | None = None  # when the first server said that it is not there
        self._news = 0.0  # when the record last named other servers
        self._pause = 0.0
        self._moving = False

    def goes_on(self, error: AfsError | None) -> bool:
        """Whether to ask once more, after all servers of the record have said that they have it
        not; `error` is what was said.
        """
        now = trio.current_time()
        limits = self._limits
        if self._began is None:
            self._began = self._news = now
            self._moving = self._volume.info.locked
        if error is not None and error.code == ViceCode.VMOVED:
            self._moving = True
        waited = now - self._began
        if self._moving and waited < limits.busy_time and now - self._news < limits.moving_time:
            return True
        return not self._pause or waited < limits.offline_time

    async def ask(self, servers: Iterable[FileServer], asked: float) -> None:
        """Bring the record up to date, since these servers do not have it, asked at `asked`.

        Raises `AfsError`, `VolumeMissing` among them, when there is no such record any more.
        """
        if self._pause:
            await trio.sleep(self._pause)
        self._pause = min(2 * self._pause, self._limits.pause) or FIRST_PAUSE
        await self._locator.refresh(self._volume, self._who, since=asked)
        self._moving |= self._volume.info.locked
        if {site.server for site in self._volume.sites} != set(servers):
            self._moving = True
            self._news = trio.current_time()
            self._pause = FIRST_PAUSE
