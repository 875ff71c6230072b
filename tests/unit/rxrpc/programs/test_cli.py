"""The border of the programs: every error is one line and a status."""

import argparse

import pytest

from rxrpc import CallBusy, CallTimeout, EndpointClosed, ProtocolError
from rxrpc.programs import call, cli
from rxrpc.programs.cli import main, parser
from rxrpc.programs.failures import Failure
from rxrpc.programs.running import translate


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 8),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 8),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt(), KeyError("x")]), 4),
        (KeyError("a\nb"), 4),
        (Failure("two\nlines", 2), 2),
    ],
)
def test_whatever_happens(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(known: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(call, "run", run)
    assert main(["call", "127.0.0.1", "1", "1"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rxrpc: ")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (CallBusy(), 5, "no reply: the server has no room for the call"),
        (CallTimeout("dead peer"), 5, "no reply: call timed out: dead peer"),
        (EndpointClosed(), 5, "no reply: "),
        (ProtocolError("odd"), 5, "no sensible reply: odd"),
        (ExceptionGroup("calls", [ExceptionGroup("more", [CallBusy()])]), 5, "no reply: the "),
    ],
)
def test_ends_of_calls(error: Exception, status: int, text: str) -> None:
    failure = translate(error)
    assert isinstance(failure, Failure)
    assert failure.exit_code == status
    assert str(failure).startswith(text)


def test_a_bug_stays_a_bug() -> None:
    error = KeyError("x")
    assert translate(error) is error


def test_addresses_numbers_and_sizes() -> None:
    known = parser().parse_args(["measure", "host.example", "--size", "3m", "--service", "0x10"])
    assert known.address == ("host.example", cli.DEFAULT_PORT)
    assert (known.size, known.service) == (3 << 20, 16)
    assert parser().parse_args(["debug", "a:1"]).address == ("a", 1)


def test_dumps() -> None:
    assert call.hex_dump(b"") == ["0 bytes"]
    rows = call.hex_dump(bytes(range(60, 80)))
    assert rows[0].endswith("|<=>?@ABCDEFGHIJK|")
    assert rows[1] == "00000010  4c 4d 4e 4f" + " " * 38 + "|LMNO|"
    assert rows[2] == "20 bytes"
