"""Which ACKs of a batch are read."""

from __future__ import annotations

from rxrpc.core.batches import newest_acks
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import Header, PacketFlag, PacketType

HERE, THERE = ("192.0.2.1", 7000), ("192.0.2.2", 7000)
Datagram = tuple[bytes, tuple[str, int]]


def packet(
    kind: PacketType,
    serial: int,
    body: bytes,
    *,
    call: int = 1,
    flags: PacketFlag = PacketFlag.NONE,
    address: tuple[str, int] = HERE,
) -> Datagram:
    header = Header(1, 4, call, 0, serial, kind, flags, 0, 0, 0, 1)
    return header.build() + body, address


def ack(serial: int, reason: AckReason = AckReason.DELAY, **more: object) -> Datagram:
    return packet(PacketType.ACK, serial, Ack(1, 0, 0, reason).build(), **more)  # type: ignore[arg-type]


def test_of_plain_acks_the_newest_counts() -> None:
    batch = [ack(serial) for serial in range(1, 20)]
    assert newest_acks(batch) == [batch[-1]]
    mixed = [ack(1, AckReason.REQUESTED), ack(2, AckReason.IDLE), ack(3)]
    assert newest_acks(mixed) == [mixed[-1]]


def test_what_asks_for_something_stays_and_the_order_too() -> None:
    data = packet(PacketType.DATA, 3, bytes(100))
    ping, response = ack(2, AckReason.PING), ack(5, AckReason.PING_RESPONSE)
    duplicate = ack(4, AckReason.DUPLICATE)
    batch = [ack(1), ping, data, duplicate, response, ack(6)]
    assert newest_acks(batch) == [ping, data, duplicate, response, batch[-1]]


def test_calls_peers_and_directions_are_apart() -> None:
    batch = [
        ack(1),
        ack(2, call=2),
        ack(3, address=THERE),
        ack(4, flags=PacketFlag.CLIENT_INITIATED),
    ]
    assert newest_acks(batch) == batch


def test_one_that_was_overtaken_on_its_way_goes_and_a_newer_one_stays() -> None:
    batch = [ack(2), ack(5), ack(3)]
    assert newest_acks(batch) == [batch[1], batch[2]]  # the core takes the newer one's word
    wrapped = [ack(0xFFFFFFFF), ack(1)]
    assert newest_acks(wrapped) == [wrapped[1]]


def test_what_is_too_short_for_an_ack_is_left_to_the_core() -> None:
    short = packet(PacketType.ACK, 1, b"short")
    assert newest_acks([short, (b"", HERE), ack(2)]) == [short, (b"", HERE), ack(2)]
