"""Answers to DEBUG packets: what OpenAFS's `rxdebug` shows of an endpoint.

The protocol asks with 8 bytes and is answered with up to 284 (behind 28 of header each), and
`rxdebug` does not pad its question: whoever writes another's address into such packets can have us
send that other nearly nine times as much as he sends. OpenAFS lives with that. Here who asks
decides:

- this machine (127/8) gets every answer;
- a host that we call, or that has lately proven that its address is its own, gets
  `Parameters.debug_answers_per_second`;
- of strangers the same, but answers longer than their questions come to no more than
  `Parameters.debug_stranger_bytes` a second for all of them together. A question that is padded
  to the length of its answer is not bound by that.

Epochs, cids, serials and call numbers are what somebody who cannot see a connection's packets
would need to forge some, so these are told to this machine and to the connection's own peer only;
everybody else reads zeros. Source of the questions: rx_packet.c (rxi_ReceiveDebugPacket).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, cast

from rxrpc.core.ratelimit import RateLimit
from rxrpc.core.states import CallState
from rxrpc.errors import ParseError
from rxrpc.security.base import SecurityIndex
from rxrpc.trace import DropReason
from rxrpc.wire.debug import (
    BAD_QUESTION,
    CONNECTION_END,
    COUNTED_TYPES,
    PEER_END,
    VERSION,
    BasicAnswer,
    CallFlag,
    CallMode,
    CallQueue,
    CallStage,
    ConnectionAnswer,
    ConnectionFlag,
    DebugQuestion,
    DebugRequest,
    Four,
    PeerAnswer,
    SecurityAnswer,
    SecurityKind,
    StatisticsAnswer,
)
from rxrpc.wire.packet import LAST_PACKET, Address, Header, PacketType
from rxrpc.wire.serial import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rxrpc.core.admission import Admission
    from rxrpc.core.call import Call
    from rxrpc.core.connection import Connection, ConnectionKey
    from rxrpc.core.context import Context
    from rxrpc.core.parameters import Parameters
    from rxrpc.core.peer import Peer
    from rxrpc.core.statistics import Statistics

_SHORT = 0xFFFF
_MICRO = 1_000_000

_MODES = {
    CallState.SENDING: CallMode.SENDING,
    CallState.AWAITING: CallMode.RECEIVING,
    CallState.RECEIVING: CallMode.RECEIVING,
    CallState.REQUEST: CallMode.RECEIVING,
    CallState.SERVING: CallMode.RECEIVING,
    CallState.REPLYING: CallMode.SENDING,
    CallState.CONFIRMING: CallMode.SENDING,
    CallState.COMPLETE: CallMode.EOF,
    CallState.FAILED: CallMode.ERROR,
}
_KINDS = {
    int(SecurityIndex.NULL): SecurityKind.NULL,
    int(SecurityIndex.RXKAD): SecurityKind.RXKAD,
    int(SecurityIndex.RXGK): SecurityKind.RXGK,
    int(SecurityIndex.YFS_RXGK): SecurityKind.RXGK,
}


class DebugResponder:
    """Knows what an endpoint has, and whom to tell."""

    def __init__(
        self,
        context: Context,
        connections: Mapping[ConnectionKey, Connection],
        peers: Mapping[Address, Peer],
        admission: Admission,
        statistics: Callable[[float], Statistics],
    ) -> None:
        """The mappings are the endpoint's own, which change."""
        parameters = context.parameters
        self._context = context
        self._connections = connections
        self._peers = peers
        self._admission = admission
        self._statistics = statistics
        self._answers = RateLimit(parameters.debug_answers_per_second)
        self._surplus = RateLimit(parameters.debug_stranger_bytes)

    def configure(self, parameters: Parameters) -> None:
        """Other bounds from now on."""
        self._answers.per_second = parameters.debug_answers_per_second
        self._surplus.per_second = parameters.debug_stranger_bytes

    def receive(self, header: Header, body: memoryview, address: Address, now: float) -> None:
        """Answer a question, if the operator and the bounds allow it."""
        drop = self._context.journal.drop
        if not self._context.parameters.debug:
            drop(now, address, DropReason.UNSUPPORTED, header)
            return
        if not header.from_client:  # an answer: two endpoints must not answer each other
            drop(now, address, DropReason.UNEXPECTED, header)
            return
        try:
            request = DebugRequest.parse(body)
        except ParseError as exc:
            drop(now, address, DropReason.MALFORMED, header, str(exc))
            return
        local = address[0].startswith("127.")
        if not local and not self._answers.allow(now):  # before anything that takes time
            drop(now, address, DropReason.RATE_LIMITED, header)
            return
        answer = self._answer(request, address[0], now, local=local)
        if not self.may_send(len(answer), len(body), address[0], now):
            drop(now, address, DropReason.RATE_LIMITED, header)
            return
        reply = Header(
            header.epoch, header.cid, header.call_number, 0, 0, PacketType.DEBUG, LAST_PACKET, 0,
            0, 0, header.service_id,
        )  # fmt: skip
        self._context.post(reply, answer, address, now)

    def may_send(self, size: int, asked: int, host: str, now: float) -> bool:
        """Whether a host that need not be who it says may get an answer of that size."""
        return (
            size <= asked
            or host.startswith("127.")
            or self._is_known(host, now)
            or self._surplus.allow(now, size)
        )

    def _is_known(self, host: str, now: float) -> bool:
        """Whether we call the host, or it has lately proven that its address is its own."""
        return any(
            peer.address[0] == host and (peer.bundles or peer.is_reached(now))
            for peer in self._peers.values()
        )

    def _answer(self, request: DebugRequest, host: str, now: float, *, local: bool) -> bytes:
        match request.question:
            case DebugQuestion.BASIC:
                return self._basic().build()
            case DebugQuestion.CONNECTION | DebugQuestion.INTERESTING_CONNECTION as question:
                connection = self._nth_connection(request.index, question)
                if connection is None:
                    return CONNECTION_END.build()
                return _describe(connection, now, ids=local or connection.peer.address[0] == host)
            case DebugQuestion.STATISTICS:
                return self._counters(now).build()
            case DebugQuestion.PEER:
                peer = next(islice(self._peers.values(), max(request.index, 0), None), None)
                return (PEER_END if peer is None else _describe_peer(peer)).build()
            case unknown:
                return DebugRequest(BAD_QUESTION, unknown).build()

    def _nth_connection(self, index: int, question: int) -> Connection | None:
        """Connections have no numbers, so one that goes meanwhile makes a list skip another."""
        every = question == DebugQuestion.CONNECTION
        chosen = (c for c in self._connections.values() if every or _is_interesting(c))
        return next(islice(chosen, max(index, 0), None), None)

    def _basic(self) -> BasicAnswer:
        """OpenAFS tells of packet buffers and threads; here bounds stand in their place."""
        parameters, admission = self._context.parameters, self._admission
        return BasicAnswer(
            free_packets=max(parameters.max_buffered_packets - self._context.buffered, 0),
            reclaims=0,
            calls=admission.proven & MASK,
            waiting_for_packets=0,
            used_files=1,
            version=VERSION,
            waiting=admission.unproven,
            idle=max(parameters.max_server_calls - admission.calls, 0),
            waited=0,
            packets=parameters.max_buffered_packets,
        )

    def _counters(self, now: float) -> StatisticsAnswer:
        """Counters that mean the same in OpenAFS. Each peer counts as one sample of round trips."""
        statistics = self._statistics(now)
        drops = statistics.drops.get
        read, sent = _by_type(statistics.received), _by_type(statistics.sent)
        rtts = [round(p.rtt * _MICRO) for p in statistics.peers if p.rtt is not None]
        duplicates = drops(DropReason.DUPLICATE, 0)
        return StatisticsAnswer(
            receive_failures=drops(DropReason.NO_SPACE, 0) & MASK,
            malformed=drops(DropReason.MALFORMED, 0) & MASK,
            read=read,
            data_read=read[PacketType.DATA - 1] - duplicates & MASK,
            acks_read=read[PacketType.ACK - 1],
            duplicates_read=duplicates & MASK,
            spurious_read=drops(DropReason.BEYOND_WINDOW, 0) & MASK,
            sent=sent,
            acks_sent=sent[PacketType.ACK - 1],
            aborts_sent=sent[PacketType.ABORT - 1],
            busies_sent=sent[PacketType.BUSY - 1],
            data_sent=sent[PacketType.DATA - 1] - statistics.resent & MASK,
            data_resent=statistics.resent & MASK,
            total_rtt=sum(rtts),
            least_rtt=min(rtts, default=0),
            greatest_rtt=max(rtts, default=0),
            rtt_samples=len(rtts),
            server_connections=statistics.server_connections,
            client_connections=statistics.client_connections,
            peers=len(statistics.peers),
            calls=statistics.active_calls,
            late=drops(DropReason.OLD_CALL, 0) & MASK,
            busies=sent[PacketType.BUSY - 1],
        )


def _by_type(counts: Mapping[PacketType, int]) -> tuple[int, ...]:
    by_number = {int(kind): count & MASK for kind, count in counts.items()}
    return tuple(by_number.get(kind, 0) for kind in range(1, COUNTED_TYPES + 1))


def _is_interesting(connection: Connection) -> bool:
    return connection.active > 0


def _is_precall(call: Call) -> bool:
    return not (call.is_client or call.admitted)


def _describe(connection: Connection, now: float, *, ids: bool) -> bytes:
    """The answer for a connection; without ``ids`` it has none of the numbers of its packets."""
    calls = connection.calls
    security = connection.security
    flags = 0 if security.transparent else ConnectionFlag.PACKET_CHECKSUM
    waits = any(call is not None and _is_precall(call) and not call.over for call in calls)
    if waits and not connection.peer.is_reached(now):
        flags |= ConnectionFlag.ATTACH_WAIT
    kind = _KINDS.get(connection.security_index, SecurityKind.UNKNOWN)
    proven = 2 if security.established and not connection.is_client else 0
    return ConnectionAnswer(
        address=connection.peer.address,
        cid=connection.cid if ids else 0,
        serial=connection.serial if ids else 0,
        call_numbers=_four(connection.numbers) if ids else (0, 0, 0, 0),
        error=0,  # one that has failed is not there any more
        flags=flags,
        is_server=not connection.is_client,
        security_index=connection.security_index & 0xFF,
        stages=_four([_stage(call) for call in calls]),
        modes=_four(
            [CallMode.NONE if call is None else _MODES.get(call.state, 0) for call in calls]
        ),
        call_flags=_four([0 if call is None else _call_flags(call) for call in calls]),
        queues=_four([0 if call is None else _queues(call) for call in calls]),
        security=SecurityAnswer(
            kind,
            security.level,
            0 if kind == SecurityKind.NULL else proven,
            int(security.expires) & MASK,
        ),
        epoch=connection.epoch if ids else 0,
        mtu=connection.peer.mtu,
    ).build()


def _four(values: list[int]) -> Four:
    return cast("Four", tuple(values))


def _stage(call: Call | None) -> int:
    if call is None:
        return CallStage.NONE
    if call.over:
        return CallStage.DALLY
    return CallStage.PRECALL if _is_precall(call) else CallStage.ACTIVE


def _call_flags(call: Call) -> int:
    flags = 0
    if not call.over:
        if not call.room:
            flags |= CallFlag.WAIT_WINDOW_SEND
        if _is_precall(call):
            flags |= CallFlag.WAIT_PROC
    return flags | (CallFlag.RECEIVE_DONE if call.receiving.complete else 0)


def _queues(call: Call) -> int:
    inward = CallQueue.IN if call.receiving.unread else 0
    return inward | (CallQueue.OUT if call.sending.queued else 0)


def _describe_peer(peer: Peer) -> PeerAnswer:
    rtt = peer.rtt.smoothed or 0.0
    return PeerAnswer(
        peer.address,
        interface_mtu=peer.mtu & _SHORT,
        references=min(peer.connections, _SHORT),
        rtt_8ths=round(rtt * 8000),
        rtt_deviation_4ths=round(peer.rtt.variation * 4000),
        packets_sent=peer.packets_sent & MASK,
        packets_resent=peer.packets_resent & MASK,
        nat_mtu=peer.mtu & _SHORT,
        max_mtu=peer.mtu & _SHORT,
        max_datagram_packets=1,
        interface_datagram_packets=1,
        mtu=peer.mtu & _SHORT,
        datagram_packets=1,
        bytes_sent=peer.bytes_sent,
        bytes_received=peer.bytes_received,
    )
