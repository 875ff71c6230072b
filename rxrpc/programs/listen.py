"""`python -m rxrpc listen`: a server that answers calls until it is told to stop."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import trio

from rxrpc import CallAborted
from rxrpc.programs.failures import EXIT_OK, EXIT_USAGE, Failure
from rxrpc.programs.identity import server_security
from rxrpc.programs.interface import make_service, make_uniform_service
from rxrpc.programs.running import beside, make_endpoint, resolve, tracing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rxrpc import BaseService, Statistics


def run(known: argparse.Namespace) -> int:
    """Serve until a signal."""
    report = _say if known.verbose else _say_nothing
    service = choose_service(known, report)
    statistics = trio.run(serve, known, service)
    _say(
        f"{sum(statistics.received.values())} packets received, "
        f"{sum(statistics.sent.values())} sent, {statistics.resent} of them again, "
        f"{sum(statistics.drops.values())} dropped"
    )
    return EXIT_OK


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_nothing(text: str) -> None:
    pass


def choose_service(known: argparse.Namespace, report: Callable[[str], None]) -> BaseService:
    """The service of the command line."""
    answer: Callable[[bytes], bytes]
    security = server_security(known)
    if known.echo:
        answer = _same
    elif known.reply is not None:
        try:
            reply = bytes.fromhex(known.reply)
        except ValueError:
            raise Failure(f"{known.reply!r} is no even number of hex digits", EXIT_USAGE) from None
        answer = _always(reply)
    elif known.reply_text is not None:
        answer = _always(str(known.reply_text).encode())
    elif known.abort is not None:
        answer = _refuse(known.abort)
    else:
        return make_service(known.service, report, security)
    return make_uniform_service(known.service, answer, report, security)


def _same(request: bytes) -> bytes:
    return request


def _always(reply: bytes) -> Callable[[bytes], bytes]:
    return lambda request: reply


def _refuse(code: int) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        raise CallAborted(code)

    return answer


async def serve(known: argparse.Namespace, service: BaseService) -> Statistics:
    """Say where it listens, on standard output; what was counted until the signal."""
    address = await resolve(known.address, known.port)
    with tracing(known.trace) as tracer:
        endpoint = make_endpoint(address, tracer)
        endpoint.add_service(service)

        async def body() -> Statistics:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                host, port = endpoint.local_address
                print(f"listening on {host}:{port}, service {known.service}", flush=True)
                async for _signal in signals:
                    break
            return endpoint.statistics()

        return await beside(endpoint, body)
