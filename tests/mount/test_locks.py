"""Locks through the kernel: two processes and one mount, whose daemon knows no server."""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import interrupt_and_wait, wait_until
from tests.mount.lockers import Locker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.harness import Children, ToyMount

pytestmark = pytest.mark.mount


@pytest.fixture
def toy(toys: Callable[..., ToyMount]) -> ToyMount:
    """A toy that can be written to, with two files."""
    toy = toys(options={"read_only": False})
    toy.order("add", "file", b"content")
    toy.order("add", "other", b"content")
    return toy


@pytest.fixture
def one(children: Children) -> Locker:
    return Locker(children)


@pytest.fixture
def two(children: Children) -> Locker:
    return Locker(children)


def test_requests_come_to_the_daemon(toy: ToyMount) -> None:
    assert toy.state()["calls"]["keep_locks"] == 1
    assert "locks hold on this machine only" not in toy.log()


def test_flock_excludes(toy: ToyMount, one: Locker, two: Locker) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path), two("open", path)
    assert one("flock", mine, "sh") is None
    assert two("flock", theirs, "sh") is None
    assert two("flock", theirs, "ex") == "EAGAIN"
    assert one("flock", mine, "un") is None
    assert two("flock", theirs, "ex") is None
    assert one("flock", mine, "sh") == "EAGAIN"
    second = two("open", path)
    assert two("flock", second, "sh") == "EAGAIN"  # flock is of the open file, not the process
    assert two("close", theirs) is None
    wait_until(lambda: one("flock", mine, "sh") is None, "the lock of a closed file to go")


def test_flock_lives_as_long_as_any_copy_of_the_descriptor(
    toy: ToyMount, one: Locker, two: Locker
) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path), two("open", path)
    assert one("flock", mine, "ex") is None
    copy = one("dup", mine)
    assert one("close", mine) is None
    assert two("flock", theirs, "ex") == "EAGAIN"
    assert one("fork", copy, "close") is None
    assert two("flock", theirs, "ex") == "EAGAIN"
    assert one("fork", copy, "flock", "un") is None  # a child may unlock it for all
    assert two("flock", theirs, "ex") is None


def test_a_waiting_flock_gets_its_turn(toy: ToyMount, one: Locker, two: Locker) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path), two("open", path)
    assert one("flock", mine, "ex") is None
    two.begin("flock", theirs, "ex", True)
    assert two.waits()
    assert toy.state()["waiting"] == 1
    assert one("flock", mine, "un") is None
    assert two.end() is None


def test_ranges_exclude_where_they_meet(toy: ToyMount, one: Locker, two: Locker) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path, "w"), two("open", path, "w")
    assert one("lock", mine, "w", 10, 10) is None
    assert two("lock", theirs, "w", 0, 10) is None
    assert two("lock", theirs, "w", 20, 0) is None
    assert two("lock", theirs, "r", 15, 1) == "EAGAIN"
    assert two("test", theirs, "r", 0, 0) == ("w", 10, 10, one.pid)
    assert one("test", mine, "w", 100, 5) == ("w", 20, 0, two.pid)
    assert one("lock", mine, "r", 10, 10) is None  # weaker, in place
    assert two("test", theirs, "w", 0, 0) == ("r", 10, 10, one.pid)
    assert one("lock", mine, "u", 12, 2) is None  # leaves two pieces
    assert two("lock", theirs, "w", 12, 2) is None
    assert two("lock", theirs, "w", 11, 1) == "EAGAIN"
    assert two("lock", theirs, "w", 14, 1) == "EAGAIN"
    assert one("test", mine, "r", 10, 2) == ("u",)


def test_a_process_loses_its_ranges_with_any_close(toy: ToyMount, one: Locker, two: Locker) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path, "w"), two("open", path, "w")
    other = one("open", path, "r")
    assert one("lock", mine, "w") is None
    assert one("fork", mine, "close") is None  # a child has no locks to lose
    assert two("lock", theirs, "w") == "EAGAIN"
    assert one("fork", mine, "lock", "w", 0, 0) == "EAGAIN"
    assert one("close", other) is None  # which could only read, and so says POSIX
    assert two("lock", theirs, "w") is None


def test_locks_for_reading_need_no_writing(toy: ToyMount, one: Locker, two: Locker) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path), two("open", path, "w")
    assert one("lock", mine, "r", 5, 1) is None
    assert one("lock", mine, "w", 5, 1) == "EBADF"  # says the kernel
    assert two("lock", theirs, "w") == "EAGAIN"
    assert one("close", mine) is None
    assert two("lock", theirs, "w") is None


def test_locks_of_an_open_file_go_with_it(toy: ToyMount, one: Locker, two: Locker) -> None:
    """`F_OFD_SETLK`: no FLUSH names their owner, so RELEASE has to end them."""
    path = str(toy / "file")
    mine, theirs = one("open", path, "w"), two("open", path, "w")
    copy = one("dup", mine)
    assert one("ofd", mine, "w") is None
    assert one("close", mine) is None
    assert two("lock", theirs, "w") == "EAGAIN"
    assert one("close", copy) is None
    wait_until(lambda: two("lock", theirs, "w") is None, "the lock of a closed file to go")


@pytest.mark.parametrize("kind", ["flock", "lock"])
def test_a_killed_holder_holds_nothing(toy: ToyMount, one: Locker, two: Locker, kind: str) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path, "w"), two("open", path, "w")
    order = ("flock", mine, "ex") if kind == "flock" else ("lock", mine, "w")
    assert one(*order) is None
    if kind == "flock":
        two.begin("flock", theirs, "ex", True)
    else:
        two.begin("lock", theirs, "w", 0, 0, True)
    assert two.waits()
    one.kill()
    assert two.end() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["flock", "lock"])
def test_a_signal_ends_the_wait(
    toy: ToyMount, one: Locker, two: Locker, number: signal.Signals, kind: str
) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path, "w"), two("open", path, "w")
    assert one("flock", mine, "ex") is None
    assert one("lock", mine, "w") is None
    if kind == "flock":
        two.begin("flock", theirs, "ex", True)
    else:
        two.begin("lock", theirs, "w", 3, 3, True)
    assert two.waits()
    assert interrupt_and_wait(two.process, number) < 5
    wait_until(lambda: not toy.state()["waiting"], "nobody waiting")
    assert one("flock", mine, "un") is None
    assert one("test", mine, "w") == ("u",)  # what was given up was not got later


def test_two_that_wait_for_each_other_are_told(toy: ToyMount, one: Locker, two: Locker) -> None:
    file, other = str(toy / "file"), str(toy / "other")
    mine, my_other = one("open", file, "w"), one("open", other, "w")
    theirs, their_other = two("open", file, "w"), two("open", other, "w")
    assert one("lock", mine, "w") is None
    assert two("lock", their_other, "w") is None
    one.begin("lock", my_other, "w", 0, 0, True)
    assert one.waits()
    assert two("lock", theirs, "w", 0, 0, True) == errno.errorcode[errno.EDEADLK]
    assert two("lock", their_other, "u") is None
    assert one.end() is None


def test_the_end_of_the_mount_ends_waiting(toy: ToyMount, one: Locker, two: Locker) -> None:
    path = str(toy / "file")
    mine, theirs = one("open", path), two("open", path)
    assert one("flock", mine, "ex") is None
    two.begin("flock", theirs, "ex", True)
    assert two.waits()
    toy.process.send_signal(signal.SIGTERM)
    assert toy.process.wait(30) == 0, toy.log()
    assert two.end() == "ENOTCONN"


def test_only_closing_what_may_have_changed_something_is_told(
    toy: ToyMount, one: Locker, two: Locker
) -> None:
    path, other = str(toy / "file"), str(toy / "other")
    toy.order("behave", "other", "close", "untold")

    def flushes() -> int:
        return int(toy.state()["calls"].get("is_settled", 0))

    for name in (path, other):
        assert one("close", one("open", name)) is None
    assert flushes() == 0
    assert one("close", one("open", path, "w")) is None
    assert flushes() == 1
    held = two("open", path)
    assert two("lock", held, "r", 1, 1) is None
    assert one("close", one("open", other)) is None
    assert flushes() == 1
    assert one("close", one("open", path)) is None  # it might have had a lock
    assert flushes() == 2
    assert two("close", held) is None
    assert flushes() == 3
    assert one("close", one("open", path)) is None
    assert flushes() == 3


def test_without_the_module_locks_are_the_kernels(
    tmp_path: Path,
    toys: Callable[..., ToyMount],
    children: Children,
    one: Locker,
    two: Locker,
) -> None:
    hidden = tmp_path / "sitecustomize.py"  # which every Python imports at its start
    hidden.write_text("import sys\nsys.modules['afsfuse.fuse._libfuse'] = None\n")
    toy = toys(options={"read_only": False}, folders=(tmp_path,))
    assert "locks hold on this machine only" in toy.log()
    assert "keep_locks" not in toy.state()["calls"]
    toy.order("add", "file", b"content")
    path = str(toy / "file")
    mine, theirs = one("open", path, "w"), two("open", path, "w")
    assert one("flock", mine, "ex") is None
    assert two("flock", theirs, "ex") == "EAGAIN"
    assert one("lock", mine, "w", 1, 1) is None
    assert two("lock", theirs, "w") == "EAGAIN"
    assert one("close", mine) is None
    assert two("lock", theirs, "w") is None
    assert two("flock", theirs, "ex") is None
