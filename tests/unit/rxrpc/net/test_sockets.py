"""Real UDP sockets on the loopback interface."""

import errno
import socket
import struct

import pytest
import trio

from rxrpc.net.sockets import DatagramSocket, UdpSocket, _split, source_of
from rxrpc.wire.packet import Address

LOOPBACK: Address = ("127.0.0.1", 0)
BUFFER = 1 << 20


async def receive(udp: UdpSocket, count: int) -> list[tuple[bytes, Address]]:
    got: list[tuple[bytes, Address]] = []
    with trio.fail_after(5):
        while len(got) < count:
            await udp.wait_readable()
            got += udp.receive(1000)
    return got


async def errors(udp: UdpSocket) -> list[tuple[Address, int]]:
    with trio.fail_after(5):
        await udp.wait_readable()
        while True:
            udp.receive(10)
            found = udp.errors()
            if found:
                return [(error.address, error.errno) for error in found]
            await trio.sleep(0.01)


@pytest.fixture
def pair() -> tuple[UdpSocket, UdpSocket]:
    return UdpSocket(LOOPBACK, BUFFER), UdpSocket(LOOPBACK, BUFFER)


async def test_datagrams_go_and_come(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    plain: DatagramSocket = one
    assert plain.send([(b"hello", other.local_address)]) == 1
    assert await receive(other, 1) == [(b"hello", one.local_address)]
    await one.wait_writable()
    assert one.receive(10) == []
    assert one.errors() == []
    one.close()
    other.close()


@pytest.mark.parametrize("segments", [True, False])
async def test_runs_of_equal_datagrams_arrive_one_by_one(
    pair: tuple[UdpSocket, UdpSocket], segments: bool
) -> None:
    one, other = pair
    one._segments = segments
    target = other.local_address
    sizes = [1440] * 150 + [7, 7, 100] + [1440] * 3 + [30]
    sent = [bytes([n & 255]) * size for n, size in enumerate(sizes)]
    assert one.send([(data, target) for data in sent]) == len(sent)
    assert [data for data, _ in await receive(other, len(sent))] == sent
    one.close()
    other.close()


async def test_long_runs_take_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full packets in a row, more of them than the kernel takes in one call."""
    calls: list[int] = []

    class Counting:
        def sendmsg(self, buffers: list[bytes], *more: object) -> None:
            calls.append(len(buffers))

        def sendto(self, data: bytes, address: object) -> None:
            calls.append(1)

    udp = UdpSocket(LOOPBACK, BUFFER)
    real = udp._socket
    monkeypatch.setattr(udp, "_socket", Counting())
    assert udp.send([(bytes(1440), ("127.0.0.1", 1))] * 128) == 128
    assert sum(calls) == 128
    assert len(calls) == 3
    assert all(number * 1440 < 65_507 for number in calls)
    calls.clear()
    short = [(bytes(size), ("127.0.0.1", 1)) for size in (1440, 1440, 300, 1440, 300, 300, 1440)]
    assert udp.send(short) == 7
    assert calls == [3, 2, 1, 1], "the last of a run may be shorter"
    real.close()


async def test_runs_to_several_addresses(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    third = UdpSocket(LOOPBACK, BUFFER)
    a, b = other.local_address, third.local_address
    one.send([(b"aa", a), (b"aa", a), (b"bb", b), (b"bb", b), (b"aa", a)])
    assert [data for data, _ in await receive(other, 3)] == [b"aa"] * 3
    assert [data for data, _ in await receive(third, 2)] == [b"bb"] * 2
    for udp in (one, other, third):
        udp.close()


async def test_where_the_kernel_cannot_segment_plain_sends_do(
    pair: tuple[UdpSocket, UdpSocket],
) -> None:
    one, other = pair
    target = other.local_address
    # Segments larger than the interface's MTU are refused with EINVAL, datagrams are not.
    big = bytes(30_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        mtu = probe.getsockopt(socket.IPPROTO_IP, 14)
    count = 2
    assert one.send([(big, target)] * count) == count
    got = await receive(other, count)
    assert [len(data) for data, _ in got] == [len(big)] * count
    assert one._segments is (mtu > 30_000)
    one.close()
    other.close()


async def test_a_refusal_comes_with_the_address_that_refused(
    pair: tuple[UdpSocket, UdpSocket],
) -> None:
    one, other = pair
    gone = other.local_address
    other.close()
    one.send([(b"anybody?", gone)])
    assert await errors(one) == [(gone, errno.ECONNREFUSED)]
    one.close()


async def test_an_error_of_an_earlier_datagram_does_not_swallow_the_next(
    pair: tuple[UdpSocket, UdpSocket],
) -> None:
    one, other = pair
    gone = UdpSocket(LOOPBACK, BUFFER)
    address = gone.local_address
    gone.close()
    one.send([(b"anybody?", address)])
    await trio.sleep(0.05)
    one.send([(b"hello", other.local_address)])
    assert [data for data, _ in await receive(other, 1)] == [b"hello"]
    assert [(error.address, error.errno) for error in one.errors()] == [
        (address, errno.ECONNREFUSED)
    ]
    one.close()
    other.close()


async def test_what_cannot_be_sent_is_reported(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    target = other.local_address
    assert one.send([(bytes(70_000), target)]) == 1
    (error,) = one.errors()
    assert (error.address, error.errno) == (target, errno.EMSGSIZE)
    one.close()
    other.close()


class Stubborn:
    """A socket on which sending fails."""

    def __init__(self, code: int) -> None:
        self.code = code

    def sendto(self, *_args: object) -> None:
        raise OSError(self.code, "no")

    def sendmsg(self, *_args: object) -> None:
        raise OSError(self.code, "no")

    def recvmsg(self, *_args: object) -> None:
        raise BlockingIOError


@pytest.mark.parametrize(
    ("code", "sent", "reported"),
    [
        (errno.EAGAIN, 0, []),
        (errno.EPERM, 3, []),
        (errno.ENOBUFS, 3, []),
        (errno.ENETUNREACH, 3, [errno.ENETUNREACH] * 3),
        (errno.EIO, 3, [errno.EIO] * 3),
    ],
)
def test_errors_while_sending(code: int, sent: int, reported: list[int]) -> None:
    udp = UdpSocket(LOOPBACK, BUFFER)
    udp.close()
    udp._socket = Stubborn(code)  # type: ignore[assignment]
    datagrams = [(b"x", ("192.0.2.1", 1))] * 3
    assert udp.send(datagrams) == sent
    assert [error.errno for error in udp.errors()] == reported
    udp._segments = False
    assert udp.send(datagrams) == sent


def test_a_port_that_is_taken(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    with pytest.raises(OSError, match="in use"):
        UdpSocket(one.local_address, BUFFER)
    one.close()
    other.close()


def test_what_the_kernel_has_put_together_is_taken_apart() -> None:
    address = ("192.0.2.1", 7000)

    def gro(size: int) -> list[tuple[int, int, bytes]]:
        return [(1, 2, b""), (socket.IPPROTO_UDP, 104, struct.pack("=i", size))]

    data = b"aaabbbcc"
    assert _split(memoryview(data), gro(3), address) == [
        (b"aaa", address),
        (b"bbb", address),
        (b"cc", address),
    ]
    assert _split(memoryview(data), gro(8), address) == [(data, address)]
    assert _split(memoryview(data), gro(0), address) == [(data, address)]
    assert _split(memoryview(data), [(1, 2, b"")], address) == [(data, address)]


def test_the_kernel_tells_where_packets_come_from() -> None:
    assert source_of("0.0.0.0", ("127.0.0.1", 7000)) == "127.0.0.1"
    assert source_of("127.0.0.9", ("127.0.0.1", 7000)) == "127.0.0.9"
    assert source_of("192.0.2.77", ("127.0.0.1", 7000)) is None  # not an address of this host
