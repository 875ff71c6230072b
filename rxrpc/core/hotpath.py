"""The hot path of a call: the DATA packet that is expected, without detours.

What is here gives the same result as `Call.receive`, which takes what this leaves. Every
microsecond counts: 250 MiB are 190,000 packets.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rxrpc.errors import SecurityError
from rxrpc.security.base import PacketIdentity
from rxrpc.trace import DropReason
from rxrpc.wire.ack import AckReason
from rxrpc.wire.packet import (
    CLIENT_INITIATED,
    DATA,
    HEADER_SIZE,
    LAST_PACKET,
    MORE_PACKETS,
    REQUEST_ACK,
    Address,
    Header,
)
from rxrpc.wire.serial import MASK

if TYPE_CHECKING:
    from rxrpc.core.connection import Connection
    from rxrpc.core.context import Context
    from rxrpc.core.receiving import Receiving

_FAST = struct.Struct("!II2B")  # seq, serial, type, flags: what changes within a call
_SEALED = struct.Struct("!II2B2xH")  # the same, and the checksum
_FAST_OFFSET = 12
_SERVICE = struct.Struct("!H")
_SECURITY_OFFSET = 23
_SERVICE_OFFSET = 26
_IGNORED_FLAGS = REQUEST_ACK | MORE_PACKETS  # DATA with no other flag is plain


class HotPath(ABC):
    """What of a call takes in the packets that nearly all packets are."""

    context: Context
    connection: Connection | None
    channel: int
    number: int
    is_client: bool
    address: Address
    over: bool
    dirty: bool
    heard: float
    receiving: Receiving
    _accepts: int
    _plain_flags: int
    _security_index: int
    _suffix: bytes  # the service, as it stands at the end of headers

    def expect_packets(self) -> None:
        """The call has its place, so what its packets look like is known."""
        connection = self.connection
        assert connection is not None
        self._plain_flags = 0 if self.is_client else CLIENT_INITIATED
        self._security_index = connection.security_index
        self._suffix = _SERVICE.pack(connection.service_id)
        self._cid = connection.cid | self.channel
        self._verify_into = connection.security.verify_into

    def take(self, datagram: bytes, address: Address, now: float) -> bool:
        """The expected plain DATA packet, straight into the reader's buffer.

        False when the datagram is anything else; then it goes the long way, from the start. The
        caller has found this call by the first bytes of the datagram.
        """
        receiving = self.receiving
        size = len(datagram) - HEADER_SIZE
        if not receiving.plain or size <= 0 or address != self.address:
            return not receiving.plain and self._take_sealed(datagram, address, now)
        seq, serial, kind, flags = _FAST.unpack_from(datagram, _FAST_OFFSET)
        if (
            kind != DATA
            or seq != receiving.next
            or datagram[_SECURITY_OFFSET] != self._security_index
            or datagram[_SERVICE_OFFSET:HEADER_SIZE] != self._suffix
        ):
            return False
        if (
            not receiving.fast
            or size > receiving.room
            or flags & ~_IGNORED_FLAGS != self._plain_flags
        ):
            return self._take_in(seq, serial, flags, datagram[HEADER_SIZE:], datagram, now)
        start = receiving.filled
        receiving.filled = end = start + size
        receiving.sink[start:end] = datagram[HEADER_SIZE:]
        receiving.next = receiving.delivered = (seq + 1) & MASK
        receiving.previous = seq
        receiving.serial = serial
        receiving.paused = not flags & MORE_PACKETS
        receiving.pending += 1
        receiving.bytes += size
        receiving.room -= size
        receiving.progress_at = self.heard = now
        if flags & REQUEST_ACK and receiving.urgent is None:
            receiving.urgent, receiving.urgent_serial = AckReason.REQUESTED, serial
        if not receiving.room:
            receiving.sink_full()
            self.wake_reader()
        if not self.dirty:
            self.dirty = True
            self.context.dirty.append(self)  # type: ignore[arg-type]  # a HotPath is a Call
        return True

    def _take_sealed(self, datagram: bytes, address: Address, now: float) -> bool:
        """As `take`, of a connection whose packets are protected.

        A packet that is refused goes the long way, which says so to whom it concerns.
        """
        receiving = self.receiving
        if len(datagram) <= HEADER_SIZE or address != self.address:
            return False
        seq, serial, kind, flags, checksum = _SEALED.unpack_from(datagram, _FAST_OFFSET)
        if (
            kind != DATA
            or seq != receiving.next
            or datagram[_SECURITY_OFFSET] != self._security_index
            or datagram[_SERVICE_OFFSET:HEADER_SIZE] != self._suffix
        ):
            return False
        size = -1
        start = receiving.filled
        if receiving.fast and receiving.room and flags & ~_IGNORED_FLAGS == self._plain_flags:
            try:
                size = self._verify_into(
                    self._cid, self.number, seq, checksum, datagram, receiving.sink, start
                )
            except SecurityError:
                return False
        if size <= 0:
            return self._take_sealed_short(seq, serial, flags, datagram, checksum, now)
        receiving.filled = start + size
        receiving.next = receiving.delivered = (seq + 1) & MASK
        receiving.previous = seq
        receiving.serial = serial
        receiving.paused = not flags & MORE_PACKETS
        receiving.pending += 1
        receiving.bytes += size
        receiving.room -= size
        receiving.progress_at = self.heard = now
        if flags & REQUEST_ACK and receiving.urgent is None:
            receiving.urgent, receiving.urgent_serial = AckReason.REQUESTED, serial
        if not receiving.room:
            receiving.sink_full()
            self.wake_reader()
        if not self.dirty:
            self.dirty = True
            self.context.dirty.append(self)  # type: ignore[arg-type]  # a HotPath is a Call
        return True

    def _take_sealed_short(
        self, seq: int, serial: int, flags: int, datagram: bytes, checksum: int, now: float
    ) -> bool:
        """As `_take_sealed`, for what does not fit into the reader's buffer, or ends the stream."""
        connection = self.connection
        assert connection is not None
        try:
            payload = connection.security.verify(
                PacketIdentity(self._cid, self.number, seq), checksum, datagram[HEADER_SIZE:]
            )
        except SecurityError:
            return False
        return self._take_in(seq, serial, flags, payload, datagram, now)

    def _take_in(
        self, seq: int, serial: int, flags: int, payload: bytes, datagram: bytes, now: float
    ) -> bool:
        """As `take`: an expected packet at the beginning or end of its stream, or unasked for.

        A short reply consists of nothing else. False as well.
        """
        if (
            flags & ~(_IGNORED_FLAGS | LAST_PACKET) != self._plain_flags
            or not self._accepts >> DATA & 1
            or self.over
        ):
            return False
        drop = self.receiving.accept(seq, serial, flags, payload, now)
        if drop is not None:
            self._drop(now, drop, Header.parse(datagram)[0])
        if drop is not DropReason.BEYOND_END:
            self._heard_from(now)
        self._after_data(now)
        self.mark()
        return True

    @abstractmethod
    def mark(self) -> None:
        """The call may have something to send."""

    @abstractmethod
    def wake_reader(self) -> None:
        """Tell the user if what it waits to read is there."""

    @abstractmethod
    def _drop(self, now: float, reason: DropReason, header: Header, detail: str = "") -> None:
        """A packet has no effect."""

    @abstractmethod
    def _heard_from(self, now: float) -> None:
        """The peer has given a sign of life."""

    @abstractmethod
    def _after_data(self, now: float) -> None:
        """DATA has come."""
