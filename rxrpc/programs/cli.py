"""The command line of `python -m rxrpc`."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from rxrpc.programs.failures import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_SYSTEM,
    EXIT_USAGE,
    STATUSES,
    Failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_PORT = 7009
DEFAULT_SERVICE = 147
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MAX_SIZE = 1 << 40
_MAX_CONCURRENCY = 4096


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with our exit status."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it raises, as the other
        raise Failure(f"{message}: see {self.prog} --help", EXIT_USAGE)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = _Parser(
        prog="python -m rxrpc",
        description="Programs for RxRPC over UDP.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_call(_command(commands, "call", "make one call, print its reply"))
    _add_listen(_command(commands, "listen", "answer calls until SIGINT or SIGTERM"))
    _add_measure(_command(commands, "measure", "measure calls to a `listen`"))
    _add_debug(_command(commands, "debug", "ask an endpoint what connections it has"))
    return top


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, text: str
) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if name != "debug":
        made.add_argument(
            "--keytab", metavar="FILE", help="rxkad, with the keys of the service in this keytab"
        )
        made.add_argument(
            "--level", choices=("clear", "auth", "crypt"), default="crypt",
            help="with --keytab: how much of each packet is protected, at least (default crypt)",
        )  # fmt: skip
        made.add_argument("--trace", metavar="FILE", help="write events and packets as JSON lines")
    return made


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "address", metavar="ADDRESS[:PORT]", type=_address, help=f"port {DEFAULT_PORT} by default"
    )


def _add_service(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--service", type=_number(0, 0xFFFF), default=DEFAULT_SERVICE,
        help=f"number of the service (default {DEFAULT_SERVICE})",
    )  # fmt: skip


def _add_call(command: argparse.ArgumentParser) -> None:
    _add_address(command)
    command.add_argument("service", metavar="SERVICE", type=_number(0, 0xFFFF))
    command.add_argument("opcode", metavar="OPCODE", type=_number(0, 0xFFFF_FFFF))
    command.add_argument("hex", metavar="HEX", nargs="?", help="arguments as hex digits")
    command.add_argument("--text", help="arguments as text (UTF-8)")
    command.add_argument("--file", help="arguments from a file; - is standard input")
    command.add_argument(
        "--output", choices=("dump", "hex", "raw", "text"), default="dump",
        help="form of the reply (default dump)",
    )  # fmt: skip
    command.add_argument("--timeout", type=_seconds, help="seconds for the whole call")
    command.add_argument(
        "--local-port", type=_number(0, 0xFFFF), default=0, help="UDP port to call from"
    )


def _add_listen(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address", default="127.0.0.1",
        help="where to listen; 0.0.0.0 is everywhere (default 127.0.0.1)",
    )  # fmt: skip
    command.add_argument(
        "--port", type=_number(0, 0xFFFF), default=DEFAULT_PORT,
        help=f"UDP port; 0 takes a free one (default {DEFAULT_PORT})",
    )  # fmt: skip
    _add_service(command)
    answers = command.add_argument_group(
        "answers",
        "Without one of these, opcode 1 echoes, 2 swallows a stream and tells its size (8 bytes), "
        "3 sends so many zeros as its 8 bytes of arguments say, 4 aborts with the code in its 4.",
    ).add_mutually_exclusive_group()
    answers.add_argument("--echo", action="store_true", help="echo, whatever the opcode")
    answers.add_argument("--reply", metavar="HEX", help="this reply, whatever the opcode")
    answers.add_argument("--reply-text", metavar="TEXT", help="the same as text")
    answers.add_argument(
        "--abort", metavar="CODE", type=_number(-(1 << 31), (1 << 31) - 1),
        help="abort, whatever the opcode",
    )  # fmt: skip
    command.add_argument("--verbose", action="store_true", help="tell of each call")


def _add_measure(command: argparse.ArgumentParser) -> None:
    _add_address(command)
    _add_service(command)
    command.add_argument(
        "--only", choices=("echo", "send", "receive"), help="one direction instead of all"
    )
    command.add_argument(
        "--size", type=_size, default=1 << 20, help="bytes of a stream; 64K, 1M (default 1M)"
    )
    command.add_argument("--echo-size", type=_size, default=100, help="of an echo (default 100)")
    command.add_argument(
        "--concurrency", type=_number(1, _MAX_CONCURRENCY), default=4,
        help="calls at a time (default 4)",
    )  # fmt: skip
    command.add_argument("--rounds", type=_number(1, 1000), default=3, help="default 3")
    command.add_argument("--seconds", type=_seconds, default=1.0, help="of a round (default 1)")
    command.add_argument("--json", action="store_true", help="JSON instead of a table")


def _add_debug(command: argparse.ArgumentParser) -> None:
    _add_address(command)
    command.add_argument("--all", action="store_true", help="connections without calls too")
    command.add_argument("--peers", action="store_true", help="peers too")
    command.add_argument("--statistics", action="store_true", help="counters too")
    command.add_argument("--json", action="store_true", help="JSON instead of lines")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, DEFAULT_PORT
    if not host:
        raise argparse.ArgumentTypeError(f"{text!r} names no host")
    return host, _number(1, 0xFFFF)(port)


def _number(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            number = int(text, 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return number

    return convert


def _size(text: str) -> int:
    factor = _SUFFIXES.get(text[-1:].upper(), 1)
    return _number(1, _MAX_SIZE // factor)(text[:-1] if factor > 1 else text) * factor


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no sensible time")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one program; its exit status. Whatever goes wrong is told in one line."""
    try:
        known = parser().parse_args(arguments)
        # Loaded when it is known that it is needed: --help should not wait for trio.
        program = import_module(f"rxrpc.programs.{known.command}")
        return cast("int", program.run(known))
    except Failure as exc:
        complain(str(exc))
        return exc.exit_code
    except BrokenPipeError:
        # Whoever read the output has left; the interpreter must not find that out at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SYSTEM
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            complain("interrupted")
            return EXIT_INTERRUPTED
        complain(f"a bug in rxrpc: {group!r}")
        return EXIT_BUG
    except Exception as exc:
        complain(f"a bug in rxrpc: {type(exc).__name__}: {exc}")
        return EXIT_BUG


def complain(message: str) -> None:
    """One line on standard error, whatever is in the message."""
    print(f"rxrpc: {' '.join(message.split())}", file=sys.stderr)
