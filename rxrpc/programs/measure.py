"""`python -m rxrpc measure`: how fast calls go to a `listen`, in both directions."""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from rxrpc import ProtocolError, Void
from rxrpc.programs.failures import EXIT_OK
from rxrpc.programs.identity import client_security
from rxrpc.programs.interface import ECHO, SINK, SOURCE, Raw, Size
from rxrpc.programs.running import beside, make_endpoint, resolve, tracing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rxrpc import Connection, Endpoint

MIB = 1 << 20
DIRECTIONS = ("echo", "send", "receive")
_BUFFER = 1 << 20
_HEADINGS = ("what", "unit", "min", "median", "max", "calls", "call ms", "resent", "RTT ms",
             "CPU us/packet")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    directions: tuple[str, ...]
    size: int  # bytes of a stream
    echo_size: int  # bytes of an echo
    concurrency: int  # calls at a time
    rounds: int
    seconds: float  # of a round


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one round."""

    calls: int
    payload: int  # bytes
    seconds: float
    cpu: float  # seconds of this process
    packets: int  # sent and received, by this process
    resent: int  # by this process
    durations: tuple[float, ...]  # seconds, of each call


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one direction."""

    direction: str
    size: int
    concurrency: int
    rounds: tuple[Round, ...]
    rtt: float | None  # seconds

    @property
    def unit(self) -> str:
        """What its rates count."""
        return "calls/s" if self.direction == "echo" else "MiB/s"

    @property
    def rates(self) -> list[float]:
        """A figure for each round."""
        if self.direction == "echo":
            return [one.calls / one.seconds for one in self.rounds]
        return [one.payload / MIB / one.seconds for one in self.rounds]

    @property
    def durations(self) -> list[float]:
        """Seconds that each call took."""
        return [duration for one in self.rounds for duration in one.durations]

    @property
    def cpu_per_packet(self) -> float:
        """Microseconds of this process; the server's are its own."""
        packets = sum(one.packets for one in self.rounds)
        return 1e6 * sum(one.cpu for one in self.rounds) / max(packets, 1)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        rates = self.rates
        return {
            "direction": self.direction,
            "size": self.size,
            "concurrency": self.concurrency,
            "unit": self.unit,
            "min": min(rates),
            "median": statistics.median(rates),
            "max": max(rates),
            "rates": rates,
            "call_ms": {
                name: 1000 * pick(self.durations)
                for name, pick in (("min", min), ("median", statistics.median), ("max", max))
            },
            "calls": sum(one.calls for one in self.rounds),
            "payload": sum(one.payload for one in self.rounds),
            "packets": sum(one.packets for one in self.rounds),
            "resent": sum(one.resent for one in self.rounds),
            "rtt_ms": None if self.rtt is None else 1000 * self.rtt,
            "cpu_us_per_packet": self.cpu_per_packet,
        }


def run(known: argparse.Namespace) -> int:
    """Measure; print a table or JSON."""
    directions = (known.only,) if known.only else DIRECTIONS
    plan = Plan(
        directions, known.size, known.echo_size, known.concurrency, known.rounds, known.seconds
    )
    results = trio.run(measure, known, plan)
    if known.json:
        print(json.dumps([result.as_dict() for result in results], indent=2))
    else:
        print(as_table(results))
    return EXIT_OK


async def measure(known: argparse.Namespace, plan: Plan) -> list[Result]:
    """All directions of a plan, one after the other."""
    host, port = known.address
    address = await resolve(host, port)
    with tracing(known.trace) as tracer:
        endpoint = make_endpoint(("0.0.0.0", 0), tracer)
        connection = endpoint.connect(address, known.service, security=client_security(known))

        async def body() -> list[Result]:
            await connection.call(ECHO, Raw(b"is anybody there?"))
            return [await _direction(endpoint, connection, d, plan) for d in plan.directions]

        return await beside(endpoint, body)


async def _direction(
    endpoint: Endpoint, connection: Connection, direction: str, plan: Plan
) -> Result:
    if sys.stderr.isatty():
        print(f"measuring: {direction}", file=sys.stderr)
    rounds = [await _round(endpoint, connection, direction, plan) for _ in range(plan.rounds)]
    size = plan.echo_size if direction == "echo" else plan.size
    return Result(direction, size, plan.concurrency, tuple(rounds), connection.rtt())


async def _round(endpoint: Endpoint, connection: Connection, direction: str, plan: Plan) -> Round:
    """Keep so many calls going for so long; each is finished, so a round takes a bit longer."""
    payload = 0
    durations: list[float] = []
    before = endpoint.statistics()
    cpu, start = time.process_time(), time.perf_counter()

    async def worker() -> None:
        nonlocal payload
        work = _Worker(connection, direction, plan)
        began = start
        while began - start < plan.seconds:
            moved = await work.call()  # first: another worker may have counted meanwhile
            payload += moved
            ended = time.perf_counter()
            durations.append(ended - began)
            began = ended

    async with trio.open_nursery() as nursery:
        for _ in range(plan.concurrency):
            nursery.start_soon(worker)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    after = endpoint.statistics()
    packets = sum(after.received.values()) - sum(before.received.values())
    packets += sum(after.sent.values()) - sum(before.sent.values())
    resent = after.resent - before.resent
    return Round(len(durations), payload, seconds, cpu, packets, resent, tuple(durations))


class _Worker:
    """Makes one call after the other, with buffers of its own."""

    def __init__(self, connection: Connection, direction: str, plan: Plan) -> None:
        self._connection = connection
        self._call = {"echo": self._echo, "send": self._send, "receive": self._receive}[direction]
        self._size = plan.size
        self._data = bytes(plan.echo_size if direction == "echo" else min(plan.size, _BUFFER))
        self._buffer = memoryview(bytearray(min(plan.size, _BUFFER)))

    async def call(self) -> int:
        """One call; how many bytes of payload it moved."""
        return await self._call()

    async def _echo(self) -> int:
        reply = await self._connection.call(ECHO, Raw(self._data))
        if len(reply.data) != len(self._data):
            raise ProtocolError("the echo is not what was said")
        return 2 * len(reply.data)

    async def _send(self) -> int:
        async with self._connection.stream(SINK, Void()) as call:
            for start in range(0, self._size, _BUFFER):
                await call.send(self._data[: self._size - start])
            reply = await call.finish()
        if reply.value != self._size:
            raise ProtocolError("not all has arrived")
        return self._size

    async def _receive(self) -> int:
        async with self._connection.stream(SOURCE, Size(self._size)) as call:
            for start in range(0, self._size, _BUFFER):
                await call.receive_into(self._buffer[: self._size - start])
            await call.finish()
        return self._size


def as_table(results: Sequence[Result]) -> str:
    """Columns, the first left-aligned."""
    rows = [_HEADINGS, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    rates = result.rates
    shown = (min(rates), statistics.median(rates), max(rates))
    return (
        f"{result.direction} {result.size} bytes, {result.concurrency} at a time",
        result.unit,
        *(f"{rate:,.1f}" if rate < 1000 else f"{rate:,.0f}" for rate in shown),
        str(sum(one.calls for one in result.rounds)),
        f"{1000 * statistics.median(result.durations):.2f}",
        str(sum(one.resent for one in result.rounds)),
        "-" if result.rtt is None else f"{1000 * result.rtt:.2f}",
        f"{result.cpu_per_packet:.1f}",
    )
