"""Programs with a keytab: rxkad on both sides."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from rxrpc import NULL, RxkadCode, SecurityLevel
from rxrpc.programs.failures import EXIT_ABORTED, EXIT_SYSTEM, EXIT_USAGE, Failure
from rxrpc.programs.identity import client_security, server_security
from tests.tools.keytab import AFS, build_keytab
from tests.unit.rxrpc.programs.commands import listening, rxrpc

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def keytab(tmp_path: Path) -> str:
    file = tmp_path / "keytab"
    file.write_bytes(build_keytab([(AFS, 3, 18, bytes(range(32)))]))
    return str(file)


def options(keytab: str | None, level: str = "crypt") -> argparse.Namespace:
    return argparse.Namespace(keytab=keytab, level=level)


def test_nobody_without_a_keytab() -> None:
    assert client_security(options(None)) == NULL
    assert server_security(options(None)) == NULL


def test_levels(keytab: str) -> None:
    for level in ("clear", "auth", "crypt"):
        assert client_security(options(keytab, level)).level is SecurityLevel[level.upper()]


def test_files_that_are_no_keytab(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        client_security(options(str(tmp_path / "missing")))
    assert caught.value.exit_code == EXIT_SYSTEM
    for data in (b"no keytab", build_keytab([(AFS, 3, 23, bytes(16))])):
        file = tmp_path / "bad"
        file.write_bytes(data)
        with pytest.raises(Failure) as caught:
            client_security(options(str(file)))
        assert caught.value.exit_code == EXIT_USAGE


def test_commands(keytab: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(build_keytab([(AFS, 3, 18, bytes(32))]))
    with listening("--keytab", keytab, "--level", "auth") as server:
        called = server.call("1", "--text", "hello", "--output", "text", "--keytab", keytab)
        assert called.output == b"hello\n"
        for wrong, code in (
            (("--keytab", str(other)), RxkadCode.BAD_TICKET),
            (("--keytab", keytab, "--level", "clear"), RxkadCode.LEVEL_FAIL),
        ):
            done = server.call("1", *wrong)
            assert done.status == EXIT_ABORTED
            assert str(int(code)) in done.complaint
        assert server.call("1").status == EXIT_ABORTED
        measured = rxrpc(
            "measure", server.address, "--keytab", keytab, "--seconds", "0.05", "--rounds", "1",
            "--json",
        )  # fmt: skip
        assert all(each["calls"] for each in json.loads(measured.output))
