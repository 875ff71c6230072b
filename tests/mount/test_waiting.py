"""Requests that wait: they hold up nobody else, Ctrl-C ends them, and so does their time."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.asuser import as_user
from tests.mount.harness import interrupt_and_wait, state_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mount.harness import Children, ToyMount

pytestmark = pytest.mark.mount

PATIENCE = 5.0
"""Seconds: the promise is one, and the machine may be busy with other tests."""

# Many threads, each of which waits for one name: sys.argv is the directory and their number.
CROWD = r"""
import os, sys, threading
def look(number):
    try: os.stat(f"{sys.argv[1]}/{number}")
    except OSError as exc: os.write(1, b"%d\n" % exc.errno)  # one write: threads do not mix
for number in range(int(sys.argv[2])):
    threading.Thread(target=look, args=(number,)).start()
"""
READ = "import sys; open(sys.argv[1], 'rb', buffering=0).read(4096)"
DIRECT = """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
os.readv(descriptor, [mmap.mmap(-1, 4096)])
"""
LATER = "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.fork() or os.read(fd, 9)"


def crowd(toy: ToyMount, children: Children, directory: str, size: int) -> None:
    """Have so many requests wait for names in a directory."""
    toy.order("behave", directory, "lookup", "hang")
    children.start(sys.executable, "-S", "-c", CROWD, toy / directory, str(size))
    wait_until(lambda: toy.state()["waiting"] >= size, f"{size} waiting requests")


def test_300_blocked_requests_leave_the_rest_alone(toy: ToyMount, children: Children) -> None:
    toy.order("add_directory", "stuck")
    toy.order("add_directory", "well", 20)
    crowd(toy, children, "stuck", 300)
    assert children.run("stat", toy / "well" / "7").returncode == 0
    assert len(children.run("ls", "-l", toy / "well").stdout.splitlines()) == 21
    assert children.run("cat", toy / "well" / "8").stdout == b"8\n"
    assert toy.connection("waiting") >= 300
    toy.order("let_go", "stuck")
    wait_until(lambda: toy.connection("waiting") == 0, "all are answered")


def test_blocked_reads_leave_other_reads_alone(toy: ToyMount, children: Children) -> None:
    """The kernel has 12 places for reads ahead by default, for all files together."""
    toy.order("add_directory", "files", 40)
    toy.order("add", "well", b"w" * 2_000_000)
    for number in range(40):
        toy.order("behave", f"files/{number}", "read", "hang")
    readers = [children.start("cat", toy / "files" / str(number)) for number in range(40)]
    wait_until(lambda: toy.state()["waiting"] >= 40, "40 waiting reads")
    assert len(children.run("cat", toy / "well").stdout) == 2_000_000
    for number in range(40):
        toy.order("let_go", f"files/{number}")
    assert [reader.wait(PATIENCE * 4) for reader in readers] == [0] * 40


def test_a_waiting_request_costs_little_memory(toy: ToyMount, children: Children) -> None:
    def resident() -> int:
        line = next(
            line
            for line in Path(f"/proc/{toy.process.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        return int(line.split()[1])

    toy.order("add_directory", "stuck")
    before = resident()
    crowd(toy, children, "stuck", 1000)
    assert resident() - before < 1000 * 32  # KiB; workers' buffers of 1 MiB are hardly touched


def test_more_than_the_limit_is_refused(toys: Callable[..., ToyMount], children: Children) -> None:
    toy = toys(limits={"requests": 64})
    toy.order("add_directory", "stuck")
    toy.order("behave", "stuck", "lookup", "hang")
    child = children.start(sys.executable, "-S", "-c", CROWD, toy / "stuck", "70")
    assert child.stdout is not None
    refused = [int(child.stdout.readline()) for _ in range(6)]
    assert refused == [errno.EAGAIN] * 6
    assert "64 requests wait" in toy.log()
    toy.order("let_go", "stuck")
    wait_until(lambda: child.poll() is not None, "the rest is answered")


def test_a_wait_has_an_end(toys: Callable[..., ToyMount], children: Children) -> None:
    toy = toys(limits={"timeout": 1.0})
    toy.order("add", "stuck", b"content")
    toy.order("behave", "stuck", "open", "hang")
    done = children.run("cat", toy / "stuck")
    assert b"Connection timed out" in done.stderr
    assert "open (unique" in toy.log()
    assert "answered with a timeout" in toy.log()


WAITS: dict[str, tuple[str, str, list[str]]] = {
    # what: the node, its operation that hangs, the command
    "stat": ("dir", "lookup", ["stat", "dir/new"]),
    "ls": ("dir", "opendir", ["ls", "dir"]),
    "ls reading": ("dir", "readdir", ["ls", "dir"]),
    "cat opening": ("file", "open", ["cat", "file"]),
    "cat reading": ("file", "read", ["cat", "file"]),
    "read": ("file", "read", [sys.executable, "-S", "-c", READ, "file"]),
    "direct read": ("file", "read", [sys.executable, "-S", "-c", DIRECT, "file"]),
    "readlink": ("link", "readlink", ["readlink", "link"]),
    "df": ("dir", "statfs", ["stat", "-f", "dir"]),
    "getfattr": ("file", "getxattr", ["getfattr", "-n", "afs.cell", "file"]),
    "cd": ("dir", "access", ["sh", "-c", "cd dir"]),
}


@pytest.fixture
def furnished(toy: ToyMount) -> ToyMount:
    toy.order("add_directory", "dir", 3)
    toy.order("add", "file", b"content" * 10_000)
    toy.order("add", "link", b"", b"file")
    for name in ("dir", "file", "link"):
        os.lstat(toy / name)
    return toy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("what", WAITS)
def test_a_signal_ends_a_wait(
    furnished: ToyMount, children: Children, what: str, number: signal.Signals
) -> None:
    node, operation, command = WAITS[what]
    furnished.order("behave", node, operation, "hang")
    child = children.start(*command, cwd=furnished.path)
    wait_until(lambda: furnished.state()["waiting"], "the request")
    time.sleep(0.2)
    assert child.poll() is None
    assert interrupt_and_wait(child, number) < PATIENCE
    assert child.returncode != 0
    wait_until(lambda: not furnished.state()["waiting"], "no request waits")
    wait_until(lambda: furnished.connection("waiting") == 0, "nor in the kernel")
    assert (furnished / "dir").exists()


def test_who_reads_counts_not_who_opened(furnished: ToyMount, children: Children) -> None:
    furnished.order("behave", "file", "read", "hang")
    parent = children.start(sys.executable, "-S", "-c", LATER, furnished / "file")
    parent.wait(PATIENCE * 4)
    wait_until(lambda: furnished.state()["waiting"], "the request")
    (reader,) = (
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(furnished / "file") in path.read_bytes().decode(errors="replace")
    )
    os.kill(reader, signal.SIGTERM)
    wait_until(lambda: state_of(reader) in ("", "Z"), "the reader ends", PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT])
def test_signals_that_mean_nothing_end_nothing(
    furnished: ToyMount, children: Children, number: signal.Signals
) -> None:
    furnished.order("behave", "dir", "opendir", "hang")
    child = children.start("ls", furnished / "dir")
    wait_until(lambda: furnished.state()["waiting"], "the request")
    child.send_signal(number)
    time.sleep(1.0)
    assert child.poll() is None
    furnished.order("let_go", "dir")
    assert child.wait(PATIENCE * 4) == 0


def test_a_blocked_signal_ends_nothing(furnished: ToyMount, children: Children) -> None:
    furnished.order("behave", "dir", "opendir", "hang")
    code = (
        "import os, signal, sys;"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); os.listdir(sys.argv[1])"
    )
    child = children.start(sys.executable, "-S", "-c", code, furnished / "dir")
    wait_until(lambda: furnished.state()["waiting"], "the request")
    child.terminate()
    time.sleep(1.0)
    assert child.poll() is None
    furnished.order("let_go", "dir")
    assert child.wait(PATIENCE * 4) == 0


def test_nobody_is_polled_when_nothing_waits(toy: ToyMount) -> None:
    """An idle mount sleeps: hardly any time passes for its process."""

    def ticks() -> int:
        fields = Path(f"/proc/{toy.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(3.0)
    before = ticks()
    time.sleep(2.0)
    assert ticks() - before <= 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_one_user_cannot_have_all_that_may_wait(
    toys: Callable[..., ToyMount], children: Children
) -> None:
    """Where all may wait, one has half; nobody else is refused, also if he has to wait himself."""
    toy = toys(limits={"requests": 200}, options={"allow_other": True})
    at, name = toy.path.parent, toy.path.name
    toy.order("add_directory", "stuck")
    toy.order("add_directory", "well", 20)
    toy.order("behave", "stuck", "lookup", "hang")
    flood = children.start(sys.executable, "-S", "-c", CROWD, toy / "stuck", "400")
    wait_until(lambda: toy.log().count("is refused with EAGAIN") >= 300, "300 are refused")
    assert toy.state()["waiting"] == 100
    assert as_user(lambda: len(os.listdir(f"{name}/well")), at=at) == 20
    assert as_user(lambda: Path(name, "well", "7").read_text(), at=at) == "7\n"
    assert flood.poll() is None
    toy.order("let_go", "stuck")
    assert flood.communicate(timeout=PATIENCE * 6)[0].split().count(b"11") == 300
