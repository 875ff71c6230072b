"""A file server in memory, seen through the client's interface, on a line of chosen length."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cache import CacheManager, Vnode
from afsfuse.cell.directory import Cell
from afsfuse.cell.servers import FileServer
from afsfuse.cell.volumes import Volume
from afsfuse.errors import AfsError, NotPermitted, StaleInode, TokenExpired
from afsfuse.fileserver.replies import DataReply, Promise, StatusReply
from afsfuse.interfaces.fileserver import Fid, VolSync
from afsfuse.model import FileKind, Rights, Status, VolumeInfo, VolumeType
from tests.unit.afsfuse.cache.blobs import directory_blob

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from afsfuse.auth.identity import Identity
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.transfers import Outcome, SmallFile

ADDRESS = ("192.0.2.1", 7000)
VOLUME_ID = 536870915
WINDOW = 32 * 1412
PROMISED = 3600.0
_ALL = Rights.READ | Rights.LOOKUP


def make_volume(number: int = VOLUME_ID, type: VolumeType = VolumeType.RW) -> Volume:
    """A volume of the test cell."""
    volume = Volume(Cell("test.afs", ()), number, type)
    volume.info = VolumeInfo("test", (number, 0, 0), ())
    return volume


def fid(vnode: int, unique: int = 1, volume: int = VOLUME_ID) -> Fid:
    """A fid of the test volume."""
    return Fid(volume, vnode, unique)


HOME = fid(999)
"""The directory in which all files stand. Its status costs nothing, and no call is counted for it,
unless it was `put` there by a test.
"""


def make_status(kind: FileKind = FileKind.FILE, length: int = 0, version: int = 1) -> Status:
    """A plain status."""
    rights = Rights.READ | Rights.LOOKUP
    return Status(
        kind,
        length,
        version,
        0o644,
        1,
        2,
        1,
        1_700_000_000,
        HOME.vnode,
        HOME.unique,
        rights,
        rights,
    )


@dataclass
class StoredFile:
    """One file on the server. `size` without `data`: that many zero bytes."""

    data: bytes = b""
    kind: FileKind = FileKind.FILE
    version: int = 1
    mode: int = 0o644
    mtime: int = 1_700_000_000
    size: int | None = None

    @property
    def length(self) -> int:
        return len(self.data) if self.size is None else self.size

    def cut(self, position: int, size: int) -> bytes:
        if self.size is None:
            return self.data[position : position + size]
        return bytes(max(0, min(size, self.size - position)))


@dataclass
class Line:
    """How long things take, in seconds, and how many bytes a second fit through."""

    rtt: float = 0.0
    rate: float = float("inf")
    free_at: float = 0.0

    async def transfer(self, size: int) -> None:
        """A reply of `size` bytes: 32 packets of one call a round trip, and the line is shared."""
        while True:
            part = min(size, WINDOW)
            self.free_at = max(self.free_at, trio.current_time()) + part / self.rate
            await trio.sleep_until(max(trio.current_time() + self.rtt, self.free_at))
            size -= part
            if size <= 0:
                return


class SmallFiles:
    """`FileServerClient.fetch_small_files` of a client that has `fetch_data`."""

    volume_failure: AfsError | None = None
    fetch_data: Callable[..., Any]
    tokens: AbstractSet[Identity] = frozenset()
    """Who has a token; everybody else is nobody to the servers."""
    expired: AbstractSet[Identity] = frozenset()
    """Who had one."""

    def as_told_to(self, error: AfsError, who: Identity, volume: Any) -> AfsError:
        if isinstance(error, NotPermitted) and who in self.expired:
            return TokenExpired(TokenExpired.MESSAGE)
        return error

    def speaker(self, who: Identity, cell: str) -> Identity:
        return who if who in self.tokens else NOBODY

    async def fetch_small_files(
        self,
        volume: Any,
        files: Sequence[SmallFile],
        settle: Callable[[int, Outcome], None],
        who: Identity = NOBODY,
    ) -> None:
        async def fetch(place: int, file: SmallFile) -> None:
            try:
                settle(place, await self.fetch_data(volume, file.fid, 0, file.buffers, who))
            except AfsError as exc:
                settle(place, exc)

        if self.volume_failure is not None:
            raise self.volume_failure
        async with trio.open_nursery() as nursery:
            for place, file in enumerate(files):
                nursery.start_soon(fetch, place, file)


@dataclass
class FakeClient(SmallFiles):
    """Answers like `FileServerClient`; breaks reach `cache` after a delay of their own."""

    line: Line = field(default_factory=Line)
    files: dict[Fid, StoredFile] = field(default_factory=dict)
    creation_time: int = 1000
    promising: bool = True
    lost: float = 0.0  # the share of the server's packets that is lost
    delay: Callable[[], float] = lambda: 0.0  # beside the line's, each way
    server: FileServer = field(
        default_factory=lambda: FileServer("test.afs", UUID(int=1), 1, [ADDRESS])
    )
    cache: CacheManager | None = None
    nursery: trio.Nursery | None = None  # for breaks
    promised: set[Fid] = field(default_factory=set)
    failures: dict[Fid, AfsError] = field(default_factory=dict)
    during_transfer: Callable[[Fid], None] | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    callers: list[Identity] = field(default_factory=list)  # in whose name each call was
    rights: dict[Identity, Rights] = field(default_factory=dict)  # of each; NOBODY: of anybody
    tokens: set[Identity] = field(default_factory=set)
    releases: list[Volume] = field(default_factory=list)  # that were seen
    in_flight: int = 0
    most_in_flight: int = 0
    given_up: int = 0
    returned: list[list[Fid]] = field(default_factory=list)  # by each call that gives some back
    forgotten: list[Volume] = field(default_factory=list)

    def release_seen(self, volume: Volume) -> None:
        self.releases.append(volume)

    def loss(self, server: FileServer) -> float:
        return self.lost

    def as_client(self) -> FileServerClient:
        return cast("FileServerClient", self)

    # What tests do on the server

    def put(self, where: Fid, data: bytes, kind: FileKind = FileKind.FILE) -> Fid:
        """Store a file that nobody knows yet."""
        self.files[where] = StoredFile(data, kind)
        return where

    def put_directory(self, where: Fid, entries: Iterable[tuple[bytes, int, int]]) -> Fid:
        """Store a directory, or a new version of it."""
        blob = directory_blob(entries)
        if where in self.files:
            self.write(where, blob)
            return where
        return self.put(where, blob, FileKind.DIRECTORY)

    def write(self, where: Fid, data: bytes) -> None:
        """Another client writes: a new data version, and promises are broken."""
        stored = self.files[where]
        stored.data = data
        stored.size = None
        stored.version += 1
        self.break_promise(where)

    def chmod(self, where: Fid, mode: int) -> None:
        """Another client changes the mode: no new data version."""
        self.files[where].mode = mode
        self.break_promise(where)

    def remove(self, where: Fid) -> None:
        """Another client removes the file."""
        del self.files[where]
        self.break_promise(where)

    def break_promise(self, where: Fid) -> None:
        """Send a break if anything was promised."""
        if where in self.promised:
            self.promised.discard(where)
            if self.nursery is not None:
                self.nursery.start_soon(self._deliver_break, where)

    async def _deliver_break(self, where: Fid) -> None:
        await trio.sleep(self.line.rtt / 2 + self.delay())
        assert self.cache is not None
        self.cache.break_callback(ADDRESS, [where])

    # What the cache calls

    def set_rights(self, rights: dict[Identity, Rights], *, silent: bool = False) -> None:
        """Change the access list of all directories, which breaks the promises on them alone."""
        self.rights = rights
        if not silent:
            for where in {w for w in self.promised if w.vnode & 1}:
                self.break_promise(where)

    def _rights_of(self, who: Identity) -> tuple[Rights, Rights]:
        everybody = self.rights.get(NOBODY, _ALL if not self.rights else Rights.NONE)
        return self.rights.get(who, Rights.NONE) | everybody, everybody

    def _status(self, where: Fid, who: Identity = NOBODY, *, data: bool = False) -> Status:
        if where in self.failures:
            raise self.failures[where]
        stored = self.files.get(where)
        if stored is None and where == HOME:
            stored = StoredFile(kind=FileKind.DIRECTORY)
        if stored is None:
            raise StaleInode("the file does not exist any more")
        mine, everybody = self._rights_of(who)
        needed = Rights.READ if stored.kind is FileKind.FILE else Rights.LOOKUP
        if not mine & needed and (data or stored.kind is not FileKind.DIRECTORY):
            raise NotPermitted("the access list does not permit it")
        status = make_status(stored.kind, stored.length, stored.version)
        return status._replace(
            mode=stored.mode,
            mtime=stored.mtime,
            caller_access=mine,
            anonymous_access=everybody,
        )

    def _promise(self, where: Fid, before: float) -> Promise | None:
        if not self.promising:
            return None
        self.promised.add(where)
        return Promise(before + PROMISED, self.server)

    async def _travel(self) -> None:
        await trio.sleep(self.line.rtt / 2 + self.delay())

    async def fetch_status(self, volume: Volume, where: Fid, who: Identity = NOBODY) -> StatusReply:
        if where == HOME and HOME not in self.files:
            promise = self._promise(where, trio.current_time())
            sync = VolSync(self.creation_time)
            return StatusReply(self._status(where, who), promise, sync, self.server)
        self.calls.append(("status", where))
        self.callers.append(who)
        before = trio.current_time()
        await self._travel()
        status = self._status(where, who)
        reply = StatusReply(
            status, self._promise(where, before), VolSync(self.creation_time), self.server
        )
        await self._travel()
        return reply

    async def bulk_status(
        self, volume: Volume, fids: Sequence[Fid], who: Identity = NOBODY
    ) -> list[StatusReply | AfsError]:
        self.calls.append(("bulk", tuple(fids)))
        self.callers.append(who)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            before = trio.current_time()
            await self._travel()
            replies: list[StatusReply | AfsError] = []
            sync = VolSync(self.creation_time)
            for where in fids:
                try:
                    status = self._status(where, who)
                except AfsError as exc:
                    replies.append(exc)
                else:
                    promise = self._promise(where, before)
                    replies.append(StatusReply(status, promise, sync, self.server))
            await self._travel()
            return replies
        finally:
            self.in_flight -= 1

    async def fetch_data(
        self,
        volume: Volume,
        where: Fid,
        position: int,
        buffers: Sequence[memoryview],
        who: Identity = NOBODY,
        *,
        versioned: bool = False,
    ) -> DataReply:
        size = sum(map(len, buffers))
        self.calls.append(("data", where, position, size))
        self.callers.append(who)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            before = trio.current_time()
            await self._travel()
            status = self._status(where, who, data=True)
            sync = VolSync(self.creation_time)
            data = self.files[where].cut(position, size)
            if self.during_transfer is not None:
                self.during_transfer(where)
            promise = self._promise(where, before) if where in self.files else None
            if self.files[where].version != status.data_version:
                promise = None  # written between: the break was for the promise made then
            await self.line.transfer(len(data))
            await trio.sleep(self.delay())
            start = 0
            for buffer in buffers:
                part = data[start : start + len(buffer)]
                buffer[: len(part)] = part
                start += len(part)
            self.server.rtt = self.line.rtt or None
            return DataReply(len(data), status, promise, sync, self.server)
        finally:
            self.in_flight -= 1

    async def give_up_callbacks(self, server: FileServer, fids: Sequence[Fid]) -> None:
        """As the server does it: when half the way is gone."""
        self.returned.append(list(fids))
        await self._travel()
        self.promised.difference_update(fids)
        await self._travel()

    def forget(self, volume: Volume) -> None:
        self.forgotten.append(volume)

    async def give_up_all_callbacks(self, server: FileServer) -> None:
        await self._travel()
        self.given_up += 1

    def slept(self) -> None:
        self.calls.append(("slept",))

    def count(self, kind: str) -> int:
        """How many calls of a kind were made."""
        return sum(call[0] == kind for call in self.calls)


@dataclass
class Listener:
    """Notes what it is told. Interested in everything unless told otherwise."""

    all: bool = True
    broken: list[Vnode] = field(default_factory=list)
    data: list[Vnode] = field(default_factory=list)
    stored: list[tuple[Vnode, int]] = field(default_factory=list)
    names: list[tuple[Vnode, set[bytes] | None]] = field(default_factory=list)
    narrowed: list[Vnode] = field(default_factory=list)
    dropped: list[Vnode] = field(default_factory=list)
    holds: set[Fid] = field(default_factory=set)

    def interested(self, vnode: Vnode) -> bool:
        return self.all or vnode.fid in self.holds

    def promise_broken(self, vnode: Vnode) -> None:
        self.broken.append(vnode)

    def data_changed(self, vnode: Vnode) -> None:
        self.data.append(vnode)

    def version_stored(self, vnode: Vnode, before: int) -> None:
        self.stored.append((vnode, before))

    def names_changed(self, directory: Vnode, names: Iterable[bytes] | None) -> None:
        self.names.append((directory, None if names is None else set(names)))

    def rights_narrowed(self, directory: Vnode) -> None:
        self.narrowed.append(directory)

    def vnode_dropped(self, vnode: Vnode) -> None:
        self.dropped.append(vnode)


def random_delays(rng: random.Random, longest: float) -> Callable[[], float]:
    """Delays of which some are 0, so that things also happen in order."""
    return lambda: rng.choice((0.0, rng.uniform(0, longest)))


def make_cache(client: FakeClient, **options: Any) -> CacheManager:
    """A cache on a fake client, which from then on sends its breaks there."""
    cache = CacheManager(client.as_client(), **options)
    client.cache = cache
    return cache


GONE = AfsError("gone", errno=errno.ESTALE)
