"""A whole life of a daemon with tokens, and then a search for their keys in all that it left.

The log is written at its most talkative, tokens are used, refused, renewed in vain, shown and
dropped, and wrong requests have keys in them. What is looked through: the log, all files but those
that are meant to have the key, what commands and the control socket said, and what the system
shows of the processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.acquire import Wanted
from afsfuse.auth.folders import OVERRIDE
from afsfuse.auth.renewal import Renewal
from afsfuse.auth.token import Secret, Token
from afsfuse.control.places import Place
from afsfuse.control.protocol import request_line
from afsfuse.errors import AfsError
from tests.leaks import found_in, pieces
from tests.mount.harness import ROOT, Children, clear, wait_until
from tests.mount.usersmount import CELL, Process, beside, loopback_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

KEYTAB = b"\x05\x02 this is what a keytab of alice's may have in it"
KEYED = ("tokens", "keeps")  # the folders whose files have keys
SHOWN = ("cmdline", "environ", "comm", "status", "maps", "limits", "mountinfo", "stat")


class Daemon:
    """A daemon in the foreground, the cell that it asks, and what was said by anybody."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self.said: dict[str, bytes] = {}
        self._children = children
        address = loopback_address()
        confdir = folder / "conf"
        confdir.mkdir()
        (confdir / "ThisCell").write_text(f"{CELL}\n")
        (confdir / "CellServDB").write_text(f">{CELL}\n{address} #localhost\n")
        self.point = folder / "afs"
        self.point.mkdir()
        self.log = folder / "log"
        self.cell = Process(
            children.start(
                sys.executable, "-m", "tests.mount.closedcell", address,
                stdin=subprocess.PIPE, cwd=ROOT,
            ),
            b"ready",
        )  # fmt: skip
        options = f"confdir={confdir},bind={beside(address)},debug,crypt=crypt"
        self.process = children.start(
            sys.executable, "-m", "afsfuse", "mount", "afs", self.point, "-f",
            "-o", f"{options},logfile={self.log}", cwd=folder,
        )  # fmt: skip
        wait_until(lambda: os.path.ismount(self.point), "the mount")
        self.place = Place(folder / "run")

    def ask(self, verb: str, **arguments: object) -> bytes:
        """What the control socket says to a command."""
        try:
            answer = json.dumps(self.place.ask(verb, **arguments))
        except AfsError as exc:
            answer = str(exc)
        assert self.place.by_daemon
        self.said[f"{verb} {len(self.said)}"] = answer.encode()
        return answer.encode()

    def ask_badly(self, line: bytes) -> None:
        (name,) = os.listdir(self.folder / "run" / "control")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "run" / "control" / name))
            connection.sendall(line)
            self.said[f"badly {len(self.said)}"] = connection.recv(1 << 16)

    def command(self, *words: str, typed: bytes = b"") -> int:
        done = self._children.run_with(
            typed, sys.executable, "-m", "afsfuse", *words, cwd=self.folder
        )
        self.said[" ".join(words)] = done.stdout + done.stderr
        return done.returncode

    def read(self) -> str:
        """What comes of reading in a directory that only alice may read."""
        try:
            return (self.point / CELL / "closed" / "file").read_text()
        except OSError as exc:
            return type(exc).__name__

    def files(self, *, keyed: bool) -> dict[str, bytes]:
        """All that lies in its folders; with or without those files that are for keys."""
        found = {}
        for top, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name != "afs"]
            for name in names:
                path = os.path.join(top, name)
                wanted = (os.path.basename(top) in KEYED) == keyed
                if wanted and stat.S_ISREG(os.lstat(path).st_mode):
                    with open(path, "rb") as file:
                        found[path] = file.read()
        return found

    def shown(self) -> dict[str, bytes]:
        """What `ps` and its like see, from the side of root."""
        told = {}
        for name in SHOWN:
            with open(f"/proc/{self.process.pid}/{name}", "rb") as file:
                told[f"/proc/{name}"] = file.read()
        return told

    def everything(self) -> dict[str, bytes]:
        return {**self.files(keyed=False), **self.shown(), **self.said}


@pytest.fixture
def daemon(tmp_path: Path, children: Children, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    folder = tmp_path.resolve()
    monkeypatch.setenv(OVERRIDE, str(folder / "run"))
    yield Daemon(folder, children)
    children.end()
    clear(folder / "afs")


def test_no_key_is_left_anywhere(daemon: Daemon) -> None:
    assert daemon.cell.ask(repr(("make", "closed", {"alice": "rl"}))) == "done"
    text = daemon.cell.ask(repr(("token", "alice", {})))
    token = Token.decode(text)
    wrong = replace(token, key=Secret(bytes(range(101, 109))))
    again = Token.decode(daemon.cell.ask(repr(("token", "alice", {}))))
    due = replace(again, start=int(time.time()) - 1000, end=int(time.time()) + 200)
    secrets = {
        "key": token.key.reveal(), "wrong key": wrong.key.reveal(), "new key": again.key.reveal(),
        "keytab": KEYTAB, **pieces(token.ticket), **pieces(again.ticket),
    }  # fmt: skip

    assert daemon.read() == "PermissionError"
    assert b"identity" in daemon.ask("set", token=wrong.encode())
    wait_until(lambda: daemon.read() == "PermissionError", "the server refuses it")
    assert b"identity" in daemon.ask("set", token=text)
    wait_until(lambda: daemon.read() == "secret\n", "the token works")
    daemon.ask("tokens")
    daemon.ask("tokens", all=True)
    daemon.ask("keep", renewal=Renewal(Wanted(CELL, "NO.REALM"), token.client,
                                       keytab=Secret(KEYTAB)).encode())  # fmt: skip
    assert daemon.command("tokens") == 0
    assert daemon.command("tokens", "--json", "--all") == 0

    keyed = daemon.files(keyed=True)
    assert {name for _, name in found_in(keyed, secrets)} >= {"key", "keytab"}, "the search works"
    for path in keyed:
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
        folder = os.lstat(os.path.dirname(path))
        assert (stat.S_IMODE(folder.st_mode), folder.st_uid) == (0o700, os.geteuid())

    for bad in (
        request_line("set", token=text[:-9]), request_line("set", token=json.loads(text)),
        request_line(text, token=text), text.encode() + b"\n", request_line("keep", renewal=text),
        request_line("drop", cells=text), request_line("drop", cells=[text]),
        json.dumps({"v": text, "do": "hello"}).encode() + b"\n",
    ):  # fmt: skip
        daemon.ask_badly(bad)
    assert b"identity" in daemon.ask("set", token=due.encode())  # it is due to be renewed
    daemon.ask("keep", renewal=Renewal(Wanted(CELL, "NO.REALM"), token.client,
                                       keytab=Secret(KEYTAB)).encode())  # fmt: skip
    wait_until(lambda: b"cannot be renewed" in daemon.log.read_bytes(), "an attempt to renew it")

    assert not found_in(daemon.everything(), secrets)
    assert daemon.command("unlog") == 0
    wait_until(lambda: daemon.read() == "PermissionError", "the token is gone")
    assert not daemon.files(keyed=True)
    assert not found_in(daemon.everything(), secrets)
    log = daemon.log.read_text()
    assert "DEBUG" in log
    assert "refuses" in log or "refused" in log
    assert "Traceback" not in log


def test_a_daemon_that_crashes_leaves_no_core(daemon: Daemon) -> None:
    with open(f"/proc/{daemon.process.pid}/limits", encoding="utf-8") as lines:
        (core,) = [line.split()[4:6] for line in lines if line.startswith("Max core file size")]
    assert core == ["0", "0"]
    os.kill(daemon.process.pid, signal.SIGSEGV)
    ended = os.waitid(os.P_PID, daemon.process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert (ended.si_status, ended.si_code) == (signal.SIGSEGV, os.CLD_KILLED)
