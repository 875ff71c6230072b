"""`python -m rxrpc` from outside: what it prints, and with which status it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.rxrpc.programs.commands import COMMAND, ROOT, Listening, listening, rxrpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[Listening]:
    with listening() as server:
        yield server


@pytest.fixture
def nobody() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_reply_in_every_form(server: Listening) -> None:
    assert server.call("1", "00 41 ff").output == (
        b"00000000  00 41 ff                                         |.A.|\n3 bytes\n"
    )
    assert server.call("1", "0041ff", "--output", "hex").output == b"0041ff\n"
    assert server.call("1", "0041ff", "--output", "raw").output == b"\x00A\xff"
    assert server.call("1", "--text", "grüße", "--output", "text").output == "grüße\n".encode()
    assert server.call("1").output == b"0 bytes\n"


def test_arguments_from_a_file_and_from_standard_input(server: Listening, tmp_path: Path) -> None:
    data = bytes(range(256)) * 400
    file = tmp_path / "arguments"
    file.write_bytes(data)
    assert server.call("1", "--file", str(file), "--output", "raw").output == data
    assert server.call("1", "--file", "-", "--output", "raw", input=data).output == data
    sunk = server.call("2", "--file", str(file), "--output", "hex")
    assert int(sunk.output, 16) == len(data)


def test_a_stream_from_the_server(server: Listening) -> None:
    done = server.call("3", (100_000).to_bytes(8, "big").hex(), "--output", "raw")
    assert (done.status, done.output) == (0, bytes(100_000))


def test_aborts(server: Listening) -> None:
    done = server.call("4", "fffffff9")
    assert done.status == 3
    assert done.complaint == "call aborted by peer with code -7 (ADDRESS_IN_USE)"
    assert "-455 (RXGEN OPCODE)" in server.call("99").complaint
    assert "-454 (RXGEN DECODE)" in server.call("4", "00").complaint
    done = server.call("1", service=5)
    assert (done.status, "-2 (INVALID_OPERATION)" in done.complaint) == (3, True)


def test_nobody_there(nobody: str) -> None:
    done = rxrpc("call", nobody, "1", "1")
    assert done.status == 5
    assert done.complaint == "no reply: network error: Connection refused"
    assert rxrpc("measure", nobody).status == 5
    assert rxrpc("debug", nobody).status == 5


def test_a_call_that_takes_too_long() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = rxrpc("call", address, "1", "1", "--timeout", "0.2")
    assert done.status == 5
    assert done.complaint == "no reply: call timed out: hard"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required"),
        (["fly"], "invalid choice"),
        (["call", "127.0.0.1:0", "1", "1"], "0 is not between 1 and 65535"),
        (["call", ":7000", "1", "1"], "names no host"),
        (["call", "127.0.0.1", "x", "1"], "'x' is no number"),
        (["call", "127.0.0.1", "1", "1", "abc"], "no even number of hex digits"),
        (["call", "127.0.0.1", "1", "1", "ab", "--text", "x"], "give one of"),
        (["call", "127.0.0.1", "1", "1", "--timeout", "0"], "no sensible time"),
        (["listen", "--reply", "abc"], "no even number of hex digits"),
        (["listen", "--echo", "--abort", "1"], "not allowed with"),
        (["measure", "127.0.0.1", "--size", "2X"], "'2X' is no number"),
        (["measure", "127.0.0.1", "--size", "2000G"], "is not between"),
    ],
)
def test_mistakes_of_the_user(arguments: list[str], words: str) -> None:
    done = rxrpc(*arguments)
    assert done.status == 1
    assert words in done.complaint


def test_what_the_system_does_not_allow(server: Listening, tmp_path: Path) -> None:
    port = server.address.partition(":")[2]
    done = rxrpc("listen", "--port", port)
    assert (done.status, done.complaint) == (2, "no UDP port: Address already in use")
    done = server.call("1", "--file", str(tmp_path / "missing"))
    assert (done.status, "No such file" in done.complaint) == (2, True)
    done = server.call("1", "--trace", str(tmp_path))
    assert (done.status, "Is a directory" in done.complaint) == (2, True)


def test_help_says_the_statuses() -> None:
    for arguments in ((), ("call",), ("listen",), ("measure",), ("debug",)):
        done = rxrpc(*arguments, "--help")
        assert done.status == 0
        assert b"exit status:" in done.output


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (("--echo",), b"abcd\n"),
        (("--reply", "00ff"), b"00ff\n"),
        (("--reply-text", "Hi"), b"4869\n"),
    ],
)
def test_one_answer_for_everything(options: tuple[str, ...], output: bytes) -> None:
    with listening(*options, "--service", "9", "--verbose", stop=signal.SIGINT) as server:
        done = server.call("4711", "abcd", "--output", "hex", service=9)
    assert (done.status, done.output) == (0, output)
    said = server.errors.splitlines()
    assert said[0].endswith(": opcode 4711, 2 bytes")
    assert said[1].endswith(" dropped")


def test_one_abort_for_everything() -> None:
    with listening("--abort", "-123") as server:
        assert "code -123" in server.call("1").complaint


def test_a_trace_of_a_call(server: Listening, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    payload = "the payload of a call"
    assert server.call("1", "--text", payload, "--trace", str(trace)).status == 0
    text = trace.read_text()
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert events[:3] == ["connection opened", "call started", "sent"]
    assert "call ended" in events
    assert payload not in text
    assert payload.encode().hex() not in text


def test_a_reader_that_leaves_is_no_bug(server: Listening) -> None:
    size = (10 << 20).to_bytes(8, "big").hex()
    argv = [*COMMAND, "call", server.address, "147", "3", size, "--output", "raw"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as call:
        assert call.stdout is not None
        assert call.stderr is not None
        call.stdout.close()
        errors = call.stderr.read()
    assert (call.returncode, errors) == (2, b"")


def test_measuring(server: Listening) -> None:
    options = ("--seconds", "0.05", "--rounds", "2", "--size", "100K", "--concurrency", "3")
    done = rxrpc("measure", server.address, *options, "--json")
    assert done.status == 0
    results = json.loads(done.output)
    assert [result["direction"] for result in results] == ["echo", "send", "receive"]
    for result in results:
        assert result["concurrency"] == 3
        assert len(result["rates"]) == 2
        assert result["min"] <= result["median"] <= result["max"]
        assert result["calls"] >= 6
        times = result["call_ms"]
        assert 0 < times["min"] <= times["median"] <= times["max"]
        assert result["packets"] > result["calls"]
        moved = 2 * result["size"] if result["direction"] == "echo" else result["size"]
        assert result["payload"] == result["calls"] * moved
        assert result["cpu_us_per_packet"] > 0
    assert results[2]["size"] == 100 << 10
    table = rxrpc("measure", server.address, *options, "--only", "send").output.decode()
    heading, row = table.splitlines()
    assert heading.startswith("what")
    assert row.startswith("send 102400 bytes, 3 at a time")


def test_looking_at_an_endpoint(server: Listening) -> None:
    assert server.call("1", "00").status == 0
    done = rxrpc("debug", server.address, "--all", "--peers", "--statistics")
    assert done.status == 0
    lines = done.output.decode().splitlines()
    assert lines[0] == "version: afsfuse"
    assert any(line.startswith("connection 127.0.0.1:") for line in lines)
    assert any(line.startswith("peer 127.0.0.1:") for line in lines)
    assert any(line.startswith("read: DATA ") for line in lines)
    told = json.loads(rxrpc("debug", server.address, "--all", "--json").output)
    assert told["connections"][0]["is_server"] == 1
