"""Writing through the kernel to a cell in one process, which can be told to misbehave.

The tests' own process never touches the mount while something of it may hang: children do.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.errors import ViceCode
from tests.mount.harness import ROOT, Children, interrupt_and_wait, wait_until
from tests.mount.writesd import CELL
from tests.mount.writing import WritableMount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

STEPS = 400

# Writes so many bytes to a file, and says with which errno that ended, and where.
WRITER = """
import os, sys
path, size = sys.argv[1], int(sys.argv[2])
file = os.open(path, os.O_WRONLY | os.O_TRUNC)
try:
    for _ in range(0, size, 1 << 16):
        os.write(file, bytes(min(size, 1 << 16)))
except OSError as exc:
    print("write", exc.errno)
try:
    os.close(file)
except OSError as exc:
    print("close", exc.errno)
"""
SYNC = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY)
try:
    os.fsync(file)
except OSError as exc:
    print("fsync", exc.errno)
try:
    os.close(file)
except OSError as exc:
    print("close", exc.errno)
"""
APPENDER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(200):
    os.write(file, f"{sys.argv[2]} {number}\\n".encode())
"""


@pytest.fixture
def mount(tmp_path: Path, children: Children) -> Iterator[WritableMount]:
    made = WritableMount(tmp_path.resolve())
    try:
        yield made
        log = made.unmount()
        assert "Traceback" not in log
        assert "a bug" not in log
    finally:
        children.end()
        made.end()


class Commands:
    """`afsfuse status`, as people use it."""

    def __init__(self, children: Children) -> None:
        self._children = children

    def __call__(self, *words: str) -> str:
        which = () if "--discard" in words else ("--unstored",)
        command = (sys.executable, "-m", "afsfuse", "status", *which, *words)
        done = self._children.run(*command, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def files(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = json.loads(self("--json"))["files"]
        return told


@pytest.fixture
def status(children: Children) -> Commands:
    return Commands(children)


def said(children: Children, program: str, *arguments: str | Path) -> str:
    done = children.python(program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_as_on_a_local_file_system(
    mount: WritableMount, children: Children, tmp_path: Path, seed: int
) -> None:
    local = tmp_path / "local"
    done = children.run(
        sys.executable, "-m", "tests.mount.fsx", mount / "f0", local, str(seed), str(STEPS),
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert mount.stored("f0") == local.read_bytes()


def test_appends_of_several_processes_do_not_overlap(
    mount: WritableMount, children: Children
) -> None:
    writers = [
        children.start(sys.executable, "-S", "-c", APPENDER, mount / "f0", f"writer {number}")
        for number in range(4)
    ]
    for writer in writers:
        assert writer.wait(60) == 0
    lines = mount.stored("f0").decode().splitlines()
    assert sorted(lines) == sorted(f"writer {a} {b}" for a in range(4) for b in range(200))


def test_appends_of_two_clients_in_turn(mount: WritableMount, children: Children) -> None:
    """The kernel appends where it believes that the file ends, and asks nobody before it does."""
    append = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | int(sys.argv[3]))
os.write(file, sys.argv[2].encode())
os.close(file)
"""
    expected = b""
    for number in range(4):
        for flags in (0, os.O_CREAT):
            line = f"ours {number} {flags}\n"
            assert said(children, append, mount / "f0", line, str(flags)) == ""
            expected += line.encode()
            theirs = b"theirs %d %d\n" % (number, flags)
            mount.order("append", "f0", theirs)
            expected += theirs
    assert mount.stored("f0") == expected


def test_appends_through_a_handle_that_stays_open(mount: WritableMount, children: Children) -> None:
    """The kernel goes on to append where it believes that the file ends: that is put right."""
    program = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND)
for line in sys.stdin:
    os.write(file, line.encode())
    os.fsync(file)
    print(os.fstat(file).st_size if "asked" in line else "", flush=True)
"""
    writer = children.start(
        sys.executable, "-S", "-c", program, mount / "f0", stdin=subprocess.PIPE
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    expected = b""
    for number in range(12):
        ours = b"ours %d, %s\n" % (number, b"asked" if number % 3 else b"and more" * 9000)
        writer.stdin.write(ours)
        writer.stdin.flush()
        expected += ours
        told = writer.stdout.readline()
        assert mount.stored("f0") == expected
        assert told in (b"\n", b"%d\n" % len(expected))
        if number % 4 != 3:
            theirs = b"theirs %d\n" % number
            mount.order("append", "f0", theirs)
            expected += theirs
    program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    wait_until(
        lambda: said(children, program, mount / "f0").encode() == expected, "what is read here"
    )
    writer.communicate()


def test_a_volume_at_two_places_shows_one_file(mount: WritableMount, children: Children) -> None:
    here, there = mount / "f0", mount.point / CELL / "f0"
    both = """
import sys
with open(sys.argv[1], "r+b", buffering=0) as here, open(sys.argv[2], "rb", buffering=0) as there:
    there.read()
    here.write(b"written here")
    for _ in range(300):
        there.seek(0)
        if there.read() == b"written here":
            print("seen there, before it is stored")
            break
        time.sleep(0.01)
"""
    assert said(children, "import time\n" + both, here, there).startswith("seen there")


def test_close_tells_of_what_was_mapped_whoever_else_has_it_mapped(
    mount: WritableMount, children: Children
) -> None:
    """The kernel writes pages of a mapping through any of the handles that have one."""
    program = """
import mmap, os, sys
first, second = (os.open(sys.argv[1], os.O_RDWR) for _ in range(2))
os.ftruncate(first, 8192)
os.fsync(first)
ours, theirs = mmap.mmap(first, 8192), mmap.mmap(second, 8192)
ours[:6] = b"mapped"
os.close(first)
print("closed", flush=True)
sys.stdin.readline()
"""
    writer = children.start(
        sys.executable, "-S", "-c", program, mount / "f0", stdin=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"closed\n"
    assert mount.stored("f0") == b"mapped".ljust(8192, b"\0")
    writer.communicate(b"\n", timeout=30)
    assert writer.returncode == 0


def test_what_is_changed_by_path_is_done(mount: WritableMount, children: Children) -> None:
    program = """
import os, sys
path = sys.argv[1]
os.truncate(path, 5)
os.truncate(path, 3)
os.utime(path, ns=(1, 1_234_567_890_987_654_321))
os.utime(path, ns=(0, 1_234_567_890_000_000_000))
os.chmod(path, 0o600)
os.chown(path, -1, -1)
told = os.stat(path)
print(told.st_size, told.st_mtime_ns, oct(told.st_mode & 0o7777))
file = os.open(path, os.O_RDWR)
os.posix_fallocate(file, 0, 10)
os.close(file)
print(os.stat(path).st_size)
try:
    os.chown(path, 4711, -1)
except OSError as exc:
    print(exc.errno)
os.chmod(path, 0o400)
try:
    os.open(path, os.O_WRONLY)
except OSError as exc:
    print(exc.errno)
"""
    assert said(children, program, mount / "f0").split("\n") == [
        "3 1234567890000000000 0o600",
        "10",  # the C library writes zeros where the file system does not do it
        str(errno.EPERM),
        str(errno.EACCES),
        "",
    ]
    assert mount.stored("f0") == bytes(10)


def test_over_quota_close_says_so_and_the_data_is_stored_when_there_is_room(
    mount: WritableMount, children: Children, status: Commands
) -> None:
    assert status() == "Everything is stored.\n"
    mount.order("quota", 1)
    size = 3 << 20  # one MiB more than the quota is let through
    assert said(children, WRITER, mount / "f0", str(size)) == f"close {errno.EDQUOT}\n"
    (file,) = status.files()
    assert (file["path"], file["bytes"]) == (str(mount / "f0"), size)
    assert "VOVERQUOTA" in file["error"]
    assert str(size) in status()
    # It is told again, and kept: by whoever closes the file next.
    assert said(children, SYNC, mount / "f0") == f"fsync {errno.EDQUOT}\nclose {errno.EDQUOT}\n"
    assert said(children, WRITER, mount / "f1", "100") == ""
    mount.order("quota", 0)
    wait_until(lambda: not status.files(), "what failed is tried again")
    assert mount.stored("f0") == bytes(size)
    assert said(children, SYNC, mount / "f0") == ""


def test_much_more_than_there_is_room_for_ends_in_write(
    mount: WritableMount, children: Children, status: Commands
) -> None:
    mount.order("quota", 1)
    told = said(children, WRITER, mount / "f0", str(60 << 20))
    assert told == f"write {errno.EDQUOT}\nclose {errno.EDQUOT}\n"
    (file,) = status.files()
    assert file["bytes"] < 40 << 20
    assert status("--discard", str(mount / "f0")).endswith("were given up\n")
    assert status.files() == []
    assert said(children, "import sys; print(len(open(sys.argv[1]).read()))", mount / "f0") == "0\n"


def test_a_file_that_cannot_be_stored_can_be_cut(
    mount: WritableMount, children: Children, status: Commands
) -> None:
    mount.order("quota", 1)
    assert said(children, WRITER, mount / "f0", str(3 << 20)) == f"close {errno.EDQUOT}\n"
    assert said(children, "import os, sys; os.truncate(sys.argv[1], 10)", mount / "f0") == ""
    assert status.files() == []
    assert mount.stored("f0") == bytes(10)


def test_what_was_given_up_is_told_to_who_wrote_it(
    mount: WritableMount, children: Children, status: Commands
) -> None:
    mount.order("abort", "STORE_DATA64", int(ViceCode.VDISKFULL), 1000)
    program = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY)
os.write(file, b"lost")
try:
    os.fsync(file)
except OSError as exc:
    print(exc.errno, flush=True)
sys.stdin.readline()
try:
    os.fsync(file)
except OSError as exc:
    print(exc.errno, flush=True)
os.fsync(file)
"""
    writer = children.start(
        sys.executable, "-S", "-c", program, mount / "f0", stdin=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"%d\n" % errno.ENOSPC
    status("--discard", str(mount / "f0"))
    out, err = writer.communicate(b"\n", timeout=30)
    assert out == b"%d\n" % errno.EIO, err
    assert writer.returncode == 0


def test_a_busy_volume_is_waited_for(mount: WritableMount, children: Children) -> None:
    mount.order("abort", "STORE_DATA64", int(ViceCode.VBUSY), 2)
    assert said(children, WRITER, mount / "f0", "100") == ""
    assert mount.stored("f0") == bytes(100)


def test_control_c_ends_a_wait_and_not_the_store(
    mount: WritableMount, children: Children, status: Commands
) -> None:
    mount.order("delay", "STORE_DATA64", 4.0, 1)
    writer = children.start(sys.executable, "-S", "-c", WRITER, mount / "f0", "100")
    wait_until(lambda: mount.order("calls").get("StoreData64"), "the store is under way")
    assert interrupt_and_wait(writer) < 3.0
    wait_until(lambda: not status.files(), "it is stored in the background")
    assert mount.stored("f0") == bytes(100)


def test_a_last_store_at_the_end_of_the_mount(
    mount: WritableMount, children: Children, status: Commands
) -> None:
    mount.order("abort", "STORE_DATA64", int(ViceCode.VDISKFULL), 1)
    told = said(children, WRITER, mount / "f0", "1000")
    assert told == f"close {errno.ENOSPC}\n"
    assert status.files()
    assert "are not stored" not in mount.unmount()


def test_what_is_lost_at_the_end_of_the_mount_is_named(
    mount: WritableMount, children: Children
) -> None:
    mount.order("abort", "STORE_DATA64", int(ViceCode.VDISKFULL), 1000)
    assert said(children, WRITER, mount / "f0", "1000") == f"close {errno.ENOSPC}\n"
    assert "f0: 1000 bytes of uid-0 are not stored" in mount.unmount()
