"""Four users of one mount: what one has seen is not another one's, whatever the kernel has cached.

Alice may read in a directory, Bob may only look into it, and two have no token; one of these is
root, who is nobody special. The kernel's caches are real, and so are the users.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import ROOT, Children, clear, wait_until
from tests.mount.userworker import LOOKING, READING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users"),
]

CELL = "users.test"
ALICE, BOB, OTHER, SUPERUSER = USERS = (1001, 1002, 65534, 0)
NAMES = {ALICE: "alice", BOB: "bob", OTHER: "other", SUPERUSER: "root"}
CLOSED = {"alice": "rl", "bob": "l"}
_hosts = itertools.count()


def loopback_address() -> str:
    """One that no other mount here has, nor any of another process that runs tests."""
    high, low = divmod(os.getpid(), 250)
    return f"127.{100 + high % 100}.{1 + low}.{1 + next(_hosts) % 250}"


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


@pytest.fixture
def mounts(tmp_path: Path, children: Children) -> Iterator[dict[str, UsersMount]]:
    """A mount by its rule, made when it is asked for."""

    class Mounts(dict[str, UsersMount]):
        def __missing__(self, rule: str) -> UsersMount:
            self[rule] = UsersMount(tmp_path.resolve(), children, rule)
            return self[rule]

    yield Mounts()
    children.end()
    clear(tmp_path.resolve() / "afs")


def allowed(uid: int, operation: str) -> bool:
    return uid == ALICE or (uid == BOB and operation in LOOKING)


def test_each_user_sees_what_its_own_rights_allow(mounts: dict[str, UsersMount]) -> None:
    """Every operation, in every order of who touches first, and all of it twice."""
    mount = mounts["strict"]
    wrong = []
    for operation in LOOKING + READING:
        for number, order in enumerate(itertools.permutations(USERS)):
            name = f"{operation}-{number}"
            mount.make(name, CLOSED)
            for uid in (*order, *order):
                said = mount.does(uid, operation, name)
                if said != ("ok" if allowed(uid, operation) else "EACCES"):
                    wrong.append((operation, [NAMES[one] for one in order], NAMES[uid], said))
    assert not wrong


def test_all_that_one_user_brought_into_the_caches_is_not_the_others(
    mounts: dict[str, UsersMount],
) -> None:
    mount = mounts["strict"]
    for operation in LOOKING + READING:
        mount.make(operation, CLOSED)
        for done in LOOKING + READING:
            assert mount.does(ALICE, done, operation) == "ok"
        for uid in USERS:
            said = "ok" if allowed(uid, operation) else "EACCES"
            assert mount.does(uid, operation, operation) == said, (operation, NAMES[uid])


@pytest.mark.parametrize("leaking", ["traverse", "lstat", "stat", "absent"])
def test_without_the_rule_of_timeouts_it_would_leak(
    mounts: dict[str, UsersMount], leaking: str
) -> None:
    """The test above can fail: here the kernel keeps what Alice looked up, for everybody."""
    mount = mounts["leaky"]
    mount.make("closed", CLOSED)
    assert mount.does(OTHER, leaking, "closed") == "EACCES"
    assert mount.does(ALICE, leaking, "closed") == "ok"
    assert mount.does(OTHER, leaking, "closed") == "ok"


@pytest.mark.parametrize("operation", LOOKING + READING)
def test_a_list_that_changes_in_between(mounts: dict[str, UsersMount], operation: str) -> None:
    mount = mounts["strict"]
    mount.make("changing", {"anybody": "rl"})
    for uid in USERS:
        assert mount.does(uid, operation, "changing") == "ok"
    mount.change("changing", CLOSED)
    for uid in (OTHER, SUPERUSER, BOB, ALICE):
        said = "ok" if allowed(uid, operation) else "EACCES"
        wait_until(
            lambda uid=uid, said=said: mount.does(uid, operation, "changing") == said,  # type: ignore[misc]
            f"{NAMES[uid]} hears {said}",
        )
    mount.change("changing", {"bob": "rl"})
    for uid in USERS:
        said = "ok" if uid == BOB else "EACCES"
        assert mount.does(uid, operation, "changing") == said
    mount.change("changing", {"anybody": "rl"})
    for uid in USERS:
        assert mount.does(uid, operation, "changing") == "ok"


def test_what_was_mapped_stays_and_opens_nothing(mounts: dict[str, UsersMount]) -> None:
    mount = mounts["strict"]
    mount.make("mapped", CLOSED)
    assert mount.does(ALICE, "hold", "mapped") == "ok"
    mount.change("mapped", {"bob": "l"})
    assert mount.does(ALICE, "held_still", "mapped") == "ok"
    for uid in USERS:
        assert mount.does(uid, "read", "mapped") == "EACCES", "the pages are the mapping's only"
