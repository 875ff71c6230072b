"""UDP sockets as the driver wants them: batches in, batches out, errors with their addresses."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from rxrpc.wire.packet import MAX_DATAGRAM, Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

Datagram = tuple[bytes, Address]

# Source of numbers that Python's socket module lacks: linux/in.h, linux/udp.h, linux/errqueue.h.
_IP_RECVERR = 11
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_MAX_SEGMENTS = 64
_ERROR = struct.Struct("=I4B2I")  # sock_extended_err: errno, origin, type, code, pad, info, data
_SEGMENT = struct.Struct("=H")
_SEGMENT_READ = struct.Struct("=i")
_IP_UDP_HEADERS = 28
_ANCILLARY = 64  # room for one control message
_ERROR_ANCILLARY = 512
# What says nothing about the way to the peer: a packet filter, buffers that are full.
_LOCAL = frozenset({errno.EPERM, errno.ENOBUFS, errno.ENOMEM})
_NO_SEGMENTS = frozenset({errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class SendError:
    """A datagram to this address did not get there. Sizes are bytes of UDP payload."""

    address: Address
    errno: int
    mtu: int | None = None


class DatagramSocket(Protocol):
    """What the driver needs; tests bring one without a network."""

    @property
    def local_address(self) -> Address:
        """Where it is bound."""
        ...

    async def wait_readable(self) -> None:
        """Until a datagram or an error is there."""
        ...

    async def wait_writable(self) -> None:
        """Until `send` takes more."""
        ...

    def receive(self, limit: int) -> list[Datagram]:
        """What is there, without waiting. Fewer than ``limit``: there was no more."""
        ...

    def send(self, datagrams: Sequence[Datagram]) -> int:
        """Send, without waiting. How many went; fewer when the kernel's buffer is full."""
        ...

    def errors(self) -> list[SendError]:
        """What went wrong since this was last asked."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


def source_of(bind: str, target: Address) -> str | None:
    """From which address packets go to a target, of a socket bound to `bind`; None: no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((bind, 0))
            probe.connect(target)
            host: str = probe.getsockname()[0]
        except OSError:
            return None
        return host


class UdpSocket:
    """A real one, IPv4, for all peers."""

    def __init__(self, bind: Address, buffer: int) -> None:
        """Bind; ``buffer``: bytes for the kernel to hold each way. Raises `OSError`."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._set_buffers(buffer)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            self._socket.bind(bind)
        except OSError:
            self._socket.close()
            raise
        with contextlib.suppress(OSError):  # an old kernel: one datagram a call
            self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        self._segments = True
        self._errors: list[SendError] = []
        self._buffer = bytearray(MAX_DATAGRAM)
        self._received = memoryview(self._buffer)

    def _set_buffers(self, size: int) -> None:
        for force, plain in (
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
        ):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, force, size)
            except OSError:  # only root may exceed the system's limit
                self._socket.setsockopt(socket.SOL_SOCKET, plain, size)

    @property
    def local_address(self) -> Address:
        """Where it is bound."""
        host, port = self._socket.getsockname()
        return host, port

    def fileno(self) -> int:
        """Its descriptor; -1 when it is closed."""
        return self._socket.fileno()

    async def wait_readable(self) -> None:
        """Until a datagram or an error is there."""
        await trio.lowlevel.wait_readable(self._socket)

    async def wait_writable(self) -> None:
        """Until `send` takes more."""
        await trio.lowlevel.wait_writable(self._socket)

    def receive(self, limit: int) -> list[Datagram]:
        """What is there, without waiting. Fewer than ``limit``: there was no more.

        Measured: recvmmsg through ctypes saves 0.4 of 2.6 microseconds a datagram, and costs more
        than it saves in small batches. Segments that the kernel has put together (UDP_GRO, on
        cards that do that) cost a tenth, so these are taken apart here.

        All come into one buffer and are copied. What `recvmsg` returns is cut down from 64 KiB
        where it lies, so that a batch is strewn over the heap: 3.0 microseconds with 1412 bytes
        where this takes 1.8, and 1.3 with 100 bytes where this takes 1.5.
        """
        datagrams: list[Datagram] = []
        receive, received, buffers = self._socket.recvmsg_into, self._received, [self._buffer]
        try:
            while len(datagrams) < limit:
                size, ancillary, _flags, address = receive(buffers, _ANCILLARY)
                if ancillary:
                    datagrams += _split(received[:size], ancillary, address)
                else:
                    datagrams.append((bytes(received[:size]), address))
        except BlockingIOError:
            pass
        except OSError:  # an error of some earlier datagram
            self._read_errors()
        return datagrams

    def send(self, datagrams: Sequence[Datagram]) -> int:
        """Send, without waiting. How many went; fewer when the kernel's buffer is full."""
        if len(datagrams) > 1 and self._segments:
            return self._send_runs(datagrams)
        for sent, (data, address) in enumerate(datagrams):
            if not self._send_one(data, address):
                return sent
        return len(datagrams)

    def _send_one(self, data: bytes, address: Address) -> bool:
        """False when the kernel's buffer is full."""
        for attempt in range(2):
            try:
                self._socket.sendto(data, address)
            except BlockingIOError:
                return False
            except OSError as exc:
                # It may be the error of an earlier datagram, to whomever; then send again.
                if not self._read_errors() or attempt:
                    self._note(address, exc.errno)
                    return True
            else:
                return True
        return True

    def _send_runs(self, datagrams: Sequence[Datagram]) -> int:
        """Send each run of datagrams by one call."""
        sent = 0
        for run in _runs(datagrams):
            went = self._send_run(run)
            sent += went
            if went < len(run):
                break
        return sent

    def _send_run(self, run: list[Datagram]) -> int:
        size, address = len(run[0][0]), run[0][1]
        if len(run) == 1 or not self._segments:
            return self._one_by_one(run)
        segment = (socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT.pack(size))
        try:
            self._socket.sendmsg([data for data, _address in run], [segment], 0, address)
        except BlockingIOError:
            return 0
        except OSError as exc:
            if exc.errno in _NO_SEGMENTS:
                log.debug("no segmentation of UDP here: %s", exc)
                self._segments = False
            return self._one_by_one(run)
        return len(run)

    def _one_by_one(self, run: list[Datagram]) -> int:
        for sent, (data, address) in enumerate(run):
            if not self._send_one(data, address):
                return sent
        return len(run)

    def errors(self) -> list[SendError]:
        """What went wrong since this was last asked."""
        self._read_errors()
        errors, self._errors = self._errors, []
        return errors

    def _note(self, address: Address, code: int | None) -> None:
        if code is not None and code not in _LOCAL:
            self._errors.append(SendError(address, code))

    def _read_errors(self) -> bool:
        """Empty the socket's error queue; whether there was anything."""
        any_read = False
        while True:
            try:
                _data, ancillary, _flags, address = self._socket.recvmsg(
                    0, _ERROR_ANCILLARY, socket.MSG_ERRQUEUE
                )
            except OSError:  # empty
                return any_read
            any_read = True
            for level, kind, body in ancillary:
                if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR) and address:
                    code, _origin, _type, _code, _pad, info, _data2 = _ERROR.unpack_from(body)
                    mtu = info - _IP_UDP_HEADERS if code == errno.EMSGSIZE else None
                    self._errors.append(SendError((address[0], address[1]), code, mtu))

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def _runs(datagrams: Sequence[Datagram]) -> Iterator[list[Datagram]]:
    """What can go out together: datagrams to one address and of one size, of which the last may be
    shorter. All of them are one datagram to the kernel, with one length.
    """
    run: list[Datagram] = []
    size = most = 0
    for datagram in datagrams:
        data, address = datagram
        if run and (
            address != run[0][1] or len(data) > size or len(run[-1][0]) < size or len(run) >= most
        ):
            yield run
            run = []
        if not run:
            size = len(data)
            most = max(1, min(_MAX_SEGMENTS, MAX_DATAGRAM // size - 1))
        run.append(datagram)
    if run:
        yield run


def _split(
    data: memoryview, ancillary: list[tuple[int, int, bytes]], address: Address
) -> list[Datagram]:
    """The datagrams that the kernel has put together: all of one size, the last may be shorter."""
    for level, kind, body in ancillary:
        if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
            (size,) = _SEGMENT_READ.unpack_from(body)
            if 0 < size < len(data):
                return [(bytes(data[at : at + size]), address) for at in range(0, len(data), size)]
    return [(bytes(data), address)]
