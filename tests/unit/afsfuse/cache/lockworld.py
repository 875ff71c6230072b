"""Machines that lock one file at one server, which answers as the cell in one process does."""

from __future__ import annotations

import errno
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cache.locks import END, LockKind, LockMode, LockRequest, Locks, Owner
from afsfuse.democell import locks as rules
from afsfuse.democell.refusal import Refused
from afsfuse.democell.vnode import FileLock
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.fileserver import LockType
from afsfuse.model import VolumeType
from tests.unit.afsfuse.vfs.worldfiles import FakeCell, FakeVolume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from afsfuse.cell.volumes import Volume

ALICE, BOB = Identity(uid=1), Identity(uid=2)
FID = Fid(7, 2, 3)
READ, WRITE = LockType.READ, LockType.WRITE


class LockServer:
    """One file's lock at a server. A call takes `rtt`; those in `failing` end with an error."""

    def __init__(self) -> None:
        self.lock = FileLock()
        self.rtt = 0.01
        self.calls: Counter[str] = Counter()
        self.failing: dict[str, AfsError] = {}
        self.forbidden: set[Identity] = set()
        self.version = 1
        self.machines: list[Machine] = []
        self.speakers: list[tuple[str, Identity]] = []
        self._sent = 0.0
        self.before: Callable[[str], None] | None = None
        """Called at the moment in which a call is executed."""

    @property
    def count(self) -> int:
        """What the server counts now."""
        return self.lock.count if trio.current_time() <= self.lock.until else 0

    async def call(self, name: str, who: Identity, action: Callable[[], object]) -> None:
        self.calls[name] += 1
        self.speakers.append((name, who))
        self._sent += 1e-9  # what is sent first comes first
        await trio.sleep(self.rtt / 2 + self._sent)
        if self.before is not None:
            self.before(name)
        failure = self.failing.get(name)
        try:
            if failure is None:
                if who in self.forbidden:
                    raise NotPermitted("no right to lock")
                action()
        except Refused as exc:
            failure = AfsError("refused", errno=exc.code)
        await trio.sleep(self.rtt / 2)
        if failure is not None:
            raise failure.again()

    def free(self, by: Machine | None = None) -> None:
        """Give one lock back, and tell whoever else has a promise."""
        if rules.release_lock(self.lock):
            for machine in self.machines:
                if machine is not by and machine.promised:
                    machine.promised = False
                    machine.locks.broken(FID)

    async def told(self) -> None:
        """A server answers that a lock was given back only when all were told."""
        await trio.sleep(self.rtt)


class Machine:
    """A client; it is what `Locks` takes for its `FileServerClient`, too."""

    def __init__(self, server: LockServer, mode: LockMode, type: VolumeType) -> None:
        self.server = server
        self.changes = self
        self.promised = False
        self.known_version = server.version
        self.volume = cast("Volume", FakeVolume(FakeCell("example.org"), 7, "vol", type, ()))
        self.locks = Locks(
            cast("Any", self),
            mode,
            look=self._look,
            watch=self._watch,
            store=self._store,
        )
        server.machines.append(self)

    async def _look(self, volume: Volume, fid: Fid, anew: bool) -> bool:
        await self.server.call("look", NOBODY, lambda: None)
        if self.known_version != self.server.version:
            self.known_version = self.server.version
            self.locks.changed(volume, fid)
        return True

    async def _watch(self, volume: Volume, fid: Fid, who: Identity) -> None:
        self.promised = True

    async def _store(self, volume: Volume, fid: Fid) -> None:
        """Nothing is written here."""

    # What a `FileServerClient` does

    async def set_lock(self, volume: Volume, fid: Fid, type: LockType, who: Identity) -> None:
        lock = self.server.lock
        await self.server.call("set", who, lambda: rules.set_lock(lock, type, trio.current_time()))

    async def extend_lock(self, volume: Volume, fid: Fid, who: Identity) -> None:
        lock = self.server.lock
        await self.server.call("extend", who, lambda: rules.extend_lock(lock, trio.current_time()))

    async def release_lock(self, volume: Volume, fid: Fid, who: Identity) -> None:
        await self.server.call("release", who, lambda: self.server.free(self))
        await self.server.told()

    async def lock_count(self, volume: Volume, fid: Fid, who: Identity) -> int:
        await self.server.call("count", who, lambda: None)
        return self.server.count

    # What a process does

    async def flock(
        self, file: int, type: LockType | None, *, wait: bool = False, who: Identity = ALICE
    ) -> None:
        """`file` stands for an open file, and for its handle."""
        owner = Owner(LockKind.FLOCK, file)
        if type is None:
            await self.locks.unlock(self.volume, FID, owner)
        else:
            request = LockRequest(owner, type, handle=file, who=who)
            await self.locks.lock(self.volume, FID, request, wait=wait)

    async def fcntl(
        self,
        process: int,
        type: LockType | None,
        start: int = 0,
        end: int = END,
        *,
        wait: bool = False,
        who: Identity = ALICE,
    ) -> None:
        """`process` stands for a process, and 100 + `process` is its handle."""
        owner = Owner(LockKind.POSIX, process)
        if type is None:
            await self.locks.unlock(self.volume, FID, owner, start, end)
        else:
            request = self.request(process, type, start, end, who)
            await self.locks.lock(self.volume, FID, request, wait=wait)

    @staticmethod
    def request(
        process: int, type: LockType, start: int = 0, end: int = END, who: Identity = NOBODY
    ) -> LockRequest:
        owner = Owner(LockKind.POSIX, process)
        return LockRequest(owner, type, start, end, process, 100 + process, who)


@asynccontextmanager
async def machine(
    server: LockServer,
    mode: LockMode = LockMode.OPENAFS,
    type: VolumeType = VolumeType.RW,
) -> AsyncIterator[Machine]:
    """A machine that runs."""
    made = Machine(server, mode, type)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.locks.run)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def server() -> LockServer:
    return LockServer()


@pytest.fixture
async def here(server: LockServer) -> AsyncIterator[Machine]:
    async with machine(server) as made:
        yield made


@pytest.fixture
async def there(server: LockServer) -> AsyncIterator[Machine]:
    async with machine(server) as made:
        yield made


async def refused(work: Awaitable[None], number: int = errno.EAGAIN) -> bool:
    """Whether it ends with an errno."""
    with pytest.raises(AfsError) as caught:
        await work
    return caught.value.errno == number


async def quiet() -> None:
    """Let what goes on in the background come to its end."""
    await trio.sleep(1)
