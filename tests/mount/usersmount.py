"""A mount of a cell in which users have rights of their own, and a process of each user."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.mount.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.harness import Children

CELL = "users.test"
ALICE, BOB, OTHER, SUPERUSER = USERS = (1001, 1002, 65534, 0)
NAMES = {ALICE: "alice", BOB: "bob", OTHER: "other", SUPERUSER: "root"}
CLOSED = {"alice": "rl", "bob": "l"}
_hosts = itertools.count()


def loopback_address() -> str:
    """One that no other mount here has, nor any of another process that runs tests."""
    high, low = divmod(os.getpid(), 250)
    return f"127.{100 + high % 100}.{1 + low}.{1 + next(_hosts) % 250}"


def beside(address: str, last: int = 254) -> str:
    """Another address of the same network, such as that of a client of the cell at `address`."""
    return f"{address.rpartition('.')[0]}.{last}"


class Process:
    """A process that answers each line with one."""

    def __init__(self, process: subprocess.Popen[bytes], ready: bytes) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stdout.readline() == ready + b"\n", self._complaint()

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._complaint()
        return answer.decode().rstrip("\n")

    def _complaint(self) -> str:
        self._process.kill()
        return self._process.communicate()[1].decode()


class UsersMount:
    """A mount, its cell, and a process of each user."""

    def __init__(self, folder: Path, children: Children, rule: str) -> None:
        folder.chmod(0o755)  # pytest makes it for root alone
        self.point = folder / "afs"
        self.point.mkdir()
        confdir = folder / "conf"
        confdir.mkdir()
        address = loopback_address()
        self._cell = Process(
            children.start(
                sys.executable, "-m", "tests.mount.usersd", self.point, confdir, address, rule,
                stdin=subprocess.PIPE, cwd=ROOT,
            ),
            b"mounted",
        )  # fmt: skip
        self._users = {
            uid: Process(
                children.start(
                    sys.executable, "-m", "tests.mount.userworker", str(uid), folder,
                    stdin=subprocess.PIPE, cwd=ROOT,
                ),
                b"ready",
            )
            for uid in USERS
        }  # fmt: skip

    def make(self, name: str, acl: dict[str, str]) -> None:
        """A directory with this access list, which nobody has seen yet."""
        assert self._cell.ask(repr(("make", name, acl))) == "done"

    def change(self, name: str, acl: dict[str, str]) -> None:
        """Another client changes the list. Returns when the mount has heard of it."""
        assert self._cell.ask(repr(("acl", name, acl))) == "done"

    def chmod(self, name: str, mode: str) -> None:
        """Another client sets the mode of the file in a directory, in octal."""
        assert self._cell.ask(repr(("chmod", name, {"file": mode}))) == "done"

    def does(self, uid: int, operation: str, name: str) -> str:
        return self._users[uid].ask(f"{operation} {self.point.name}/{CELL}/{name}")
