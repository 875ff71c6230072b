"""`python -m rxrpc call`: one call with given bytes, and its reply in a form that is asked for."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from rxrpc import CallTimeouts
from rxrpc.programs.failures import EXIT_OK, EXIT_SYSTEM, EXIT_USAGE, Failure
from rxrpc.programs.identity import client_security
from rxrpc.programs.running import MAX_MESSAGE, beside, make_endpoint, resolve, tracing

if TYPE_CHECKING:
    import argparse

    from rxrpc import ClientSecurity

_OPCODE = struct.Struct("!I")
_ROW = 16


@dataclass(frozen=True, slots=True)
class Request:
    """What to call, and how."""

    host: str
    port: int
    service: int
    opcode: int
    arguments: bytes
    local_port: int
    timeout: float | None
    trace: str | None
    security: ClientSecurity


def run(known: argparse.Namespace) -> int:
    """Make the call; print the reply."""
    host, port = known.address
    request = Request(
        host, port, known.service, known.opcode, arguments(known), known.local_port,
        known.timeout, known.trace, client_security(known),
    )  # fmt: skip
    reply = trio.run(make_call, request)
    sys.stdout.buffer.write(render(reply, known.output))
    sys.stdout.buffer.flush()
    return EXIT_OK


def arguments(known: argparse.Namespace) -> bytes:
    """The bytes behind the opcode."""
    given = [known.hex, known.text, known.file]
    if sum(value is not None for value in given) > 1:
        raise Failure("give one of HEX, --text and --file", EXIT_USAGE)
    if known.text is not None:
        return str(known.text).encode()
    if known.file is not None:
        return _read(known.file)
    try:
        return bytes.fromhex(known.hex or "")
    except ValueError:
        raise Failure(f"{known.hex!r} is no even number of hex digits", EXIT_USAGE) from None


def _read(path: str) -> bytes:
    try:
        data = sys.stdin.buffer.read(MAX_MESSAGE + 1) if path == "-" else Path(path).read_bytes()
    except OSError as exc:
        raise Failure(f"{path}: {exc.strerror}", EXIT_SYSTEM) from None
    if len(data) > MAX_MESSAGE:
        raise Failure(f"{path}: more than {MAX_MESSAGE >> 20} MiB", EXIT_USAGE)
    return data


async def make_call(request: Request) -> bytes:
    """The reply's bytes."""
    address = await resolve(request.host, request.port)
    with tracing(request.trace) as tracer:
        endpoint = make_endpoint(("0.0.0.0", request.local_port), tracer)

        async def body() -> bytes:
            connection = endpoint.connect(address, request.service, security=request.security)
            data = _OPCODE.pack(request.opcode) + request.arguments
            timeouts = CallTimeouts(hard=request.timeout)
            async with connection.begin(length=len(data), timeouts=timeouts) as call:
                await call.send(data)
                return await call.receive_rest()

        return await beside(endpoint, body)


def render(data: bytes, form: str) -> bytes:
    """The reply as the user wants to see it; text and hex end with a line feed."""
    match form:
        case "raw":
            return data
        case "hex":
            return data.hex().encode() + b"\n"
        case "text":
            return data.decode(errors="backslashreplace").encode() + b"\n"
        case _:
            return "".join(f"{line}\n" for line in hex_dump(data)).encode()


def hex_dump(data: bytes) -> list[str]:
    """Lines of offset, sixteen bytes, and what of them is printable ASCII."""
    lines = []
    for start in range(0, len(data), _ROW):
        row = data[start : start + _ROW]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<{3 * _ROW - 1}}  |{shown}|")
    return [*lines, f"{len(data)} bytes"]
