"""`python -m rxrpc debug`: ask an endpoint, of any make, what it has. What `rxdebug` asks too.

Questions are padded to the length of their answers, so an endpoint that sends strangers no more
than it gets answers them all the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import trio
import trio.socket

from rxrpc import ParseError
from rxrpc.programs.failures import EXIT_NO_REPLY, EXIT_OK, Failure
from rxrpc.programs.running import resolve
from rxrpc.wire.control import Version
from rxrpc.wire.debug import (
    LARGEST_ANSWER,
    BasicAnswer,
    CallMode,
    CallStage,
    ConnectionAnswer,
    DebugQuestion,
    DebugRequest,
    PeerAnswer,
    StatisticsAnswer,
)
from rxrpc.wire.packet import (
    CLIENT_INITIATED,
    LAST_PACKET,
    MAX_DATAGRAM,
    Header,
    PacketType,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

T = TypeVar("T", ConnectionAnswer, PeerAnswer)

_EPOCH = 999  # Source: rx.c (MakeDebugCall)
_PATIENCE = (0.5, 1.0, 2.0)  # seconds for an answer, before each repetition
_MAX_ROWS = 100_000
"""A list ends here, should whoever answers never end it."""


class Asker:
    """One socket, connected to one endpoint: the kernel takes packets of nobody else."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        self._number = 100

    async def ask(self, kind: PacketType, body: bytes) -> bytes:
        """The body of the answer; the question is repeated a few times."""
        self._number += 1
        flags = CLIENT_INITIATED | LAST_PACKET
        question = Header(_EPOCH, 0, self._number, 0, 0, kind, flags, 0, 0, 0, 0).build() + body
        for patience in _PATIENCE:
            try:
                await self._socket.send(question)
                with trio.move_on_after(patience):
                    return await self._answer(kind)
            except OSError as exc:
                raise Failure(f"no reply: {exc.strerror}", EXIT_NO_REPLY) from None
        raise Failure("no reply: it is silent, or answers no such questions", EXIT_NO_REPLY)

    async def _answer(self, kind: PacketType) -> bytes:
        """The next packet that is an answer to the latest question."""
        while True:
            data = await self._socket.recv(MAX_DATAGRAM)
            try:
                header, body = Header.parse(data)
            except ParseError:
                continue
            if (header.type, header.call_number) == (kind, self._number):
                return bytes(body)

    async def question(self, question: DebugQuestion, index: int = 0) -> bytes:
        """The answer to a DEBUG question."""
        return await self.ask(PacketType.DEBUG, DebugRequest(question, index).build(LARGEST_ANSWER))

    async def rows(self, question: DebugQuestion, parse: Callable[[bytes], T]) -> list[T]:
        """A list, to its end."""
        rows: list[T] = []
        while len(rows) < _MAX_ROWS:
            row = parse(await self.question(question, len(rows)))
            if row.is_end:
                break
            rows.append(row)
        return rows


def run(known: argparse.Namespace) -> int:
    """Ask; print what was told."""
    told = trio.run(ask_all, known)
    if known.json:
        print(json.dumps(told, indent=2, default=_plain))
    else:
        for line in as_lines(told):
            print(line)
    return EXIT_OK


def _plain(value: object) -> object:
    return asdict(value)  # type: ignore[call-overload]


async def ask_all(known: argparse.Namespace) -> dict[str, object]:
    """Everything that the command line wants to know."""
    address = await resolve(*known.address)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.connect(address)
        try:
            return await _ask(Asker(socket), known)
        except ParseError as exc:
            raise Failure(f"no sensible reply: {exc}", EXIT_NO_REPLY) from None


async def _ask(asker: Asker, known: argparse.Namespace) -> dict[str, object]:
    version = Version.parse(await asker.ask(PacketType.VERSION, bytes(LARGEST_ANSWER)))
    told: dict[str, object] = {"version": version.text.decode(errors="backslashreplace")}
    told["basics"] = BasicAnswer.parse(await asker.question(DebugQuestion.BASIC))
    which = DebugQuestion.CONNECTION if known.all else DebugQuestion.INTERESTING_CONNECTION
    told["connections"] = await asker.rows(which, ConnectionAnswer.parse)
    if known.peers:
        told["peers"] = await asker.rows(DebugQuestion.PEER, PeerAnswer.parse)
    if known.statistics:
        answer = await asker.question(DebugQuestion.STATISTICS)
        told["statistics"] = StatisticsAnswer.parse(answer)
    return told


def as_lines(told: dict[str, object]) -> list[str]:
    """A line for each thing."""
    version = "".join(c if c.isprintable() else "?" for c in str(told["version"]))
    lines = [f"version: {version}"]
    for value in told.values():
        match value:
            case BasicAnswer():
                lines.append(
                    f"{value.calls} calls executed, {value.waiting} wait, "
                    f"{value.idle} more could run, "
                    f"{value.free_packets} of {value.packets} packets free"
                )
            case StatisticsAnswer():
                lines += [f"{name}: {_total(field)}" for name, field in asdict(value).items()]
            case list():
                lines += [line for row in value for line in _row(row)]
    return lines


def _total(field: object) -> str:
    """A counter; of those by packet type, all that count."""
    if not isinstance(field, tuple):
        return str(field)
    names = {int(kind): kind.name for kind in PacketType}
    counted = [f"{names.get(n, n)} {count}" for n, count in enumerate(field, 1) if count]
    return ", ".join(counted) or "none"


def _row(row: object) -> list[str]:
    match row:
        case ConnectionAnswer():
            host, port = row.address
            role = "server" if row.is_server else "client"
            head = f"connection {host}:{port} as {role}, {row.epoch:08x}/{row.cid:08x}"
            head += f", security {row.security_index} level {row.security.level}"
            return [head, *(_channel(row, n) for n, stage in enumerate(row.stages) if stage)]
        case PeerAnswer():
            host, port = row.address
            return [
                f"peer {host}:{port}, RTT {row.rtt_8ths / 8:.2f} ms, MTU {row.mtu}, "
                f"{row.packets_sent} packets sent, {row.packets_resent} of them again, "
                f"{row.bytes_sent} bytes sent, {row.bytes_received} received"
            ]
    return []


def _channel(row: ConnectionAnswer, channel: int) -> str:
    names = {int(stage): stage.name.lower() for stage in CallStage}
    modes = {int(mode): mode.name.lower() for mode in CallMode}
    stage, mode = row.stages[channel], row.modes[channel]
    return (
        f"  channel {channel}: call {row.call_numbers[channel]}, "
        f"{names.get(stage, stage)}, {modes.get(mode, mode)}"
    )
