"""The data of a file on its way from a server: the split calls FetchData and FetchData64."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.fileserver.replies import DataReply, promise_of
from afsfuse.model import Status
from rxrpc import ProtocolError
from rxrpc.rpc import RxgenCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.cell.servers import FileServer
    from afsfuse.interfaces.common import Fid
    from afsfuse.interfaces.fileserver import FetchStatusReply
    from rxrpc import StreamCall

_LENGTH = struct.Struct("!i")
_LENGTH64 = struct.Struct("!q")

SMALL = 32 << 10
"""Bytes of a fetch whose reply is taken in one piece."""

Outcome = DataReply | AfsError
"""How the fetch of one of several files ended."""


class SmallFile(NamedTuple):
    """A file to be fetched whole, and where its bytes go."""

    fid: Fid
    size: int  # bytes, of all the buffers
    buffers: Sequence[memoryview]


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
    (length,) = _LENGTH64.unpack(await call.receive_exactly(_LENGTH64.size))
    return await _receive(call, length, buffers, server, before)


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
