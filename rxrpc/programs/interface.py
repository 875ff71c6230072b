"""The service that `listen` offers and `measure` calls."""

from collections.abc import Callable
from typing import Annotated

from rxrpc import (
    NULL,
    ByteService,
    CallAborted,
    Interface,
    Rpc,
    ServerCall,
    ServerSecurity,
    Service,
    Stream,
    Void,
)
from rxrpc.xdr import i32, u64, xdr_struct
from rxrpc.xdr.fields import Data, Variable

_CHUNK = 1 << 16


def _rest(data: Data, offset: int) -> tuple[bytes, int]:
    return bytes(data[offset:]), len(data)


@xdr_struct
class Raw:
    """All that is there, as it stands."""

    data: Annotated[bytes, Variable(_rest, bytes)]


@xdr_struct
class Size:
    """So many bytes."""

    value: u64


@xdr_struct
class Code:
    """What to abort with."""

    value: i32


ECHO = Rpc("Echo", 1, Raw, Raw)
SINK = Rpc("Sink", 2, Void, Size, stream=Stream.TO_SERVER)
SOURCE = Rpc("Source", 3, Size, Void, stream=Stream.FROM_SERVER)
ABORT = Rpc("Abort", 4, Code, Void)


def make_service(
    service_id: int, report: Callable[[str], None], security: ServerSecurity = NULL
) -> Service:
    """The procedures above; ``report`` gets a line for each call."""
    interface = Interface("Test", service_id, (ECHO, SINK, SOURCE, ABORT))
    service = Service(interface, security=[security])

    @service.handles(ECHO)
    async def echo(call: ServerCall, args: Raw) -> Raw:
        report(f"{_name(call)}: echo of {len(args.data)} bytes")
        return args

    @service.handles(SINK)
    async def sink(call: ServerCall, args: Void) -> Size:
        size = 0
        while chunk := await call.receive_some():
            size += len(chunk)
        report(f"{_name(call)}: sink of {size} bytes")
        return Size(size)

    @service.handles(SOURCE)
    async def source(call: ServerCall, args: Size) -> Void:
        report(f"{_name(call)}: source of {args.value} bytes")
        chunk = bytes(_CHUNK)
        for start in range(0, args.value, _CHUNK):
            await call.send(chunk[: args.value - start])
        return Void()

    @service.handles(ABORT)
    async def abort(call: ServerCall, args: Code) -> Void:
        report(f"{_name(call)}: abort with {args.value}")
        raise CallAborted(args.value)

    return service


def make_uniform_service(
    service_id: int,
    answer: Callable[[bytes], bytes],
    report: Callable[[str], None],
    security: ServerSecurity = NULL,
) -> ByteService:
    """Treats all calls alike, whatever their opcode.

    ``answer`` makes the reply of the arguments, or raises `CallAborted`.
    """

    async def handle(call: ServerCall) -> None:
        opcode = await call.receive_opcode()
        arguments = await call.receive_rest()
        report(f"{_name(call)}: opcode {opcode}, {len(arguments)} bytes")
        await call.send(answer(arguments))

    return ByteService(service_id, handle, security=[security])


def _name(call: ServerCall) -> str:
    host, port = call.peer
    return f"{host}:{port}"
