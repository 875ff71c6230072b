"""A connection that a stranger opened to one of our services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.connection import Connection
from rxrpc.core.server_call import ServerCall
from rxrpc.core.states import CallState
from rxrpc.core.timers import NEVER
from rxrpc.errors import RxCode, SecurityError
from rxrpc.trace import DropReason
from rxrpc.wire.packet import CHANNELS, HEADER_SIZE, MAX_DATAGRAM, Header, PacketType
from rxrpc.wire.serial import MASK, add, before

if TYPE_CHECKING:
    import random

    from rxrpc.core.services import ServiceEntry
    from rxrpc.wire.ack import Ack


# A ping to a stranger. His first packet counts as one at least: requests of AFS without arguments
# have 32 bytes, and would else have to come twice.
_PING_SIZE = 49
_SERIAL_BITS = 30  # of the first serial: peers may compare serials with 0


class ServerConnection(Connection):
    """Up to four calls of one client.

    Calls wait until the client has answered a ping, which somebody who writes another's address
    into his packets cannot do, and, where the security class asks for it, a challenge.
    """

    is_client = False
    service: ServiceEntry
    terse = True  # until the client's address is proven to be its own; then for good
    _origin = 0  # serial before the first one
    _hears_us = False  # has shown that
    _asked_mtu = MAX_DATAGRAM
    _credit = 0  # bytes that came and were not answered, until then
    _heard_any = False
    _challenges = 0
    _ask_at = NEVER  # when to ask the client again

    def count_from(self, rng: random.Random) -> None:
        """Begin with a serial that nobody can guess who does not see our packets.

        An answer to a ping names its serial: that is all that proves that the ping has arrived.
        """
        self._serial = self._origin = rng.getrandbits(_SERIAL_BITS)

    @property
    def hears_us(self) -> bool:
        """Whether the client has named a packet of ours, on this very connection."""
        return self._hears_us or not self.context.parameters.check_reach

    def on_ack(self, ack: Ack) -> None:
        """An ACK that makes sense has come. Its sizes are of all packets to the client, or of ours.

        Somebody who writes another's address into his packets must not make those small that go
        there. Who names a packet of ours hears us.
        """
        behind = (ack.serial - self._origin) & MASK
        self._hears_us = self._hears_us or 0 < behind <= (self._serial - self._origin) & MASK
        if self._hears_us:
            super().on_ack(ack)
        if ack.trailer is not None:
            self._asked_mtu = min(ack.trailer.max_mtu, ack.trailer.interface_mtu)

    @property
    def payload_size(self) -> int:
        """Bytes of payload in the largest DATA packet of a new call."""
        asked = max(self._asked_mtu, self.context.parameters.min_mtu)
        return self.security.capacity(min(asked, self.peer.mtu) - HEADER_SIZE)

    def receive(self, header: Header, body: bytes, now: float) -> None:
        """Feed one packet. As many bytes as came may go back before the client is proven."""
        if self.terse:
            self.terse = not self._is_reached(now)
            size = HEADER_SIZE + len(body)
            self._credit = self._credit + size if self._heard_any else max(size, _PING_SIZE)
            self._heard_any = True
        super().receive(header, body, now)

    def send(
        self,
        kind: PacketType,
        body: bytes,
        now: float,
        *,
        channel: int = 0,
        call_number: int = 0,
        seq: int = 0,
        flags: int = 0,
        checksum: int = 0,
    ) -> int:
        """Hand out a packet; its serial number, or 0 if it is withheld.

        Somebody who writes another's address into his packets must not be able to have us send
        more there than he sends himself. What is withheld is as good as lost on the way: who asks
        in earnest asks again, and that brings more credit.
        """
        if self.terse and not self._is_reached(now):
            size = HEADER_SIZE + len(body)
            if size > self._credit:
                detail = f"{kind.name} withheld"
                self.context.journal.drop(
                    now, self.peer.address, DropReason.RATE_LIMITED, None, detail
                )
                return 0
            self._credit -= size
        else:
            self.terse = False
        return super().send(
            kind, body, now, channel=channel, call_number=call_number, seq=seq, flags=flags,
            checksum=checksum,
        )  # fmt: skip

    def _on_call_packet(self, header: Header, body: bytes, now: float) -> None:
        channel = header.channel
        call = self.calls[channel]
        if call is not None and call.number == header.call_number:
            call.receive(header, body, now)
            self._check_client(now)
            return
        if before(header.call_number, self.numbers[channel]) or (
            call is None and header.call_number == self.numbers[channel]
        ):
            self.drop(now, DropReason.OLD_CALL, header)
        elif header.type is not PacketType.DATA:
            self.drop(now, DropReason.NO_CALL_YET, header)
        elif not 0 < header.seq <= self.context.parameters.receive_window:
            # Of a call that was under way before we were started: no answer would be right.
            self.drop(now, DropReason.BEYOND_WINDOW, header)
        else:
            self._begin(header, body, now)

    def _begin(self, header: Header, body: bytes, now: float) -> None:
        """A new call, if there is room for it."""
        before_it = self.calls[header.channel]
        if before_it is not None and not before_it.over:
            assert isinstance(before_it, ServerCall)
            before_it.supersede(now)
        call = ServerCall(self.context, self.peer, self.service, now)
        if self.service.full or not self.core.admission.begin(call, now):
            self.drop(now, DropReason.TOO_MANY, header)
            if self.core.may_answer(now):
                self.send(
                    PacketType.BUSY,
                    b"",
                    now,
                    channel=header.channel,
                    call_number=header.call_number,
                )
            return
        self.numbers[header.channel] = header.call_number
        self.add(call, header.channel)
        call.bind(self, header.channel, header.call_number, now)
        call.receive(header, body, now)
        self._check_client(now)
        self.context.timers.update(call)

    def on_call_over(self, call: object, now: float) -> None:
        """A call has ended."""
        assert isinstance(call, ServerCall)
        super().on_call_over(call, now)
        self.core.admission.end(call)
        if not call.admitted:
            call.release()
        if not self.active:
            self.core.on_server_idle(self)
        self.context.timers.update(self)

    # Who the client is

    def may_admit(self, now: float) -> bool:
        """Whether calls may go to the service."""
        return self.security.established and self._is_reached(now)

    def _is_reached(self, now: float) -> bool:
        return not self.context.parameters.check_reach or self.peer.is_reached(now)

    def _check_client(self, now: float) -> None:
        """Ask for what is missing, when calls wait for it."""
        call = self._waiting_call()
        if call is None or self.may_admit(now):
            self._ask_at = NEVER
        elif self._ask_at == NEVER or now >= self._ask_at:
            if self._is_reached(now):
                self._ask_at = now + self.context.parameters.challenge_interval
                self._challenge(now)
            elif call.ping(now):
                self._ask_at = now + self.context.parameters.reach_interval
            else:
                self._ask_at = NEVER  # the next packet brings credit
            self.context.timers.update(self)

    def _challenge(self, now: float) -> None:
        if self._challenges >= self.context.parameters.max_challenges:
            self.abort(RxCode.CALL_TIMEOUT, now)
            return
        self._challenges += 1
        try:
            body = self.security.challenge()
        except SecurityError as exc:
            self.abort(exc.code, now)
            return
        self.send(PacketType.CHALLENGE, body, now)

    def _waiting_call(self) -> ServerCall | None:
        """A call that could be shown to the service if the client were known."""
        for call in self.calls:
            if (
                isinstance(call, ServerCall)
                and not call.admitted
                and call.state in (CallState.REQUEST, CallState.SERVING)
            ):
                return call
        return None

    def _admit_waiting(self, now: float) -> None:
        for call in self.calls:
            if isinstance(call, ServerCall):
                call.admit(now)

    def on_reached(self, now: float) -> None:
        """The client has answered a ping."""
        super().on_reached(now)
        self._ask_at = NEVER
        self._admit_waiting(now)
        self._check_client(now)

    def _on_response(self, header: Header, body: bytes, now: float) -> None:
        if self.security.established:
            self.drop(now, DropReason.UNEXPECTED, header)
            return
        try:
            numbers = self.security.accept_response(body)
        except SecurityError as exc:
            self.drop(now, DropReason.INSECURE, header, str(exc))
            self.abort(exc.code, now)
            return
        for channel, number in enumerate(numbers[:CHANNELS]):
            if number and self.calls[channel] is None:
                # What was over before this one is no new call, should it come late. The call with
                # this very number may be under way: its first packet need not have come yet.
                self.numbers[channel] = add(number, -1)
        for call in list(self.calls):
            if isinstance(call, ServerCall):
                call.on_established(now)
        self._admit_waiting(now)

    def next_timer(self) -> float:
        """When `on_timer` has something to do."""
        return min(super().next_timer(), self._ask_at)

    def on_timer(self, now: float) -> None:
        """Ask the client again, or forget it when it was idle for long."""
        if now >= self._ask_at:
            self._check_client(now)
        else:
            super().on_timer(now)

    def _idle_time(self) -> float:
        return self.context.parameters.server_idle_time
