"""Two cores back to back: no sockets, no event loop, and a clock that the test moves."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rxrpc.core.bundle import Bundle, BundleKey
from rxrpc.core.call import Call
from rxrpc.core.client_call import ClientCall
from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.endpoint import EndpointCore
from rxrpc.core.events import CallChanged, IncomingCall
from rxrpc.core.parameters import Parameters
from rxrpc.core.services import ServiceEntry
from rxrpc.security.base import ClientSecurity, ServerSecurity
from rxrpc.security.null import NULL
from rxrpc.trace import CountingTracer
from rxrpc.wire.packet import Address, Header

if TYPE_CHECKING:
    from rxrpc.core.server_call import ServerCall

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)
SERVICE = 77
NO_REACH_CHECK = Parameters(check_reach=False)


@dataclass
class Flying:
    """A datagram on its way."""

    data: bytes
    source: Address
    target: Address

    @property
    def header(self) -> Header:
        return Header.parse(self.data)[0]

    @property
    def body(self) -> bytes:
        return self.data[28:]


Mangler = Callable[[Flying], Iterable[Flying]]


def everything(datagram: Flying) -> Iterable[Flying]:
    """A network without faults."""
    return (datagram,)


@dataclass
class Program:
    """What the user of a call does: takes what comes, remembers what happened."""

    call: Call
    received: bytearray = field(default_factory=bytearray)
    answered: bool = False

    def step(self) -> None:
        if self.call.connection is None:
            return
        for chunk in self.call.receiving.take_unread():
            self.received += chunk
        if self.call.receiving.urgent is not None:
            self.call.mark()


class Pair:
    """A client and a server core, and what flies between them."""

    def __init__(
        self,
        client: Parameters | None = None,
        server: Parameters | None = None,
        *,
        seed: int = 1,
        securities: Iterable[ServerSecurity] = (NULL,),
        start: float = 1000.0,
    ) -> None:
        self.now = start
        self.client_trace = CountingTracer()
        self.server_trace = CountingTracer()
        self.client = EndpointCore(client, self.client_trace, random.Random(seed))
        self.server = EndpointCore(server, self.server_trace, random.Random(seed + 1))
        self.server.services.add(ServiceEntry(SERVICE, {each.index: each for each in securities}))
        self.wire: list[Flying] = []
        self.mangle: Mangler = everything
        self.delay = 0.005  # one way, seconds
        self.incoming: list[ServerCall] = []
        self.programs: dict[Call, Program] = {}
        self.on_server: Callable[[Program], None] = echo
        self.log: list[Flying] = []  # everything that was ever sent

    def bundle(
        self, security: ClientSecurity = NULL, *, exclusive: bool = False, upgrade: bool = False
    ) -> Bundle:
        return self.client.bundle(BundleKey(SERVER, SERVICE, security, exclusive, upgrade))

    def call(
        self,
        request: bytes = b"",
        *,
        timeouts: CallTimeouts | None = None,
        security: ClientSecurity = NULL,
        exclusive: bool = False,
        upgrade: bool = False,
        finish: bool = True,
    ) -> ClientCall:
        """Begin a call."""
        bundle = self.bundle(security, exclusive=exclusive, upgrade=upgrade)
        call = bundle.start_call(timeouts or CallTimeouts(), self.now)
        self.programs[call] = Program(call)
        call.write(request)
        if finish:
            call.finish()
        return call

    def received(self, call: Call) -> bytes:
        return bytes(self.programs[call].received)

    # Moving on

    def collect(self) -> None:
        """Let both programs work, and take what both cores have to send."""
        for core in (self.client, self.server):
            for event in core.events():
                match event:
                    case IncomingCall(call):
                        self.incoming.append(call)
                        call.receiving.demand(1)
                        self.programs[call] = Program(call)
                        self.on_server(self.programs[call])
                    case CallChanged(call):
                        program = self.programs.get(call)
                        if program is not None and not call.is_client:
                            self.on_server(program)
        for program in self.programs.values():
            program.step()
            if not program.call.is_client and not program.call.over:
                self.on_server(program)
        for core, source in ((self.client, CLIENT), (self.server, SERVER)):
            for data, target in core.datagrams_to_send(self.now):
                datagram = Flying(data, source, target)
                self.log.append(datagram)
                self.wire += self.mangle(datagram)
            assert core.deadline() > self.now
            assert core.context.timers.overdue == 0

    def deliver(self, datagram: Flying) -> None:
        """Hand a datagram over."""
        core = {CLIENT: self.client, SERVER: self.server}.get(datagram.target)
        if core is not None:
            core.receive_datagram(datagram.data, datagram.source, self.now)

    def flush(self) -> None:
        """Deliver all that flies now, and nothing that is sent because of it."""
        flying, self.wire = self.wire, []
        for datagram in flying:
            self.deliver(datagram)

    def step(self) -> None:
        """One way, or, when nothing flies, until the next timer."""
        self.collect()
        if self.wire:
            self.now += self.delay
            self.flush()
            self.collect()
        else:
            self.now = max(self.now, min(self.client.deadline(), self.server.deadline()))
            self.collect()

    def run(self, until: Callable[[], bool], *, limit: float = 300.0) -> None:
        """Go on until something is so; fails after ``limit`` seconds of the cores' time."""
        end = self.now + limit
        while not until():
            assert self.now < end, "it never happened"
            self.step()

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            self.collect()
            due = min(self.client.deadline(), self.server.deadline())
            if self.wire:
                self.now += self.delay
                self.flush()
            elif due >= end:
                break
            else:
                self.now = due
        self.now = max(self.now, end)
        self.collect()

    def finish(self, call: ClientCall, *, limit: float = 300.0) -> bytes:
        """Run a call to its end; the reply."""
        self.run(lambda: call.over, limit=limit)
        self.programs[call].step()
        if call.error is not None:
            raise call.error
        return self.received(call)


def echo(program: Program) -> None:
    """A service that sends the request back when it is whole."""
    call = program.call
    program.step()
    if call.receiving.complete and not call.sending.finished and not call.over:
        call.write(bytes(program.received))
        call.finish()


def silent(program: Program) -> None:
    """A service that never answers."""
    program.step()


def drop_nth(*numbers: int, where: Callable[[Flying], bool] | None = None) -> Mangler:
    """Lose datagrams by their order (from 1) among those that `where` chooses."""
    count = 0

    def mangle(datagram: Flying) -> Iterable[Flying]:
        nonlocal count
        if where is not None and not where(datagram):
            return (datagram,)
        count += 1
        return () if count in numbers else (datagram,)

    return mangle
