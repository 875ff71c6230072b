"""Every system call, whatever it waits for: a signal ends it, and what waits beside it goes on.

One mount with `-o hard`, so that no wait ends by itself. All programs of a round wait at the same
time, each in a directory of its own, since the kernel lets only one at a time change a directory.
Waits of a mount without a cell are in `test_waiting.py`, of locks that others have in
`test_locks.py`.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.mount.harness import Children, wait_until
from tests.mount.writing import WritableMount

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mount

PATIENCE = 5.0
"""Seconds for all of a round: the promise is one, and the machine may be busy with other tests."""

# What a program does before it says `ready`, and what it does then, in the directory that it is in.
CALLS = {
    "lookup": ("", "os.stat('f')"),
    "open": ("known = os.open('f', os.O_PATH)", "os.open(f'/proc/self/fd/{known}', os.O_RDONLY)"),
    "read": ("fd = os.open('f', os.O_RDONLY)", "os.read(fd, 9)"),
    "write": ("fd = os.open('f', os.O_WRONLY)", "while True: os.write(fd, bytes(1 << 20))"),
    "fsync": ("fd = os.open('f', os.O_WRONLY)", "os.write(fd, b'x'); os.fsync(fd)"),
    "close": ("fd = os.open('f', os.O_WRONLY)", "os.write(fd, b'x'); os.close(fd)"),
    "truncate": ("os.stat('f')", "os.truncate('f', 3)"),
    "chmod": ("os.stat('f')", "os.chmod('f', 0o600)"),
    "readdir": ("os.stat('sub')", "os.listdir('sub')"),
    "readlink": ("os.lstat('link')", "os.readlink('link')"),
    "create": ("os.listdir()", "os.open('new', os.O_CREAT | os.O_EXCL | os.O_WRONLY)"),
    "mkdir": ("os.listdir()", "os.mkdir('new')"),
    "symlink": ("os.listdir()", "os.symlink('to', 'new')"),
    "link": ("os.stat('f')", "os.link('f', 'new')"),
    "unlink": ("os.stat('f')", "os.unlink('f')"),
    "rmdir": ("os.stat('sub')", "os.rmdir('sub')"),
    "rename": ("os.stat('f')", "os.rename('f', 'new')"),
    "lock": ("fd = os.open('f', os.O_RDWR)", "fcntl.flock(fd, fcntl.LOCK_EX)"),
    "statfs": ("", "os.statvfs('.')"),
    "getxattr": ("os.stat('sub')", "os.getxattr('sub', 'afs.acl')"),
}
KNOWN = {"lookup", "open", "read"}
"""What would not need the server, had it not broken its promise about `f` meanwhile."""
# Of those, what comes to a volume that nobody has looked for yet, whose name is in `name`.
ENTERING = {
    "lookup": "os.stat(name + '/f')",
    "open": "os.open(name, os.O_RDONLY)",
    "readdir": "os.listdir(name)",
    "create": "os.open(name + '/new', os.O_CREAT | os.O_WRONLY)",
    "mkdir": "os.mkdir(name + '/new')",
    "getxattr": "os.getxattr(name + '/.', 'afs.acl')",
    "statfs": "os.statvfs(name + '/.')",
}
PROGRAM = """
import fcntl, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
name = sys.argv[1]
{before}
print("ready", flush=True)
sys.stdin.readline()
{act}
"""


class Waiter(NamedTuple):
    what: str
    number: signal.Signals
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableMount]:
    mount = WritableMount(tmp_path_factory.mktemp("hard").resolve(), "hard,memory=8M,debug")
    try:
        yield mount
        mount.order("fault", "none")
        log = mount.unmount()
        assert "Traceback" not in log
        assert "a bug" not in log
    finally:
        mount.end()


def start(
    mount: WritableMount, children: Children, place: int, what: str, before: str, act: str
) -> subprocess.Popen[bytes]:
    child = children.start(
        sys.executable, "-S", "-c", PROGRAM.format(before=before, act=act), mount / f"v{place}",
        stdin=subprocess.PIPE, cwd=mount / f"w{place}",
    )  # fmt: skip
    assert child.stdout is not None
    return child


def go(waiter: Waiter) -> None:
    assert waiter.process.stdin is not None
    waiter.process.stdin.write(b"\n")
    waiter.process.stdin.flush()


@pytest.mark.parametrize(
    ("fault", "first"), [("busy", 0), ("offline", 40), ("location", 80), ("silent", 100)]
)
def test_a_signal_ends_each_wait(
    mount: WritableMount, children: Children, fault: str, first: int
) -> None:
    calls = CALLS if fault != "location" else {w: ("", act) for w, act in ENTERING.items()}
    waiters: list[Waiter] = []
    for what, (before, act) in calls.items():
        for number in (signal.SIGINT, signal.SIGKILL):
            place = first + len(waiters)
            child = start(mount, children, place, what, before, act)
            waiters.append(Waiter(what, number, child))
    for waiter in waiters:
        assert waiter.process.stdout is not None
        assert waiter.process.stdout.readline() == b"ready\n", waiter
    if fault == "silent":  # nothing is learnt in the last moment
        for procedure in ("FETCH_STATUS", "INLINE_BULK_STATUS", "FETCH_DATA64"):
            mount.order("delay", procedure, 3600, 1000)
    else:
        mount.order("fault", fault)
    for place, waiter in enumerate(waiters, first):
        if waiter.what in KNOWN and fault != "location":
            mount.order("touch", f"w{place}/f")
    if fault == "silent":
        mount.order("silence", True)
    for waiter in waiters:
        go(waiter)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: mount.waiting() >= len(waiters), f"{len(waiters)} requests wait")
    time.sleep(0.3)
    ended = [(w.what, w.process.communicate()) for w in waiters if w.process.poll() is not None]
    assert not ended
    assert mount.waiting() >= len(waiters)
    for waiter in waiters:
        waiter.process.send_signal(waiter.number)
    deadline = time.monotonic() + PATIENCE
    late = []
    for waiter in waiters:
        try:
            waiter.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            late.append((waiter.what, waiter.number.name))
    assert not late
    assert all(waiter.process.returncode == -waiter.number for waiter in waiters)
    mount.order("fault", "none")
    wait_until(lambda: not mount.waiting(), "nothing waits any more", 60)
    wait_until(lambda: children.run("stat", mount / "f0").returncode == 0, "all is well", 60)


def test_what_is_known_does_not_need_the_location_server(
    mount: WritableMount, children: Children
) -> None:
    children.run("ls", mount.root)
    mount.order("fault", "location")
    done = children.run("sh", "-c", "echo new > f1 && cat f1 && rm f2", cwd=mount.root)
    assert (done.returncode, done.stdout) == (0, b"new\n"), done.stderr
    mount.order("fault", "none")


CATCHING = """
import os, signal, sys
signal.signal(signal.SIGINT, lambda number, frame: os._exit(9))
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, b'x')
print("ready", flush=True)
os.fsync(fd)
"""


def test_who_catches_the_signal_and_exits_is_let_go(
    mount: WritableMount, children: Children
) -> None:
    """The kernel closes his file, and signals do not reach him any more: that waits for one try."""
    children.run("ls", mount.root)
    mount.order("fault", "offline")
    child = children.start(sys.executable, "-S", "-c", CATCHING, mount / "f3")
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    wait_until(mount.waiting, "fsync waits")
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE * 6) == 9
    mount.order("fault", "none")
    wait_until(lambda: mount.stored("f3") == b"x", "it is stored later", 60)
