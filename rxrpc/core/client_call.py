"""A call that we make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core import lulls
from rxrpc.core.call import Call
from rxrpc.core.pathsize import PathSize
from rxrpc.core.states import CallState
from rxrpc.core.timers import NEVER, doubled
from rxrpc.errors import CallBusy, CallTimeout, PhaseError

if TYPE_CHECKING:
    from rxrpc.core.bundle import Bundle
    from rxrpc.core.clocks import CallTimeouts
    from rxrpc.core.connection import Connection
    from rxrpc.core.context import Context

_ANSWERED = frozenset({CallState.RECEIVING, CallState.COMPLETE})


class ClientCall(Call):
    """The client's end of a call. It waits in its bundle until a channel is free."""

    is_client = True

    def __init__(
        self, context: Context, bundle: Bundle, timeouts: CallTimeouts, now: float
    ) -> None:
        super().__init__(context, timeouts, now)
        self._patience = timeouts.stall
        self._lull = timeouts.lull
        self._looked = now  # whether to give the call up in a lull
        self._bundle = bundle
        self._path: PathSize
        self._started = now
        self._busy_since: float | None = None
        self._busy_count = 0
        self._asked = 0  # pings in this call

    def bind(self, connection: Connection, channel: int, number: int, now: float) -> None:
        """The call gets its channel, and what was written so far goes out."""
        self._path = PathSize(connection.peer, now)
        super().bind(connection, channel, number, now)
        self._become(CallState.SENDING)
        self._make_packets()
        self.mark()
        if self.user is not None:
            self.wake()  # it had to wait for the channel
        self.context.timers.update(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue a part of the request. Raises `PhaseError` when the reply has begun."""
        if self.state in _ANSWERED:
            raise PhaseError("the server has begun its reply and takes no more of the request")
        super().write(data)

    @property
    def confirmed(self) -> bool:
        """Whether the server has the whole request, or has answered without it."""
        return self.state is CallState.AWAITING or self.state in _ANSWERED

    def _after_data(self, now: float) -> None:
        receiving = self.receiving
        if self.state in (CallState.SENDING, CallState.AWAITING) and receiving.pending:
            # A reply implies that the whole request has come, or is not wanted any more.
            if self.watched or not self.sending.finished:
                self.wake()  # for a writer this is the end
            self.sending.acknowledge_all(now)
            self.sending.abandon()
            self._become(CallState.RECEIVING)
            self._connection.on_answer(now)
        if self.state is CallState.RECEIVING and receiving.complete:
            self._connection.peer.lulls.ended = now
            self._complete(now)
        self.wake_reader()

    def _after_ack(self, now: float) -> None:
        if self.state is CallState.SENDING:
            self._busy_since = None
            if self.sending.all_arrived:
                self._become(CallState.AWAITING)
                if self._connection.peer.losses.seen(now):
                    self.context.timers.update(self)  # there, more is due if nothing comes
                if self.watched:
                    self.wake()
            elif self.room:
                self.wake()

    def _on_busy(self, now: float) -> None:
        """The server has no room, or is not done with the channel's last call: again, later.

        The call cannot move to another channel: should a repetition of ours have been accepted
        after all, it would run twice.
        """
        self._heard_from(now)
        if not self.sending.untouched:
            return  # of an earlier transmission: the server has begun meanwhile
        parameters = self.context.parameters
        if self._busy_since is None:
            self._busy_since, self._busy_count = now, 0
        if now - self._busy_since >= self._clocks.busy_time:
            self.fail(CallBusy(), now)
            return
        if self.sending.held:
            return  # each packet of the request is told so
        delay = min(doubled(parameters.busy_delay, self._busy_count), parameters.max_busy_delay)
        self._busy_count += 1
        self.sending.hold(now + delay)
        self.context.timers.update(self)

    def _waits_for_peer(self) -> bool:
        if self.state is CallState.SENDING and not self.sending.queued:
            return False  # our program has not written more yet
        return super()._waits_for_peer()

    def next_timer(self) -> float:
        """When `on_timer` has something to do."""
        if self.state is CallState.WAITING:
            return min(self._clocks.hard_at, self._bundle_dead_at())
        due = super().next_timer()
        return due if self._lull is None or self.over else min(due, self._lull_due(self._lull))

    def _bundle_dead_at(self) -> float:
        return max(self._started, self._bundle.peer.heard) + self._clocks.dead_time

    def on_timer(self, now: float) -> None:
        """Whatever is due."""
        if self.state is CallState.WAITING:
            self.fail(CallTimeout("hard" if now >= self._clocks.hard_at else "connect"), now)
            self._bundle.withdraw(self)
            return
        super().on_timer(now)

    def _on_timer_alive(self, now: float) -> None:
        super()._on_timer_alive(now)
        if self._lull is not None and now >= self._lull_due(self._lull):
            self._looked = now
            peer = self._connection.peer
            if peer.lulls.give_up(peer, self._progress_at(), now):
                self.fail(CallTimeout(CallTimeout.LULL), now)
        if self._patience is None or self.over:
            return
        if self.confirmed:
            too_large = self._is_withheld(now, self._patience)
        else:
            too_large = self._path.swallows(self.sending, now)
        if too_large:
            self.ping(now)  # which tells the server how large its packets may be
            self.fail(CallTimeout(CallTimeout.TOO_LARGE), now)

    def _lull_due(self, lull: float) -> float:
        """When to look whether the call is to be given up since its reply comes no further."""
        connection, peer = self._connection, self._connection.peer
        if not (self.confirmed and connection.answered and peer.losses.seen(self.heard)):
            return NEVER
        due = self._progress_at() + lulls.patience(lull, peer)
        return max(due, self._looked + lulls.LOOK)

    def _is_withheld(self, now: float, patience: float) -> bool:
        """Whether the reply may be too large for the way: none of our neighbours gets one."""
        progress = self._progress_at()
        limit = self.context.parameters.safe_mtu
        for call in filter(None, self._connection.calls):
            if call.receiving.bytes > limit and call.receiving.progress_at > progress:
                return False
        return self._path.withholds(progress, self.heard, patience, now)

    def set_timeouts(self, timeouts: CallTimeouts, now: float) -> None:
        """Other timeouts from now on."""
        self._patience = timeouts.stall
        self._lull = timeouts.lull
        super().set_timeouts(timeouts, now)

    def abort(self, code: int, now: float, reason: str = "") -> None:
        """End the call from this side, and tell the peer if it may know of the call."""
        super().abort(code, now, reason)
        if self.connection is None:
            self._bundle.withdraw(self)

    def _ping_due(self) -> float:
        if not self.sending.sent_any:
            return NEVER  # the server does not know of the call
        due = super()._ping_due()
        if self.state is CallState.AWAITING and self._connection.peer.losses.seen(self.heard):
            # The reply may have begun, and be lost: see `rxrpc.core.reminders`.
            early = doubled(self.context.parameters.lossy_ping_delay, self._asked)
            due = min(due, max(self.sending.acked_at, self._clocks.pinged) + early)
        return due

    def ping(self, now: float) -> bool:
        """Ask the server for a sign of life. False if nothing may be sent to it now."""
        self._asked += 1
        return super().ping(now)
