"""Calls to the volume location service of a cell, answered by whichever of its servers can.

The servers hold the same database, so one answer is enough. The server that answered last is
asked first; when it has not answered after a moment the next one is asked, too, and the first
answer wins; as long as there is none, all are asked again every few seconds, as any of them may be
back. Servers that did not answer at all are asked last for a while. Every call ends within
a bound, and for a few seconds after no server answered further calls fail at once: a dead cell
must not hold up everybody who looks at it.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, Self, TypeVar

import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.auth.security import Credentials
from afsfuse.cell.directory import Cell
from afsfuse.errors import AfsError, CellUnreachable, VlCode, abort_name, from_abort
from afsfuse.interfaces import vldb
from rxrpc import NULL, Address
from rxrpc.errors import CallAborted, CallError, EndpointClosed
from rxrpc.rpc import Rpc, RxgenCode, Void
from rxrpc.security.base import ClientSecurity

log = logging.getLogger(__name__)

A = TypeVar("A")
R = TypeVar("R")

# Of the service's own codes these mean trouble at one server; the others are answers.
_TROUBLE = frozenset({VlCode.IO, VlCode.NOMEM})
_PROBE_SECONDS = 3.0
_VL_CODES = range(VlCode.IO - 1, VlCode.IO + 255)


class VlConnection(Protocol):
    """What is used of an rxrpc connection."""

    async def call(self, rpc: Rpc[A, R], args: A) -> R:
        """Make a call."""
        ...


class Connector(Protocol):
    """What is used of an rxrpc endpoint."""

    def connect(
        self, address: Address, service_id: int, *, security: ClientSecurity = ...
    ) -> VlConnection:
        """A connection, made when it is needed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationLimits:
    """How long to wait for location servers, in seconds."""

    patience: float = 1.5
    """After this long without an answer the next server is asked, too."""

    again: float = 3.0
    """As long as nobody answers, each server is asked once more after so long. One call's own
    packets become rare: after eight seconds of silence the next one comes eight seconds later."""

    total: float = 20.0
    """A call that nobody has answered by then fails."""

    dead_time: float = 30.0
    """A server that did not answer is asked last for this long."""

    failure_memory: float = 5.0
    """After a failure of all servers calls fail at once for this long."""

    @classmethod
    def within(cls, seconds: float) -> Self:
        """The usual limits, cut to what is left of them when all is to be over after this long.

        Two servers have time to be asked, whatever is asked for.
        """
        usual = cls()
        return cls(total=min(usual.total, max(seconds, 2 * usual.patience)))


class NotOffered(Exception):
    """The service does not have the procedure: ask for an older form."""


class LocationService:
    """Makes calls to the location services of all cells."""

    what = "location"
    """Of the servers, for messages."""

    def __init__(
        self,
        connector: Connector,
        limits: LocationLimits | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Without `credentials` everybody is anonymous."""
        self._connector = connector
        self._limits = limits or LocationLimits()
        self.credentials = credentials or Credentials()
        self._dead: dict[Address, float] = {}
        self._latest: dict[str, Address] = {}  # by cell: who answered last
        self._failures: dict[str, tuple[AfsError, float]] = {}

    async def call(
        self,
        cell: Cell,
        rpc: Rpc[A, R],
        args: A,
        *,
        about: str | None = None,
        who: Identity = NOBODY,
    ) -> R:
        """The reply of one of the cell's servers, asked in the name of `who`.

        `about` is the volume's name for messages. Raises `VolumeMissing` and the like for what
        the service says, `NotOffered`, and `CellUnreachable` when nobody says anything.
        """
        failure = self._failures.get(cell.name)
        if failure is not None and failure[1] > trio.current_time():
            raise failure[0].again()
        order = self._order(cell)
        race = _Race(self, cell, rpc, args, who)
        with trio.move_on_after(self._limits.total):
            await race.run(order, self._limits)
        now = trio.current_time()
        if race.winner is None:
            for address in race.silent:
                self._dead[address] = now + self._limits.dead_time
            error = CellUnreachable(_explain(self.what, order, race), cell=cell.name, volume=about)
            error.passing = bool(order)
            self._failures[cell.name] = (error, now + self._limits.failure_memory)
            raise error.again()
        self._failures.pop(cell.name, None)
        self._latest[cell.name] = race.winner
        self._dead.pop(race.winner, None)
        if race.code is None:
            return race.reply  # type: ignore[no-any-return]
        if race.code == RxgenCode.OPCODE:
            raise NotOffered
        raise from_abort(race.code, cell=cell.name, volume=about, server=race.winner[0])

    def connect(self, address: Address, security: ClientSecurity) -> VlConnection:
        """The connection to one server."""
        return self._connector.connect(address, vldb.SERVICE_ID, security=security)

    async def silent(self, cell: Cell) -> list[Address]:
        """Ask each server of a cell whether it is there; those that do not answer in time."""
        silent: list[Address] = []

        async def ask(address: Address) -> None:
            answered = False
            with trio.move_on_after(_PROBE_SECONDS):
                try:
                    await self.connect(address, NULL).call(vldb.PROBE_SERVER, Void())
                    answered = True
                except CallAborted as exc:
                    answered = exc.remote
                except CallError as exc:
                    log.debug("%s server %s of %s: %s", self.what, address[0], cell, exc)
            if not answered:
                silent.append(address)

        async with trio.open_nursery() as nursery:
            for address in cell.vl_servers:
                nursery.start_soon(ask, address)
        return [address for address in cell.vl_servers if address in silent]

    def failed(self, address: Address) -> None:
        """A server did not answer."""
        self._dead[address] = trio.current_time() + self._limits.dead_time

    def _order(self, cell: Cell) -> list[Address]:
        now = trio.current_time()
        latest = self._latest.get(cell.name)
        return sorted(
            cell.vl_servers,
            key=lambda address: (self._dead.get(address, -inf) > now, address != latest),
        )


class _Race:
    """One call, made to several servers until one of them answers."""

    def __init__(
        self,
        service: LocationService,
        cell: Cell,
        rpc: Rpc[Any, Any],
        args: object,
        who: Identity,
    ) -> None:
        self.winner: Address | None = None
        self.reply: Any = None
        self.code: int | None = None  # an abort that is an answer
        self.troubles: dict[Address, str] = {}
        self.silent: set[Address] = set()  # asked, and not heard of
        self._service = service
        self._cell = cell
        self._rpc = rpc
        self._args = args
        self._who = who
        self._news = trio.Event()

    async def run(self, order: Iterable[Address], limits: LocationLimits) -> None:
        """Ask the servers, the next one when the ones before failed or are slow."""
        async with trio.open_nursery() as nursery:
            for address in order:
                self.silent.add(address)
                nursery.start_soon(self._ask, address)
                with trio.move_on_after(limits.patience):
                    await self._settled()
                if self.winner is not None:
                    break
            while self.silent and self.winner is None:
                with trio.move_on_after(limits.again):
                    await self._settled()
                    break
                for address in self.silent:
                    nursery.start_soon(self._ask, address)
            nursery.cancel_scope.cancel()

    async def _settled(self) -> None:
        """Wait until somebody has answered or all that were asked have failed."""
        while self.silent and self.winner is None:
            self._news = trio.Event()
            await self._news.wait()

    async def _ask(self, address: Address) -> None:
        code: int | None = None
        reply: Any = None
        try:
            reply = await self._ask_in_the_name(address)
        except CallAborted as exc:
            code = exc.code
            if not _is_answer(exc):
                self._trouble(address, f"abort {abort_name(code)}")
                return
        except EndpointClosed as exc:
            self._trouble(address, str(exc) or "the endpoint is closed")
            return
        except CallError as exc:
            self._service.failed(address)
            self._trouble(address, str(exc))
            return
        if self.winner is None:
            self.winner, self.reply, self.code = address, reply, code
        self.silent.discard(address)
        self._news.set()

    async def _ask_in_the_name(self, address: Address) -> object:
        """Where volumes are is told to anybody: a token that is no good is only left out."""

        async def attempt(security: ClientSecurity) -> object:
            connection = self._service.connect(address, security)
            return await connection.call(self._rpc, self._args)

        credentials = self._service.credentials
        where = f"the {self._service.what} server {address[0]}"
        return await credentials.run_as(
            self._who, self._cell.name, attempt, public=True, server=where
        )

    def _trouble(self, address: Address, what: str) -> None:
        kind = self._service.what
        log.info("%s server %s of %s: %s: %s", kind, address[0], self._cell, self._rpc, what)
        self.troubles[address] = what
        self.silent.discard(address)
        self._news.set()


def _is_answer(abort: CallAborted) -> bool:
    """Whether an abort says something about the question and not about the server."""
    if not abort.remote:
        return False
    code = abort.code
    return code == RxgenCode.OPCODE or (code in _VL_CODES and code not in _TROUBLE)


def _explain(what: str, order: list[Address], race: _Race) -> str:
    """One line about all servers of a cell that does not answer."""
    if not order:
        return f"the cell has no {what} servers; name them in CellServDB"
    said = [f"{host}: {race.troubles.get((host, port), 'no answer')}" for host, port in order]
    return f"no {what} server of the cell answers ({'; '.join(said)}); is the network up?"
