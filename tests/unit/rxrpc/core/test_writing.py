"""What the packets of a call look like from outside."""

import pytest

from rxrpc.core.receiving import Receiving
from rxrpc.core.sending import Outgoing
from rxrpc.core.writing import PacketWriter
from rxrpc.errors import CallAborted, CallBusy
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import LAST_PACKET, REQUEST_ACK, Header, PacketFlag, PacketType
from tests.pair.world import NO_REACH_CHECK, Pair, silent


class Writer:
    """A writer for a call that is under way at one end, and what it writes."""

    def __init__(self, *, client: bool) -> None:
        pair = Pair(server=NO_REACH_CHECK)
        pair.on_server = silent
        call = pair.call(b"x")
        pair.run(lambda: bool(pair.incoming))
        core = pair.client if client else pair.server
        connection = call.connection if client else pair.incoming[0].connection
        assert connection is not None
        self.context = core.context
        self.context.outbox.clear()
        self.packets = PacketWriter(self.context, connection, 2, 77)

    def take(self) -> tuple[Header, bytes]:
        ((data, _address),) = self.context.outbox
        self.context.outbox.clear()
        header, body = Header.parse(data)
        assert header.call_number == 77
        assert header.channel == 2
        return header, bytes(body)


@pytest.mark.parametrize("client", [True, False])
def test_data(*, client: bool) -> None:
    writer = Writer(client=client)
    packet = Outgoing(5, b"payload", 1234, LAST_PACKET)
    serial = writer.packets.data(packet, REQUEST_ACK, 1.0)
    header, body = writer.take()
    assert (header.type, header.seq, header.checksum) == (PacketType.DATA, 5, 1234)
    assert (header.serial, header.flags, body) == (serial, LAST_PACKET | REQUEST_ACK, b"payload")


@pytest.mark.parametrize("client", [True, False])
def test_acks(*, client: bool) -> None:
    writer = Writer(client=client)
    receiving = Receiving(writer.context, is_client=client, transparent=True, now=0.0)
    receiving.accept(1, 9, 0, b"x", 0.0)
    for reason in (AckReason.DELAY, AckReason.PING):
        serial = writer.packets.ack(receiving, reason, 9, 1.0)
        header, body = writer.take()
        ack = Ack.parse(body)
        assert (ack.first, ack.previous, ack.serial, ack.reason) == (2, 1, 9, reason)
        assert (header.type, header.serial, header.seq) == (PacketType.ACK, serial, 0)
        assert header.from_client is client
        assert header.flags & PacketFlag.SLOW_START_OK
        assert bool(header.flags & REQUEST_ACK) is (reason is AckReason.PING)


@pytest.mark.parametrize("client", [True, False])
def test_aborts(*, client: bool) -> None:
    writer = Writer(client=client)
    for error, code in ((CallAborted(4711), 4711), (CallBusy(), -1)):
        writer.packets.abort(error, 1.0)
        header, body = writer.take()
        assert header.type is PacketType.ABORT
        assert header.from_client is client
        assert Abort.parse(body).code == code
