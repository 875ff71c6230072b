"""The endpoint: finds the connection that a packet belongs to; the four verbs.

A driver calls `receive_datagram` for what comes, then sends what `datagrams_to_send` gives, acts
on `events`, and is back at `deadline` at the latest.
"""

from __future__ import annotations

import errno
import random
from itertools import islice
from typing import TYPE_CHECKING

from rxrpc.core.admission import Admission
from rxrpc.core.batches import newest_acks
from rxrpc.core.bundle import Bundle, BundleKey
from rxrpc.core.client_connection import ClientConnection
from rxrpc.core.context import Context
from rxrpc.core.debugging import DebugResponder
from rxrpc.core.events import CallChanged, Event
from rxrpc.core.parameters import Parameters
from rxrpc.core.peer import Peer
from rxrpc.core.ratelimit import RateLimit
from rxrpc.core.server_connection import ServerConnection
from rxrpc.core.services import Services
from rxrpc.core.snapshot import Snapshot, take_snapshot
from rxrpc.core.statistics import PeerStatistics, Statistics
from rxrpc.errors import (
    CallError,
    CallTimeout,
    EndpointClosed,
    NetworkError,
    ParseError,
    RxCode,
    SecurityLevelError,
)
from rxrpc.security.base import ClientSecurity, ConnectionIdentity, SecurityLevel
from rxrpc.trace import DropReason, PeerUnreachable, Tracer
from rxrpc.wire.control import Abort, Version
from rxrpc.wire.packet import (
    CHANNEL_MASK,
    ROUTE_SIZE,
    Address,
    Header,
    PacketFlag,
    PacketType,
)
from rxrpc.wire.serial import MASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxrpc.core.connection import Connection, ConnectionKey

# As OpenAFS makes epochs: with the high bit a server finds the connection by epoch and cid alone,
# so that a client survives a change of its address. Source: rx.c (rx_InitHost, rxi_FindConnection).
_EPOCH_FIXED = 0x8000_0000
_EPOCH_CLEAR = 0x4000_0000
_OPCODE_SIZE = 4
_CID_STEP = CHANNEL_MASK + 1
_CID_MASK = MASK & ~CHANNEL_MASK


class EndpointCore:
    """Everything behind one UDP socket, in both roles."""

    def __init__(
        self,
        parameters: Parameters | None = None,
        tracer: Tracer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """``rng`` chooses epoch and first cid; by default one that nobody can guess."""
        parameters = parameters or Parameters()
        self.context = Context(parameters, tracer)
        rng = rng or random.SystemRandom()
        self.epoch = rng.getrandbits(32) & ~_EPOCH_CLEAR | _EPOCH_FIXED
        self._next_cid = rng.getrandbits(32) & _CID_MASK
        self._rng = rng
        self._routes = self.context.routes
        self._connections: dict[ConnectionKey, Connection] = {}
        self._server_connections: dict[ConnectionKey, ServerConnection] = {}  # longest idle first
        self._peers: dict[Address, Peer] = {}
        self._bundles: dict[BundleKey, Bundle] = {}  # with connections, or calls that wait
        self.services = Services()
        self._answers = RateLimit(parameters.answers_per_second)
        self._fast_packets = 0
        self.admission = Admission(parameters)
        self._debug = DebugResponder(
            self.context, self._connections, self._peers, self.admission, self.statistics
        )

    @property
    def parameters(self) -> Parameters:
        """Those in use now."""
        return self.context.parameters

    def configure(self, parameters: Parameters) -> None:
        """Use other parameters from now on.

        A call that has begun keeps its timeouts and its windows for sending.
        """
        self.context.configure(parameters)
        self.admission.parameters = parameters
        self._answers.per_second = parameters.answers_per_second
        self._debug.configure(parameters)
        for peer in self._peers.values():
            peer.configure(parameters)
            self.context.timers.update(peer)
        for connection in self._connections.values():
            self.context.timers.update(connection)
            for call in connection.calls:
                if call is not None:
                    self.context.timers.update(call)

    # The four verbs

    def receive_datagram(self, data: bytes, address: Address, now: float) -> None:
        """Take in a datagram. Nothing that a peer sends raises out of here."""
        call = self._routes.get(data[:ROUTE_SIZE])
        if call is not None and call.take(data, address, now):
            self._fast_packets += 1
        else:
            self._receive(data, address, now)

    def receive_batch(self, batch: Sequence[tuple[bytes, Address]], now: float) -> None:
        """Take in datagrams that came together. The same as one by one, and less work.

        Who watches every packet is told of every packet.
        """
        journal = self.context.journal
        if len(batch) > 1 and not journal.every_packet:
            kept = newest_acks(batch)
            journal.received[PacketType.ACK] += len(batch) - len(kept)
            batch = kept
        for data, address in batch:
            self.receive_datagram(data, address, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent now. Afterwards `deadline` is later than ``now``."""
        context = self.context
        context.timers.run(now)
        while context.dirty:
            dirty, context.dirty = context.dirty, []
            for call in dirty:
                call.transmit(now)
        datagrams, context.outbox = context.outbox, []
        return datagrams

    def deadline(self) -> float:
        """When `datagrams_to_send` is next needed, if nothing happens before; may be infinite."""
        return self.context.timers.deadline()

    def events(self) -> Sequence[Event]:
        """What has happened since this was last asked."""
        events, self.context.events = self.context.events, []
        for event in events:
            if isinstance(event, CallChanged):
                event.call.announced = False
        return events

    # What the user asks

    def bundle(self, key: BundleKey) -> Bundle:
        """The way to a service; the same for equal keys while it is in use. Sends nothing."""
        bundle = self._bundles.get(key)
        if bundle is None:
            peer = self._peers.get(key.address) or Peer(key.address, self.context)
            bundle = Bundle(self, key, peer)
        return bundle

    def activate(self, bundle: Bundle, now: float) -> Bundle:
        """A call is about to begin; the bundle that carries it."""
        active = self._bundles.get(bundle.key)
        if active is None:
            peer = self._peers.get(bundle.key.address)
            if peer is None:
                self._forget_idle_peers(now)
                peer = self._add_peer(bundle.key.address)
            peer.bundles += 1
            bundle.peer = peer
            active = self._bundles[bundle.key] = bundle
        return active

    def on_bundle_changed(self, bundle: Bundle) -> None:
        """Forget a bundle without connections and calls, so that destinations do not pile up."""
        in_use = bundle.connections or bundle.waiting
        if not in_use and self._bundles.get(bundle.key) is bundle:
            del self._bundles[bundle.key]
            bundle.peer.bundles -= 1

    def check_level(
        self, security: ClientSecurity, level: SecurityLevel = SecurityLevel.CLEAR
    ) -> None:
        """Raise `SecurityLevelError` when ``level`` or that of the parameters is not reached."""
        level = max(level, self.parameters.min_security_level)
        if security.level < level:
            raise SecurityLevelError(
                f"security class {security.index} gives {security.level.name}, "
                f"demanded is {level.name}"
            )

    def close(self, now: float) -> None:
        """End everything: calls fail with `EndpointClosed`, peers are told."""
        error = EndpointClosed()
        for bundle in list(self._bundles.values()):
            while bundle.waiting:
                bundle.waiting.popleft().fail(error, now)
            self.on_bundle_changed(bundle)
        for connection in list(self._connections.values()):
            connection.close(error, now)

    def reconnect(self, now: float) -> None:
        """Make all client connections anew: calls under way fail, those that wait do not."""
        error = CallTimeout("reconnect")
        for bundle in list(self._bundles.values()):
            for connection in list(bundle.connections):
                connection.close(error, now)
            bundle.on_channel_free(now)

    def doubt(self, address: Address, now: float) -> None:
        """A peer may have been started anew: our calls that it does not know end soon."""
        peer = self._peers.get(address)
        if peer is None:
            return
        for connection in self._connections_of(peer):
            for call in connection.calls:
                if call is not None and call.is_client:
                    call.doubt(now)

    def network_error(
        self, address: Address, code: int, now: float, *, mtu: int | None = None
    ) -> None:
        """The network, or the kernel, could not deliver a packet to this address.

        ``code`` is an errno; with EMSGSIZE goes ``mtu``, the largest datagram for the way.

        A refusal fails the peer's calls at once: the process that knew them is gone, and whether
        to try again is for the caller to say. It is not believed directly after a packet of that
        very peer, so that a forged one cannot hurt a connection that works; if it was true, the
        next packet is refused as well.
        """
        peer = self._peers.get(address)
        if peer is None:
            return
        self.context.journal.record(now, PeerUnreachable(address, code))
        if code == errno.EMSGSIZE:
            if mtu is not None and peer.reduce_mtu(mtu):
                self._resend_to(peer, now)
        elif now - peer.heard > self.parameters.error_grace:
            self._fail_calls(peer, NetworkError(code), now)

    def trace(self, tracer: Tracer) -> None:
        """Tell another tracer from now on; also of calls that have begun."""
        self.context.journal.use(tracer)
        self._routes.clear()
        if tracer.every_packet:
            return
        for connection in self._connections.values():
            for call in connection.calls:
                if call is not None:
                    call.open_fast_path()

    def statistics(self, now: float) -> Statistics:
        """A picture of what was and is."""
        journal = self.context.journal
        received = {kind: journal.received[kind] for kind in PacketType}
        received[PacketType.DATA] += self._fast_packets
        sent = {kind: journal.sent[kind] for kind in PacketType}
        connections = self._connections.values()
        return Statistics(
            received=received,
            sent=sent,
            drops=dict(journal.drops),
            resent=journal.data_resent,
            client_connections=len(connections) - len(self._server_connections),
            server_connections=len(self._server_connections),
            active_calls=sum(connection.active for connection in connections),
            waiting_calls=sum(len(bundle.waiting) for bundle in self._bundles.values()),
            server_calls=self.admission.calls,
            buffered=self.context.buffered,
            peers=tuple(
                PeerStatistics(
                    peer.address, peer.rtt.smoothed, peer.mtu, now - peer.heard, peer.connections
                )
                for peer in self._peers.values()
            ),
        )

    def snapshot(self, now: float) -> Snapshot:
        """A picture of every peer, bundle, connection and call."""
        return take_snapshot(
            self.statistics(now),
            self._peers.values(),
            self._bundles.values(),
            self._connections.values(),
            now,
        )

    # Packets that take the long way

    def _receive(self, data: bytes, address: Address, now: float) -> None:
        journal = self.context.journal
        try:
            header, body = Header.parse(data)
        except ParseError as exc:
            journal.drop(now, address, DropReason.MALFORMED, None, str(exc))
            return
        journal.received[header.type] += 1
        if journal.every_packet:
            journal.packet_received(now, address, header, body)
        if header.type is PacketType.VERSION:
            self._on_version(header, body, address, now)
            return
        if header.type is PacketType.DEBUG:
            self._debug.receive(header, body, address, now)
            return
        if header.type is PacketType.PARAMS:
            journal.drop(now, address, DropReason.UNSUPPORTED, header)
            return
        # Who is client and who is server of the connection is said by the packet alone.
        key = (address, header.epoch, header.cid & _CID_MASK, not header.from_client)
        connection = self._connections.get(key)
        if connection is None and header.from_client:
            connection = self._accept(header, len(body), address, now)
        elif connection is None:
            journal.drop(now, address, DropReason.UNKNOWN_CONNECTION, header)
        if connection is not None:
            connection.receive(header, bytes(body), now)

    def _on_version(self, header: Header, body: memoryview, address: Address, now: float) -> None:
        """Tell our version, to who asks as a client; an answer of another is no question.

        `rxdebug` asks with a single byte, so longer answers count as those to DEBUG packets do.
        """
        journal = self.context.journal
        if not header.from_client:
            if (peer := self._peers.get(address)) is None:
                journal.drop(now, address, DropReason.UNEXPECTED, header)
            else:
                peer.on_version(now)
        elif self._may_answer(header, address, now):
            reply = self._reply_header(header, PacketType.VERSION)
            answer = Version(self.parameters.version).build()
            if self._debug.may_send(len(answer), len(body), address[0], now):
                self.context.post(reply, answer, address, now)
            else:
                journal.drop(now, address, DropReason.RATE_LIMITED, header)

    def _reply_header(self, header: Header, kind: PacketType) -> Header:
        """A header for somebody with whom there is no connection."""
        return Header(
            header.epoch, header.cid, header.call_number, 0, 0, kind, PacketFlag.NONE, 0,
            header.security_index, 0, header.service_id,
        )  # fmt: skip

    def _may_answer(self, header: Header, address: Address, now: float) -> bool:
        if self.may_answer(now):
            return True
        self.context.journal.drop(now, address, DropReason.RATE_LIMITED, header)
        return False

    def may_answer(self, now: float) -> bool:
        """Whether one more answer may go to somebody who need not be who he says."""
        return self._answers.allow(now)

    # Strangers

    def _accept(
        self, header: Header, length: int, address: Address, now: float
    ) -> ServerConnection | None:
        """A connection for a packet of an unknown client; only DATA of a new call makes one."""
        journal = self.context.journal
        if header.type is not PacketType.DATA or header.call_number == 0:
            journal.drop(now, address, DropReason.UNKNOWN_CONNECTION, header)
            return None
        if not 0 < header.seq <= self.parameters.receive_window:
            journal.drop(now, address, DropReason.BEYOND_WINDOW, header)
            return None
        if self.services.waits_for_first(header):
            journal.drop(now, address, DropReason.UNKNOWN_CONNECTION, header)
            return None
        found = self.services.find(header)
        if found is None:
            journal.drop(now, address, DropReason.UNKNOWN_SERVICE, header)
            self._refuse(header, length, address, now)
            return None
        peer = self._peers.get(address) or self._new_stranger(address, now)
        if peer is None or not self._make_room(now):
            journal.drop(now, address, DropReason.TOO_MANY, header)
            return None
        cid = header.cid & _CID_MASK
        service, security = found
        identity = ConnectionIdentity(header.epoch, cid, header.service_id, header.security_index)
        connection = ServerConnection(
            self, peer, header.epoch, cid, service.service_id, header.security_index,
            security.accept(identity), now,
        )  # fmt: skip
        connection.service = service
        connection.asked_id = header.service_id
        connection.count_from(self._rng)
        self._connections[connection.key] = connection
        self._server_connections[connection.key] = connection
        self.context.timers.update(connection)  # it may never carry a call
        return connection

    def _refuse(self, header: Header, length: int, address: Address, now: float) -> None:
        """There is no such service here; what is too short for an opcode is not worth a word."""
        if length >= _OPCODE_SIZE and self._may_answer(header, address, now):
            reply = self._reply_header(header, PacketType.ABORT)
            self.context.post(reply, Abort(RxCode.INVALID_OPERATION).build(), address, now)

    def _make_room(self, now: float) -> bool:
        """See to it that one more server connection may exist; the longest idle one goes."""
        if len(self._server_connections) < self.parameters.max_server_connections:
            return True
        for connection in self._server_connections.values():
            if not connection.active:
                connection.discard(now, "room for another")
                return True
        return False

    # Connections and peers

    def open_connection(self, bundle: Bundle, now: float) -> ClientConnection:
        """A new connection of ours, under a cid that is not in use."""
        while True:
            cid = self._next_cid
            self._next_cid = (cid + _CID_STEP) & _CID_MASK
            key = (bundle.peer.address, self.epoch, cid, True)
            if key not in self._connections:
                break
        security = bundle.security
        identity = ConnectionIdentity(self.epoch, cid, bundle.service_id, security.index)
        connection = ClientConnection(
            self, bundle.peer, self.epoch, cid, bundle.service_id, security.index,
            security.connect(identity), now,
        )  # fmt: skip
        connection.bundle = bundle
        self._connections[key] = connection
        return connection

    def on_connection_closed(self, connection: Connection) -> None:
        """A connection is no more."""
        self._connections.pop(connection.key, None)
        self._server_connections.pop(connection.key, None)
        if isinstance(connection, ClientConnection):
            connection.bundle.remove(connection)

    def on_server_idle(self, connection: ServerConnection) -> None:
        """A server connection has no call any more: it is now the one that was idle least."""
        del self._server_connections[connection.key]
        self._server_connections[connection.key] = connection

    def _add_peer(self, address: Address) -> Peer:
        peer = self._peers[address] = Peer(address, self.context)
        return peer

    def _new_stranger(self, address: Address, now: float) -> Peer | None:
        """Remember an address, if there is room."""
        self._forget_idle_peers(now)
        if len(self._peers) >= self.parameters.max_peers:
            idle = next((known for known in self._peers.values() if self._is_idle(known)), None)
            if idle is None:
                return None
            self._forget_peer(idle)
        return self._add_peer(address)

    def _forget_idle_peers(self, now: float) -> None:
        """Forget addresses of which nothing was heard for long: two are looked at for each new."""
        for known in list(islice(self._peers.values(), 2)):
            del self._peers[known.address]
            if not (self._is_idle(known) and known.is_forgettable(now)):
                self._peers[known.address] = known  # its turn comes again, after all others
            else:
                self.context.timers.retire(known)

    def _is_idle(self, peer: Peer) -> bool:
        return not (peer.connections or peer.bundles)

    def _forget_peer(self, peer: Peer) -> None:
        self.context.timers.retire(peer)
        del self._peers[peer.address]

    def _connections_of(self, peer: Peer) -> list[Connection]:
        return [c for c in self._connections.values() if c.peer is peer]

    def _fail_calls(self, peer: Peer, error: CallError, now: float) -> None:
        for connection in self._connections_of(peer):
            for call in list(connection.calls):
                if call is not None:
                    call.fail(error, now)

    def _resend_to(self, peer: Peer, now: float) -> None:
        for connection in self._connections_of(peer):
            for call in connection.calls:
                if call is not None and not call.over:
                    call.sending.resend_all(now)
                    call.mark()
