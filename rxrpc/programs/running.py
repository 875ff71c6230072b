"""What all programs need around an endpoint: addresses, a trace, tasks, errors in one piece."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio
import trio.socket

from rxrpc import (
    CallAborted,
    CallBusy,
    CallError,
    Endpoint,
    JsonLinesTracer,
    NullTracer,
    Parameters,
    ProtocolError,
    RxgenCode,
    Tracer,
)
from rxrpc.programs.failures import EXIT_ABORTED, EXIT_NO_REPLY, EXIT_SYSTEM, Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from rxrpc import Address

T = TypeVar("T")

MAX_MESSAGE = 16 << 20
"""Bytes of a request or a reply that is kept in one piece."""


async def resolve(host: str, port: int) -> Address:
    """The IPv4 address of a host."""
    try:
        found = await trio.socket.getaddrinfo(host, port, family=trio.socket.AF_INET)
    except OSError as exc:
        raise Failure(f"{host}: {exc.strerror}", EXIT_SYSTEM) from None
    address = found[0][4]
    return str(address[0]), int(address[1])


@contextmanager
def tracing(path: str | None) -> Iterator[Tracer]:
    """A tracer that writes to a file; none without a path."""
    if path is None:
        yield NullTracer()
        return
    try:
        file = open(path, "w")  # noqa: SIM115  # the same error for opening as for the rest
    except OSError as exc:
        raise Failure(f"{path}: {exc.strerror}", EXIT_SYSTEM) from None
    with file:
        yield JsonLinesTracer(file)


def make_endpoint(address: Address, tracer: Tracer) -> Endpoint:
    """An endpoint of a program."""
    return Endpoint(bind=address, parameters=Parameters(max_reply=MAX_MESSAGE), tracer=tracer)


async def beside(endpoint: Endpoint, body: Callable[[], Awaitable[T]]) -> T:
    """Run something while the endpoint runs; what it raises comes out as it was raised."""
    results: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(endpoint.run)
            results.append(await body())
        except Exception as exc:
            failure = translate(exc)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return results[0]


def translate(error: Exception) -> Exception:
    """What went wrong, for the user; what is a bug of ours stays as it is."""
    match error:
        case ExceptionGroup():  # of tasks that made calls: what ended one, ends them all
            return translate(error.exceptions[0])
        case ProtocolError():
            return Failure(f"no sensible reply: {error.reason}", EXIT_NO_REPLY)
        case CallAborted():
            return Failure(f"{error}{_rxgen_name(error.code)}", EXIT_ABORTED)
        case CallBusy():
            return Failure("no reply: the server has no room for the call", EXIT_NO_REPLY)
        case CallError():
            return Failure(f"no reply: {error or type(error).__name__}", EXIT_NO_REPLY)
        case OSError():
            return Failure(f"no UDP port: {error.strerror}", EXIT_SYSTEM)
    return error


def _rxgen_name(code: int) -> str:
    """What a code of the stubs means; those of Rx itself have their names already."""
    try:
        return f" (RXGEN {RxgenCode(code).name})"
    except ValueError:
        return ""
