"""The data of a file on its way from a server: the split calls FetchData and FetchData64."""

from __future__ import annotations

import dataclasses
import functools
import struct
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.replies import DataReply, promise_of
from afsfuse.interfaces.fileserver import FETCH_DATA64, FetchData64Args
from afsfuse.model import Status
from rxrpc import CallTimeout, ProtocolError
from rxrpc.rpc import RxgenCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.cell.servers import FileServer
    from afsfuse.fileserver.operation import Site
    from afsfuse.interfaces.common import Fid
    from afsfuse.interfaces.fileserver import FetchStatusReply
    from rxrpc import CallTimeouts, StreamCall

_LENGTH = struct.Struct("!i")
_LENGTH64 = struct.Struct("!q")

SMALL = 32 << 10
"""Bytes of a fetch whose reply is taken in one piece."""

_LULL = 0.03  # seconds, besides round trips; nearly all that comes without a timeout came by then
_VAIN = 3  # calls in a row that are given up although they brought nothing
_GIVEN_UP = 16  # ... in one stretch: no server makes it endless by a byte a call

Outcome = DataReply | AfsError
"""How the fetch of one of several files ended."""


class SmallFile(NamedTuple):
    """A file to be fetched whole, and where its bytes go."""

    fid: Fid
    size: int  # bytes, of all the buffers
    buffers: Sequence[memoryview]


@functools.lru_cache(64)
def _impatient(timeouts: CallTimeouts, vain: int) -> CallTimeouts:
    """The timeouts of a call after so many in vain."""
    return dataclasses.replace(timeouts, lull=_LULL * 2**vain)


class Stretch:
    """A stretch of a file on its way, by one call, or by several where packets are lost.

    A call whose server waits for its timeout is given up, and another brings what is missing.

    Bytes of several calls are of one version only if the version at the end is the one that was
    known before the first: whoever fetches has to see to that.
    """

    def __init__(self, fid: Fid, position: int, buffers: Sequence[memoryview]) -> None:
        self._fid = fid
        self._position = position
        self._buffers = buffers  # where bytes from the position on go
        self._done = 0  # bytes before it
        self._vain = 0
        self._given_up = 0

    async def fetch(self, site: Site) -> DataReply:
        """Have it sent by FetchData64; the length is that of all of it."""
        while True:
            size = sum(map(len, self._buffers))
            args = FetchData64Args(self._fid, self._position, size)
            patient = self._vain >= _VAIN or self._given_up >= _GIVEN_UP
            timeouts = site.timeouts if patient else _impatient(site.timeouts, self._vain)
            before = trio.current_time()
            announced = 0
            async with site.connection.stream(FETCH_DATA64, args, timeouts=timeouts) as call:
                try:
                    if size <= SMALL:
                        reply = await receive_small(call, self._buffers, site.server, before)
                    else:
                        announced = await _announced(call)
                        reply = await _receive(call, announced, self._buffers, site.server, before)
                except CallTimeout as exc:
                    if exc.what != CallTimeout.LULL:
                        raise
                    # The status is needed, and a server may not take it for sane to send no bytes.
                    self._skip(min(call.received - _LENGTH64.size, announced, size - 1))
                else:
                    return reply._replace(length=self._done + reply.length) if self._done else reply

    def _skip(self, count: int) -> None:
        """So many bytes have come, and need not be sent again."""
        self._given_up += 1
        if count <= 0:
            self._vain += 1
            return
        self._vain = 0
        self._done += count
        self._position += count
        buffers = list(self._buffers)
        while count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        buffers[0] = buffers[0][count:]
        self._buffers = buffers


async def receive_small(
    call: StreamCall[FetchStatusReply],
    buffers: Sequence[memoryview],
    server: FileServer,
    before: float,
) -> DataReply:
    """The reply to a FetchData64 of up to `SMALL` bytes.

    It is over after a round trip or two, so this wakes up once for all of it.
    """
    whole = memoryview(await call.receive_rest())
    head = _LENGTH64.size
    length = max(0, _LENGTH64.unpack_from(whole)[0]) if len(whole) >= head else 0
    if length > sum(map(len, buffers)):
        raise DataCorrupt(f"a file server announced {length} bytes, more than were asked for")
    data, tail = whole[head : head + length], whole[head + length :]
    if len(whole) < head + length:
        raise ProtocolError("the stream ended early", code=RxgenCode.CC_UNMARSHAL)
    for buffer in buffers:
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        data = data[len(part) :]
    return _data_reply(length, call.decode(tail), server, before)


async def receive_long(
    call: StreamCall[FetchStatusReply],
    buffers: Sequence[memoryview],
    server: FileServer,
    before: float,
) -> DataReply:
    """The reply to a FetchData64, straight into the buffers."""
    return await _receive(call, await _announced(call), buffers, server, before)


async def _announced(call: StreamCall[FetchStatusReply]) -> int:
    """How many bytes a reply to a FetchData64 will have."""
    (length,) = _LENGTH64.unpack(await call.receive_exactly(_LENGTH64.size))
    return int(length)


async def receive_old(
    call: StreamCall[FetchStatusReply],
    buffers: Sequence[memoryview],
    server: FileServer,
    before: float,
) -> DataReply:
    """The reply to a FetchData."""
    (length,) = _LENGTH.unpack(await call.receive_exactly(_LENGTH.size))
    return await _receive(call, length, buffers, server, before)


async def _receive(
    call: StreamCall[FetchStatusReply],
    length: int,
    buffers: Sequence[memoryview],
    server: FileServer,
    before: float,
) -> DataReply:
    """Receive the bytes that a server has announced, then the status at the end.

    Old servers announced a negative length for nothing. Source: afs_fetchstore.c.
    """
    length = max(0, length)
    left = length
    wanted = []
    for buffer in buffers:
        if left:
            wanted.append(buffer if left >= len(buffer) else buffer[:left])
            left -= len(wanted[-1])
    if left:
        raise DataCorrupt(f"a file server announced {length} bytes, more than were asked for")
    if wanted:
        await call.receive_into(*wanted)
    return _data_reply(length, await call.finish(), server, before)


def _data_reply(
    length: int, reply: FetchStatusReply, server: FileServer, before: float
) -> DataReply:
    promise = promise_of(reply.callback, server, before)
    return DataReply(length, Status.from_wire(reply.status), promise, reply.sync, server)
