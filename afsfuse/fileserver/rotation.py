"""The one retry loop: which server an operation is tried at, and what its failures lead to.

Every wait has a bound. When no server of a volume answers, they are probed, and if one answers the
operation is tried once more (a server that was restarted knows nothing of earlier calls); otherwise
it fails, and operations that would need a server that is down fail at once until it is back.

A change that must not be made twice is not sent again after silence: nobody knows whether it was
made. Aborts do say: with them nothing was changed. Changes are made in the name of who asks or not
at all: whose token has expired may read as nobody, but what he writes must not become nobody's.
Sources: fs/afs/rotate.c of Linux; src/afs/afs_analyze.c of OpenAFS.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, NoReturn, TypeVar

import trio

from afsfuse.auth.security import Credentials
from afsfuse.errors import (
    AfsError,
    CellUnreachable,
    NotPermitted,
    OutcomeUnknown,
    ReadOnlyVolume,
    ServerUnreachable,
    TokenExpired,
    VolumeMissing,
    from_abort,
)
from afsfuse.fileserver.failures import about, explain, locate
from afsfuse.fileserver.figures import Operations
from afsfuse.fileserver.health import Health
from afsfuse.fileserver.limits import RetryLimits
from afsfuse.fileserver.operation import Effect, Operation, Site, Verdict, judge
from afsfuse.fileserver.refusals import Refusals
from afsfuse.fileserver.search import FIRST_PAUSE, Search
from afsfuse.interfaces.fileserver import GET_CAPABILITIES, SERVICE_ID
from afsfuse.model import VolumeType
from rxrpc import NULL, CallAborted, CallError, CallTimeouts, RxError
from rxrpc.rpc import Void

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume, VolumeLocator
    from afsfuse.fileserver.figures import Running
    from afsfuse.fileserver.preferences import Preferences
    from rxrpc import Address, Connection, Endpoint
    from rxrpc.rpc import Rpc
    from rxrpc.security.base import ClientSecurity

log = logging.getLogger(__name__)

CALLS_A_CONNECTION = 4  # Source: RX_MAXCALLS in rx.h
_CONNECTIONS_MAX = 256  # ways that are kept; with one goes a token that may be an old one

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")


class _Elsewhere(Exception):
    """This server could not do it; another one may."""


class _Trouble:
    """What went wrong in one round over the sites."""

    # A server's word weighs more than silence, and the more, the likelier it is to pass.
    _WEIGHT = (Verdict.UNREACHABLE, Verdict.MOVED, Verdict.OFFLINE, Verdict.BUSY)

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.error: AfsError | None = None
        self.silent: list[FileServer] = []  # tried in vain

    def note(self, verdict: Verdict, error: AfsError) -> None:
        """Keep what says most."""
        if self.verdict is None or self._WEIGHT.index(verdict) > self._WEIGHT.index(self.verdict):
            self.verdict, self.error = verdict, error


class Rotation:
    """Runs operations at the servers of their volumes."""

    def __init__(
        self,
        endpoint: Endpoint,
        locator: VolumeLocator,
        credentials: Credentials | None = None,
        limits: RetryLimits | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        """`health.run` probes servers that are down; without it they are tried again later.

        Without `credentials` everybody is anonymous.
        """
        self.limits = limits or RetryLimits()
        self.health = Health(self._probe, self.limits.health, preferences)
        self.server_changed: Callable[[Volume, FileServer], None] = lambda volume, before: None
        """Called when another server is asked about a volume than `before`."""
        self.operations = Operations()
        """Those under way, and how those before went."""
        self.refusals = Refusals()
        self._endpoint = endpoint
        self._locator = locator
        self.health.in_use = locator.servers_in_use
        self._credentials = credentials or Credentials()
        self._connections: dict[tuple[Address, ClientSecurity], Connection] = {}
        self._chosen: dict[tuple[str, int], FileServer] = {}  # who answered last, by volume
        self.channels = CALLS_A_CONNECTION * endpoint.parameters.max_connections_per_bundle
        pace = self.limits.pace
        alone = CallTimeouts(dead=self.limits.dead_time, pace=pace)
        replaceable = CallTimeouts(dead=self.limits.failover_time, pace=pace)
        stalls = {Effect.NONE: self.limits.stall_time, Effect.SETS: inf, Effect.ONCE: None}
        self._timeouts = {
            effect: (replace(alone, stall=stall), replace(replaceable, stall=stall))
            for effect, stall in stalls.items()
        }

    async def execute(self, operation: Operation[T]) -> T:
        """Do it, at whichever server of the volume can; raise `AfsError` saying why none could."""
        running = self.operations.begin(operation)
        try:
            result = await self._execute(operation, running)
        except BaseException as exc:
            self.operations.end(running, exc)
            raise
        self.operations.end(running, None)
        return result

    async def _execute(self, operation: Operation[T], running: Running) -> T:
        limits = self.limits
        volume = operation.volume
        if operation.effect is not Effect.NONE:
            self._check_change(volume, operation.who)
        began = trio.current_time()
        pause = FIRST_PAUSE
        search = Search(self._locator, volume, operation.who, limits)
        probed = False
        while True:
            asked = trio.current_time()
            trouble = _Trouble()
            servers = self.order(volume)
            for server in servers:
                running.server = server
                try:
                    result = await self._at_server(operation, server, servers, trouble)
                except _Elsewhere:
                    continue
                self.refusals.served(volume, server, asked)
                if len(servers) > 1:
                    self._choose(volume, server)
                return result
            waited = trio.current_time() - began
            log.debug("%s of %s after %.1f s: %s", operation.name, volume, waited, trouble.error)
            match trouble.verdict:
                case Verdict.MOVED | None if search.goes_on(trouble.error):
                    await search.ask(servers, asked)
                case Verdict.BUSY if waited < limits.busy_time:
                    await trio.sleep(pause)
                    pause = min(2 * pause, limits.pause)
                case Verdict.OFFLINE if waited < limits.offline_time:
                    await trio.sleep(limits.pause)
                case Verdict.UNREACHABLE if not probed:
                    probed = True
                    answers = trouble.silent and await self.health.probe(trouble.silent)
                    if not answers and not await self._readdressed(operation, servers):
                        raise trouble.error or self._missing(volume)
                case _:
                    raise trouble.error or self._missing(volume)

    async def _readdressed(self, operation: Operation[T], servers: Sequence[FileServer]) -> bool:
        """Whether the record names other servers, or other addresses, than those that are silent.

        A server that came back at another address is silent for ever at the old one.
        """
        volume, limits = operation.volume, self.limits
        before = {server: server.addresses for server in servers}
        young = trio.current_time() - limits.readdress_time
        with trio.move_on_after(limits.probe_time), contextlib.suppress(CellUnreachable):
            await self._locator.refresh(volume, operation.who, since=young)
        return {site.server: site.server.addresses for site in volume.sites} != before

    def _choose(self, volume: Volume, server: FileServer) -> None:
        """Stay with who answered."""
        key = volume.cell.name, volume.id
        before = self._chosen.get(key)
        if before is not server:
            self._chosen[key] = server
            if before is not None:
                self.server_changed(volume, before)

    def _check_change(self, volume: Volume, who: Identity) -> None:
        """Refuse a change that no server would make, or not in the name of who asks."""
        cell = volume.cell.name
        if volume.type is not VolumeType.RW:
            raise ReadOnlyVolume("the volume is read-only", cell=cell, volume=volume.name)
        if self._credentials.has_expired(who, cell):
            raise TokenExpired(TokenExpired.MESSAGE, cell=cell, volume=volume.name)

    def order(self, volume: Volume) -> list[FileServer]:
        """The servers in the order in which to try them: who answered last holds our promises,
        and is left only for one that is clearly better.
        """
        servers = [site.server for site in volume.sites]
        if len(servers) == 1:
            return servers
        for server in servers:
            self.health.watch(server)
        chosen = self._chosen.get((volume.cell.name, volume.id))
        health = self.health
        avoided = {site.server for site in volume.sites if site.avoid}
        refusing = self.refusals.asked_last(volume)
        return health.preferences.order(servers, chosen, health.is_down, avoided, refusing)

    async def _at_server(
        self,
        operation: Operation[T],
        server: FileServer,
        servers: list[FileServer],
        trouble: _Trouble,
    ) -> T:
        """Try the addresses of one server in turn; `_Elsewhere` if none could do it."""
        health = self.health
        if health.is_down(server):
            health.wanted(server)
        elif not health.is_crowded(server):
            others = len(servers) > 1 and any(
                other is not server and not health.is_down(other) for other in servers
            )
            timeouts = self._timeouts[operation.effect][others]
            began = trio.current_time()
            used: list[Connection] = []
            with health.waiting(server):
                tried: set[tuple[str, int]] = set()
                while (address := await self._address(server, tried)) is not None:
                    tried.add(address)
                    try:
                        result = await self._attempt(operation, server, address, timeouts, used)
                    except CallError as exc:
                        verdict = judge(exc)
                        if verdict is Verdict.AGAIN and operation.effect is not Effect.ONCE:
                            tried.discard(address)
                            continue
                        if verdict in (Verdict.AGAIN, Verdict.UNREACHABLE):
                            if operation.effect is Effect.ONCE:
                                break
                            continue
                        health.heard(server, address, used[-1].rtt())
                        error = self._explain(verdict, exc, operation, server)
                        trouble.note(verdict, error)
                        self.refusals.note(operation.volume, server, error)
                        if verdict is Verdict.MOVED and len(servers) > 1:
                            self._locator.check_soon(operation.volume)
                        raise _Elsewhere from exc
                    except AfsError as exc:
                        health.heard(server, address, used[-1].rtt())
                        locate(exc, operation.volume, server)
                        raise
                    health.heard(server, address, used[-1].rtt())
                    return result
            # It was silent, or another operation has found out meanwhile that it is.
            health.silent(server, began)
            trouble.silent.append(server)
            if used and operation.effect is Effect.ONCE:
                await self._outcome_unknown(operation, server)
        down = ServerUnreachable(
            "the file server does not answer", **about(operation.volume, server)
        )
        trouble.note(Verdict.UNREACHABLE, down)
        raise _Elsewhere

    async def _outcome_unknown(self, operation: Operation[T], server: FileServer) -> NoReturn:
        """A server fell silent over a change: see whether it answers, as then whoever asked can
        find out what became of it.
        """
        await self.health.probe([server])
        raise OutcomeUnknown(
            f"the file server fell silent: whether it did {operation.name} is not known",
            **about(operation.volume, server),
        )

    async def _attempt(
        self,
        operation: Operation[T],
        server: FileServer,
        address: tuple[str, int],
        timeouts: CallTimeouts,
        used: list[Connection],
    ) -> T:
        """Try one address of a server in the name of who asks; `used` gets the connections."""

        async def attempt(security: ClientSecurity) -> T:
            used.append(self._connect(address, security))
            return await operation.attempt(Site(server, used[-1], timeouts))

        cell = operation.volume.cell.name
        return await self._credentials.run_as(
            operation.who,
            cell,
            attempt,
            as_nobody=operation.effect is Effect.NONE,
            server=f"the file server {address[0]}",
        )

    def _explain(
        self, verdict: Verdict, exc: CallError, operation: Operation[T], server: FileServer
    ) -> AfsError:
        """As `explain`; who may not do something since his token has expired is told that."""
        volume = operation.volume
        try:
            return explain(verdict, exc, volume, server)
        except NotPermitted as error:
            raise self.as_told_to(error, operation.who, volume.cell.name) from exc

    def as_told_to(self, error: AfsError, who: Identity, cell: str) -> AfsError:
        """An error as a caller is to hear it: what may not be done by somebody whose token has
        expired, and who is nobody since then, is `TokenExpired`.
        """
        if type(error) is not NotPermitted or not self._credentials.has_expired(who, cell):
            return error
        return TokenExpired(
            TokenExpired.MESSAGE,
            cell=error.cell, volume=error.volume, server=error.server, code=error.code,
        )  # fmt: skip

    async def _address(
        self, server: FileServer, tried: set[tuple[str, int]]
    ) -> tuple[str, int] | None:
        """Where to try a server: where it answered last, else where it answers a probe.

        A server with many addresses is asked at all of them at once, never one after the other.
        """
        several = len(server.addresses) > 1
        if several and (tried or server.last_seen < 0) and not await self.health.probe([server]):
            return None
        address = self.health.address(server)
        return None if address in tried else address

    def loss(self, server: FileServer) -> float:
        """See `rxrpc.Connection.loss`; it is the same whoever asks."""
        address = self.health.address(server)
        return 0.0 if address is None else self._connect(address).loss()

    def forget(self, volume: Volume) -> None:
        """Nobody uses a volume any more: which server answered last is of no interest."""
        self._chosen.pop((volume.cell.name, volume.id), None)
        self.operations.forget(volume)
        self.refusals.forget(volume)

    def _missing(self, volume: Volume) -> AfsError:
        return VolumeMissing(
            "no file server has the volume", cell=volume.cell.name, volume=volume.name
        )

    def _connect(self, address: tuple[str, int], security: ClientSecurity = NULL) -> Connection:
        """The way to a server: kept, since every call asks for it. It holds nothing open."""
        connection = self._connections.get((address, security))
        if connection is None:
            if len(self._connections) >= _CONNECTIONS_MAX:
                self._connections.clear()
            connection = self._endpoint.connect(address, SERVICE_ID, security=security)
            self._connections[address, security] = connection
        return connection

    async def _probe(self, server: FileServer, address: tuple[str, int]) -> float | None:
        """The round trip to the server at this address, if it answers, be it with an abort.

        Probes are anonymous: whether a server is there must not hang on anybody's token. One that
        takes its time but says that it is there is waited for: a file server that sees us at
        another address looks for us at the old one first, for some 15 s (OpenAFS 1.8.9).
        """
        connection = self._connect(address)
        limits = self.limits
        began = trio.current_time()
        timeouts = CallTimeouts(dead=limits.probe_time, hard=limits.dead_time)
        try:
            await connection.call(GET_CAPABILITIES, Void(), timeouts=timeouts)
        except CallAborted as exc:
            if judge(exc) is Verdict.UNREACHABLE:
                return None
        except RxError:
            return None
        rtt = connection.rtt()
        return trio.current_time() - began if rtt is None else rtt

    async def call(self, server: FileServer, rpc: Rpc[A, R], args: A) -> R:
        """Call one server about itself: no retry and no failover. Raise `AfsError`.

        It is anonymous: servers know us by our UUID and address, whoever we are.
        """
        limit = self.limits.probe_time
        address = self.health.address(server)
        if address is None:
            raise ServerUnreachable("the file server has no address", cell=server.cell)
        connection = self._connect(address)
        try:
            timeouts = CallTimeouts(dead=limit, hard=self.limits.dead_time)
            return await connection.call(rpc, args, timeouts=timeouts)
        except CallAborted as exc:
            raise from_abort(exc.code, cell=server.cell, server=address[0]) from exc
        except CallError as exc:
            raise ServerUnreachable(
                "the file server does not answer", cell=server.cell, server=address[0]
            ) from exc
