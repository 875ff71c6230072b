"""A small interface with a procedure of each kind, and its service."""

import hashlib
from typing import Annotated

from rxrpc import NULL, ServerCall, ServerSecurity, Service
from rxrpc.rpc import Interface, Rpc, Stream
from rxrpc.xdr import Opaque, u32, xdr_struct

LIMIT = 1 << 20


@xdr_struct
class Bytes:
    """A value of any length."""

    data: Annotated[bytes, Opaque(LIMIT)]


@xdr_struct
class Number:
    """A size, or the answer to everything."""

    value: u32


ECHO = Rpc("Echo", 1, Bytes, Bytes)
GIVE = Rpc("Give", 2, Number, Bytes, stream=Stream.FROM_SERVER)
TAKE = Rpc("Take", 3, Number, Bytes, stream=Stream.TO_SERVER)
TEST = Interface("TEST", 77, (ECHO, GIVE, TAKE))


def pattern(size: int) -> bytes:
    """Bytes in which every place is recognisable."""
    words = b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))
    return words[:size]


def make_service(executed: list[str] | None = None, security: ServerSecurity = NULL) -> Service:
    """The service; ``executed`` collects the names of what was called."""
    service = Service(TEST, security=[security])
    log = executed if executed is not None else []

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Bytes) -> Bytes:
        log.append("echo")
        return args

    @service.handles(GIVE)
    async def give(call: ServerCall, args: Number) -> Bytes:
        log.append("give")
        data = pattern(args.value)
        await call.send(data)
        return Bytes(hashlib.sha256(data).digest())

    @service.handles(TAKE)
    async def take(call: ServerCall, args: Number) -> Bytes:
        log.append("take")
        data = await call.receive_exactly(args.value)
        return Bytes(hashlib.sha256(data).digest())

    return service
