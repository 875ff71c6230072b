"""Which file servers answer: who waits for them, which count as down, when they are back.

Every server that may be used is probed at all its addresses: every four minutes while it answers
and has volumes that are in use, every few seconds when it has just gone down, or while anybody
wants it, and every half minute else. The log tells when contact is lost and when it is found again,
and nothing else.

A location service may name as many servers as it likes. So no more are watched than are known at
all: those go that were not heard of for longest, and become new ones should they be used again.
And no more addresses are asked in the background than in all take little time, whoever owns them;
servers that have ever answered come first.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.cell.servers import SERVERS_MAX
from afsfuse.fileserver.preferences import Preferences, is_clearly_better
from afsfuse.refusals import Refused, note

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from types import TracebackType

    from afsfuse.cell.servers import FileServer
    from rxrpc import Address

log = logging.getLogger(__name__)

_LATELY = 120.0  # seconds
_LOOKS, _LOOKS_A_SECOND = 256, 32  # addresses asked by `run`, at first and from then on
_MAKE_ROOM = SERVERS_MAX // 16  # servers that go at a time, as it takes a look at all


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """When to give a server up, and when to ask it again. Times are seconds."""

    waiters: int = 256
    """Operations that may wait for one server that is silent; more fail at once."""

    silence: float = 3.0
    """A server of which waiting operations have not heard for so long is silent."""

    probe_interval: float = 5.0
    """Between two probes of a server that was heard of less than two minutes ago, or that is
    wanted: however many want it, it is asked no more often.
    """

    patient_interval: float = 30.0
    """... and of one that has been down for longer, and that nobody wants. Source: fs_probe.c."""

    answering_interval: float = 240.0
    """... and of one that answers. After a NAT on the way has given us another port, this is what
    has servers call us back there: within 5 minutes, 20 s of which a server takes to believe it.
    """

    first_look: float = 2.0
    """After so long a server that is new to us is measured."""


class ServerStatus(NamedTuple):
    """What is told of one server. Times are seconds."""

    cell: str
    uuid: str
    addresses: tuple[tuple[str, int, float | None], ...]
    """Each with its rank, and its round trip if it answered when last asked."""
    used: str
    """The address that calls go to."""
    up: bool
    rtt: float | None
    """Of the calls."""


class _Record:
    """What is noted of one server beside its own fields."""

    __slots__ = (
        "address",
        "down",
        "given_up",
        "looked",
        "probe",
        "probe_at",
        "rtts",
        "scopes",
        "since",
        "soon",
        "thorough",
        "unheard",
    )

    def __init__(self, probe_at: float) -> None:
        self.address = 0  # index of the address that is used
        self.rtts: dict[Address, float] = {}  # of those that answered when last asked; seconds
        self.scopes: set[trio.CancelScope] = set()  # one for each operation that waits
        self.since = 0.0  # when the first of these began to wait
        self.probe: trio.Event | None = None  # a probe is under way
        self.thorough = False  # ... of all addresses
        self.given_up: trio.Event | None = None  # the last one that nobody saw the end of
        self.probe_at = probe_at  # when to probe next; inf: that has begun
        self.soon = False  # ... whether or not anything of it is in use
        self.looked = -math.inf  # when the last probe began, or ended
        self.down = False
        self.unheard = False  # the last probe of a server that is not down had no answer


class _Waiting:
    """One operation that waits for a server; a class since a generator would cost as much again."""

    __slots__ = ("_record", "_scope", "_server")

    def __init__(self, server: FileServer, record: _Record) -> None:
        self._server = server
        self._record = record
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        if not self._server.waiting:
            self._record.since = trio.current_time()
        self._server.waiting += 1
        self._record.scopes.add(self._scope)
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._server.waiting -= 1
        self._record.scopes.discard(self._scope)
        return self._scope.__exit__(kind, error, traceback)


class Health:
    """Watches over the file servers of all cells.

    `probe` is given a server and an address of it, and tells the round trip in seconds, or None if
    it did not answer.
    """

    def __init__(
        self,
        probe: Callable[[FileServer, Address], Awaitable[float | None]],
        limits: HealthLimits,
        preferences: Preferences | None = None,
    ) -> None:
        """Servers that were ever used are asked again and again by `run`."""
        self.preferences = preferences or Preferences()
        self._ask = probe
        self._limits = limits
        self.patient_interval = limits.patient_interval
        """As `HealthLimits` has it; may be set."""
        self.in_use: Callable[[], Collection[FileServer]] = lambda: self._records
        """Servers that have volumes in use; one that answers and has none is let be."""
        self._records: dict[FileServer, _Record] = {}
        self._news = trio.Event()
        self._looks = float(_LOOKS)  # addresses that may be asked now
        self._counted = -math.inf  # when that was so

    def _record(self, server: FileServer) -> _Record:
        record = self._records.get(server)
        if record is None:
            if len(self._records) >= SERVERS_MAX:
                self._make_room()
            first = trio.current_time() + self._limits.first_look
            record = self._records[server] = _Record(first)
            self._news.set()
        return record

    def _make_room(self) -> None:
        in_use = self.in_use()

        def worth(server: FileServer) -> tuple[bool, float, bool]:
            busy = bool(server.waiting) or self._records[server].probe is not None
            return busy, server.last_seen, server in in_use

        for server in sorted(self._records, key=worth)[:_MAKE_ROOM]:
            del self._records[server]
        note(Refused.EXCESS, _MAKE_ROOM)

    def watch(self, server: FileServer) -> None:
        """A server is one that may be used: measure it, and see whether it answers."""
        self._record(server)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Probe all servers, those that are down more often, until cancelled. None of them waits
        for the silence of another one.
        """
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                due = min((r.probe_at for r in self._records.values()), default=math.inf)
                with trio.move_on_at(due):
                    await self._news.wait()  # another one may be due earlier
                    continue
                now = trio.current_time()
                for server, record in self._due(now):
                    record.probe_at = math.inf
                    record.looked = now
                    nursery.start_soon(self._look_at, server, record)

    def _due(self, now: float) -> list[tuple[FileServer, _Record]]:
        """The servers that are to be probed now; those that are let be come into it later."""
        due: list[tuple[FileServer, _Record]] = []
        in_use = self.in_use()
        for server, record in self._records.items():
            if record.probe_at > now:
                continue
            if record.soon or record.down or record.unheard or server in in_use:
                due.append((server, record))
            else:
                record.probe_at = now + self._limits.answering_interval
        self._looks = min(_LOOKS, self._looks + (now - self._counted) * _LOOKS_A_SECOND)
        self._counted = now
        due.sort(key=lambda each: (each[0].last_seen == -math.inf, each[1].looked))
        return [each for each in due if self._has_time(*each, now)]

    def _has_time(self, server: FileServer, record: _Record, now: float) -> bool:
        """Whether a server that is due can be asked in its turn."""
        if self._looks <= 0:
            record.probe_at = now + 1.0
            return False
        self._looks -= len(server.addresses)
        record.soon = False
        return True

    async def _look_at(self, server: FileServer, record: _Record) -> None:
        """Measure a server at all its addresses, and see to it that it is looked at again."""
        await self._probe_one(server, True)
        if record.probe_at == math.inf:  # somebody else's probe was under way, and given up
            record.probe_at = trio.current_time() + self._limits.probe_interval
        self._news.set()

    def is_down(self, server: FileServer) -> bool:
        """Whether calls to the server should not even be tried."""
        return server.down_until > trio.current_time()

    def wanted(self, server: FileServer) -> None:
        """Somebody has to do without a server that is down: see soon whether it is back."""
        record = self._record(server)
        due = record.looked + self._limits.probe_interval
        if record.probe is None and due < record.probe_at:
            record.probe_at = due
            self._news.set()

    def is_crowded(self, server: FileServer) -> bool:
        """Whether enough operations wait already for a server that says nothing."""
        if server.waiting < self._limits.waiters:
            return False
        heard = max(server.last_seen, self._record(server).since)
        return trio.current_time() - heard > self._limits.silence

    def waiting(self, server: FileServer) -> _Waiting:
        """While an operation waits for a server: ``with health.waiting(server): ...``.

        The block is left early when the server goes down.
        """
        return _Waiting(server, self._record(server))

    def address(self, server: FileServer) -> tuple[str, int] | None:
        """Where the server answered last, or its first address; None if it has none."""
        return self._used(server, self._record(server))

    @staticmethod
    def _used(server: FileServer, record: _Record) -> tuple[str, int] | None:
        addresses = server.addresses
        if not addresses:
            return None
        return addresses[record.address if record.address < len(addresses) else 0]

    def heard(self, server: FileServer, address: tuple[str, int], rtt: float | None) -> None:
        """The server answered from there, even if only to refuse."""
        server.last_seen = trio.current_time()
        if rtt is not None:
            server.rtt = rtt
        record = self._record(server)
        if address != self._used(server, record) and address in server.addresses:
            record.address = server.addresses.index(address)
        record.unheard = False
        if record.down:
            log.info("file server %s of cell %s answers again", address[0], server.cell)
            record.down = False
            record.probe_at = server.last_seen + self._limits.answering_interval
            server.down_until = 0.0

    def silent(self, server: FileServer, since: float) -> None:
        """No address of the server answered a call that began at `since`.

        If others have heard of it since, it is not down: it may have lost its connections.
        """
        if server.last_seen > since:
            return
        record = self._record(server)
        if not record.down:
            log.info("lost contact with file server %s of cell %s", server.called, server.cell)
        record.down = True
        self._postpone(server, record)
        self._news.set()
        for scope in record.scopes:
            scope.cancel()

    def _postpone(self, server: FileServer, record: _Record) -> None:
        """The server stays down until the next probe is over."""
        now = trio.current_time()
        limits = self._limits
        lately = now - server.last_seen < _LATELY
        record.probe_at = now + (limits.probe_interval if lately else self.patient_interval)
        server.down_until = now + 2 * self.patient_interval

    async def probe(self, servers: Sequence[FileServer]) -> bool:
        """Ask these servers at all their addresses at once. Whether any of them answered."""
        answers: list[bool] = []

        async def ask(server: FileServer) -> None:
            answers.append(await self._probe_one(server))

        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(ask, server)
        return any(answers)

    async def check(self, servers: Sequence[FileServer]) -> list[FileServer]:
        """Ask each of these servers; those that do not answer."""
        silent: list[FileServer] = []

        async def ask(server: FileServer) -> None:
            if not await self._probe_one(server):
                silent.append(server)

        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(ask, server)
        return [server for server in servers if server in silent]

    async def _probe_one(self, server: FileServer, thorough: bool = False) -> bool:
        """Probe one server, or wait for the probe that is under way.

        A thorough one waits for all addresses, and chooses among them anew.
        """
        record = self._record(server)
        began = trio.current_time()
        while (probe := record.probe) is not None:
            own = record.thorough and not thorough  # ours, begun by `run`: it may have been early
            await probe.wait()
            if server.last_seen >= began:
                return True
            if not own and record.given_up is not probe:
                return False
        done = record.probe = trio.Event()
        record.thorough = thorough
        rtts: dict[Address, float] = {}

        async def ask(address: Address) -> None:
            rtt = await self._ask(server, address)
            if rtt is None:
                return
            rtts[address] = record.rtts[address] = rtt
            if not thorough:
                self.heard(server, address, None)
                nursery.cancel_scope.cancel()  # one address is enough

        try:
            async with trio.open_nursery() as nursery:
                for address in server.addresses:
                    nursery.start_soon(ask, address)
            if thorough and rtts:
                record.rtts = rtts
                best = self._best_address(server, rtts)
                self.heard(server, best, rtts[best])
            self._plan(server, record, began)
            return server.last_seen >= began
        except BaseException:  # cancelled: who waits for it does it himself
            record.given_up = done
            raise
        finally:
            record.probe = None
            record.looked = trio.current_time()
            done.set()

    def _best_address(self, server: FileServer, rtts: dict[Address, float]) -> Address:
        """Where to call a server: where it is called now, unless another address is much better."""
        now = self.address(server)
        order = sorted(rtts, key=lambda address: (self.preferences.rank(address), rtts[address]))
        if now not in rtts:
            return order[0]
        better = is_clearly_better(
            (self.preferences.rank(order[0]), rtts[order[0]]),
            (self.preferences.rank(now), rtts[now]),
        )
        return order[0] if better else now

    def _plan(self, server: FileServer, record: _Record, began: float) -> None:
        """When to probe a server next, after a probe."""
        if server.last_seen >= began:
            record.probe_at = trio.current_time() + self._limits.answering_interval
        elif record.down:
            self._postpone(server, record)
        elif record.unheard and not server.waiting:
            self.silent(server, began)
        else:  # one lost probe says little, and those who wait find out themselves
            record.unheard = True
            record.probe_at = trio.current_time() + self._limits.probe_interval

    def servers(self) -> list[FileServer]:
        """All servers that are watched: that were ever used, or may be."""
        return list(self._records)

    def look_soon(self, server: FileServer) -> None:
        """Something has changed: probe the server now, be it down or not, and in use or not: what
        was measured before the change would decide who is asked first when it is used again.
        """
        record = self._record(server)
        record.soon = True
        record.probe_at = trio.current_time()
        self._news.set()

    def statuses(self) -> list[ServerStatus]:
        """What is known of all servers that are watched."""
        return [
            ServerStatus(
                server.cell,
                str(server.uuid),
                tuple(
                    (address[0], self.preferences.rank(address), record.rtts.get(address))
                    for address in server.addresses
                ),
                (self.address(server) or ("", 0))[0],
                not record.down,
                server.rtt,
            )
            for server, record in self._records.items()
        ]
