"""What goes on, event by event, for whoever looks: requests, operations, calls, packets.

Three places report here while somebody looks, and to nobody else: the kernel's requests that are
not answered at once, the operations on volumes, and the protocol stack. When the last one has gone
they report to null objects again.

What belongs together is found by the task: an operation is begun in the task of the request that
wants it, or in one that was started for it, and a call in the task of its operation. A call that
waits for a channel begins later, in nobody's name; such ones, and what the stack does by itself,
are shown to those who look at everything or at a server.

No event has payload, names of files or anything secret: of bodies there are lengths. They do tell
whose calls there are, so only root and whoever runs the daemon may look.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import trio

from afsfuse.errors import ControlRefused
from rxrpc.jsontrace import describe
from rxrpc.trace import CallEnded, CallStarted, PacketReceived, PacketSent

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.cell.volumes import Volume
    from afsfuse.control.outlets import Outlet
    from afsfuse.control.verbs import Peer, Request, Stream
    from afsfuse.fileserver.figures import Operations, Running
    from afsfuse.fileserver.health import ServerStatus
    from rxrpc import Endpoint
    from rxrpc.trace import Event

CALLS_KNOWN = 65536
"""Calls under way of which it is remembered what they are for."""


class Wait(Protocol):
    """A request that has no answer yet, see `afsfuse.fuse.interrupts`."""

    what: str
    since: float
    user: int

    @property
    def thread(self) -> int: ...


class Requests(Protocol):
    """The kernel's requests, which tell a watcher of each."""

    def watch(self, watcher: RequestSide | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Filter:
    """What one looker wants to see; None: whatever it is."""

    hosts: frozenset[str] | None = None
    process: int | None = None
    volume: Volume | None = None
    packets: bool = True


@dataclass(frozen=True, slots=True)
class _Cause:
    """What a call is made for, as far as is known."""

    running: Running | None = None
    thread: int = 0


_NOTHING = _Cause()
_cause: ContextVar[_Cause] = ContextVar("cause", default=_NOTHING)


class _Looker:
    """One who looks."""

    def __init__(self, filter: Filter, outlet: Outlet) -> None:
        self.filter = filter
        self._outlet = outlet
        self._start = trio.current_time()

    def tell(self, now: float, line: dict[str, Any]) -> None:
        self._outlet.put({"t": round(now - self._start, 6), **line})


class Tracing:
    """Takes in events, and gives them to those who want them. Free of await, never raises."""

    def __init__(
        self,
        endpoint: Endpoint,
        operations: Operations,
        requests: Requests,
        volume_of: Callable[[Request, Peer], Volume],
        servers: Callable[[], list[ServerStatus]],
        process_of: Callable[[int], int],
    ) -> None:
        """`volume_of`: the volume of the path in a request; `servers`: all that were used;
        `process_of`: the process of a thread.
        """
        self.every_packet = False
        self._endpoint = endpoint
        self._operations = operations
        self._requests = requests
        self._volume_of = volume_of
        self._servers = servers
        self._process_of = process_of
        self._lookers: list[_Looker] = []
        self._calls: dict[tuple[int, int], _Cause] = {}  # by cid with channel, and number
        self.streams: dict[str, Stream] = {"trace": self._trace}

    # Who looks

    async def _trace(self, request: Request, peer: Peer, outlet: Outlet) -> dict[str, Any]:
        if not peer.owns_daemon:
            raise ControlRefused("only root and who has mounted it may trace: it shows all users")
        looker = _Looker(self._filter(request, peer), outlet)
        self._lookers.append(looker)
        self._attach()
        try:
            outlet.put({"t": 0.0, "event": "trace started"})
            await trio.sleep_forever()
        finally:
            self._lookers.remove(looker)
            self._attach()

    def _filter(self, request: Request, peer: Peer) -> Filter:
        hosts, process = request.get("hosts"), request.get("pid")
        if hosts is not None and not _is_words(hosts):
            raise ControlRefused("a list of addresses is expected")
        if process is not None and not isinstance(process, int):
            raise ControlRefused("the number of a process is expected")
        return Filter(
            None if hosts is None else self._all_addresses(hosts),
            process,
            self._volume_of(request, peer) if "path" in request else None,
            request.get("packets") is not False,
        )

    def _all_addresses(self, hosts: list[str]) -> frozenset[str]:
        """Those that are given, and the others of the servers that have one of them."""
        wanted = set(hosts)
        for server in self._servers():
            known = {address for address, _, _ in server.addresses}
            if known & wanted:
                wanted |= known
        return frozenset(wanted)

    def _attach(self) -> None:
        """Have reported here what somebody wants to see, and nothing else."""
        self.every_packet = any(looker.filter.packets for looker in self._lookers)
        if self._lookers:
            self._endpoint.trace(self)
            self._operations.watch(self)
            self._requests.watch(RequestSide(self))
        else:
            self._endpoint.trace(None)
            self._operations.watch(None)
            self._requests.watch(None)
            self._calls.clear()

    # What is reported

    def request_asked(self, thread: int) -> None:
        """The kernel wants something for a thread, be it that the answer is there."""
        _cause.set(_Cause(None, thread))

    def request_began(self, wait: Wait) -> None:
        """The kernel wants something that is not there."""
        thread = wait.thread
        _cause.set(_Cause(None, thread))
        line = {"event": "request began", "what": wait.what, "thread": thread, "uid": wait.user}
        self._tell(wait.since, line, _cause.get())

    def request_ended(self, wait: Wait) -> None:
        """It has its answer."""
        cause = _cause.get()
        now = trio.current_time()
        line = {"event": "request ended", "what": wait.what, "thread": cause.thread}
        self._tell(now, {**line, "lasted": round(now - wait.since, 6)}, cause)
        _cause.set(_NOTHING)

    def began(self, running: Running) -> None:
        """An operation on a volume begins."""
        cause = _Cause(running, _cause.get().thread)
        _cause.set(cause)
        self._tell(running.since, {"event": "operation began", **_named(running)}, cause)

    def ended(self, running: Running, error: BaseException | None) -> None:
        """An operation is over."""
        cause = _Cause(running, _cause.get().thread)
        now = trio.current_time()
        line = {"event": "operation ended", **_named(running)}
        line["server"] = _host(running)
        line["lasted"] = round(now - running.since, 6)
        line["outcome"] = "complete" if error is None else type(error).__name__
        self._tell(now, line, cause)
        _cause.set(_Cause(None, cause.thread))

    def record(self, now: float, event: Event) -> None:
        """The protocol stack reports."""
        cause = self._cause_of(event)
        if isinstance(event, PacketReceived | PacketSent):
            lookers = [one for one in self._lookers if one.filter.packets]
        else:
            lookers = self._lookers
        address = getattr(event, "address", None)
        host = None if address is None else address[0]
        wanting = [one for one in lookers if self._wants(one.filter, cause, host)]
        if not wanting:
            return
        line = describe(event)
        if isinstance(event, CallStarted) and cause.running is not None:
            line["operation"] = cause.running.operation.name
        for looker in wanting:
            looker.tell(now, line)

    def _cause_of(self, event: Event) -> _Cause:
        """What the call is for that an event is about; kept from its beginning to its end."""
        if isinstance(event, CallStarted):
            cause = _cause.get()
            if cause is not _NOTHING and len(self._calls) < CALLS_KNOWN:
                self._calls[event.cid, event.call_number] = cause
            return cause
        if isinstance(event, CallEnded):
            return self._calls.pop((event.cid, event.call_number), _NOTHING)
        header = getattr(event, "header", None) or event
        key = (getattr(header, "cid", 0), getattr(header, "call_number", 0))
        return self._calls.get(key, _NOTHING)

    def _tell(self, now: float, line: dict[str, Any], cause: _Cause) -> None:
        host = None if cause.running is None else _host(cause.running)
        for looker in self._lookers:
            if self._wants(looker.filter, cause, host):
                looker.tell(now, line)

    def _wants(self, filter: Filter, cause: _Cause, host: str | None) -> bool:
        if filter.hosts is not None and host not in filter.hosts:
            return False
        if filter.process is not None and (
            not cause.thread or filter.process not in (cause.thread, self._process_of(cause.thread))
        ):
            return False
        if filter.volume is None:
            return True
        return cause.running is not None and cause.running.operation.volume is filter.volume


class RequestSide:
    """`Tracing` as the requests see it."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def asked(self, thread: int) -> None:
        """A request came."""
        self._tracing.request_asked(thread)

    def began(self, wait: Wait) -> None:
        """It was not answered at once."""
        self._tracing.request_began(wait)

    def ended(self, wait: Wait) -> None:
        """It has its answer."""
        self._tracing.request_ended(wait)


def _named(running: Running) -> dict[str, Any]:
    operation = running.operation
    return {
        "operation": operation.name,
        "cell": operation.volume.cell.name,
        "volume": operation.volume.name,
        "identity": operation.who.text,
    }


def _host(running: Running) -> str | None:
    return None if running.server is None else running.server.host


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
