"""The packets of one call, as they are handed to its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxrpc.core.outcomes import abort_code
from rxrpc.wire.ack import AckReason, build_ack
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import CLIENT_INITIATED, REQUEST_ACK, SLOW_START_OK, PacketType

if TYPE_CHECKING:
    from rxrpc.core.connection import Connection
    from rxrpc.core.context import Context
    from rxrpc.core.receiving import Receiving
    from rxrpc.core.sending import Outgoing
    from rxrpc.errors import CallError


class PacketWriter:
    """Knows what the headers of a call's packets have in common."""

    __slots__ = ("_channel", "_connection", "_context", "_flags", "_number")

    def __init__(self, context: Context, connection: Connection, channel: int, number: int) -> None:
        self._context = context
        self._connection = connection
        self._channel = channel
        self._number = number
        self._flags = CLIENT_INITIATED if connection.is_client else 0

    def data(self, packet: Outgoing, flags: int, now: float) -> int:
        """A packet of the stream, with flags for this transmission; its serial."""
        return self._connection.send(
            PacketType.DATA,
            packet.body,
            now,
            channel=self._channel,
            call_number=self._number,
            seq=packet.seq,
            flags=packet.flags | flags,
            checksum=packet.checksum,
        )

    def ack(self, receiving: Receiving, reason: int, serial: int, now: float) -> int:
        """What has come in, because of the packet with that serial; the serial of the ACK."""
        first, acks = receiving.table()
        trailer = b"" if self._connection.terse else self._connection.peer.ack_trailer
        body = build_ack(first, receiving.previous, serial, reason, acks, trailer)
        flags = self._flags | SLOW_START_OK
        if reason == AckReason.PING:
            flags |= REQUEST_ACK
        return self._connection.send(
            PacketType.ACK, body, now, channel=self._channel, call_number=self._number, flags=flags
        )

    def abort(self, error: CallError | None, now: float) -> None:
        """The call has ended with this error."""
        code = abort_code(error, is_client=self._connection.is_client)
        self._connection.send(
            PacketType.ABORT, Abort(code).build(), now, channel=self._channel,
            call_number=self._number, flags=self._flags,
        )  # fmt: skip
