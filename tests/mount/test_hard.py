"""Waits for a silent server: with `-o hard` they last until it is back, and Ctrl-C ends each."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import interrupt_and_wait, wait_until
from tests.mount.writing import WritableMount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mount.harness import Children

pytestmark = pytest.mark.mount

PROMPT = 1.0
"""Seconds within which Ctrl-C has to work."""

# Each says `ready`, waits for a line, and then does the one thing that is to wait.
PROGRAMS = {
    "lookup": "wait(); os.stat(path)",
    "open": """
known = os.open(path, os.O_PATH)
wait()
os.open(f"/proc/self/fd/{known}", os.O_RDONLY)
""",
    "list": "wait(); os.listdir(path)",
    "read": "file = os.open(path, os.O_RDONLY); wait(); os.read(file, 9)",
    "write": """
file = os.open(path, os.O_WRONLY)
wait()
while True:
    os.write(file, bytes(1 << 20))
""",
    "fsync": "file = os.open(path, os.O_WRONLY); os.write(file, b'x'); wait(); os.fsync(file)",
    "close": "file = os.open(path, os.O_WRONLY); os.write(file, b'x'); wait(); os.close(file)",
    "mkdir": "os.stat(os.path.dirname(path)); wait(); os.mkdir(path + '-new')",
}
PROLOGUE = """
import os, sys
path = sys.argv[1]
def wait():
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def mounts(tmp_path: Path, children: Children) -> Iterator[Callable[[str], WritableMount]]:
    made: list[WritableMount] = []

    def make(options: str) -> WritableMount:
        made.append(WritableMount(tmp_path.resolve(), options))
        return made[-1]

    try:
        yield make
        for mount in made:
            mount.order("silence", False)
            log = mount.unmount()
            assert "Traceback" not in log
            assert "a bug" not in log
    finally:
        children.end()
        for mount in made:
            mount.end()


@pytest.mark.parametrize("what", PROGRAMS)
def test_control_c_ends_a_wait_for_a_silent_server(
    mounts: Callable[[str], WritableMount], children: Children, what: str
) -> None:
    mount = mounts("hard,memory=8M,debug")
    child = begin(mount, children, what)
    time.sleep(1.5)
    assert child.poll() is None, child.communicate()
    assert interrupt_and_wait(child) < PROMPT
    assert child.returncode != 0


def begin(mount: WritableMount, children: Children, what: str) -> subprocess.Popen[bytes]:
    """Have a child do something for which it needs a server that is silent."""
    child = children.start(
        sys.executable, "-S", "-c", PROLOGUE + PROGRAMS[what], mount / "full",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"ready\n"
    for procedure in ("FETCH_STATUS", "INLINE_BULK_STATUS", "FETCH_DATA64"):
        mount.order("delay", procedure, 3600, 1000)  # nothing is learnt in the last moment
    if what == "open":
        mount.order("touch", "full")
    mount.order("silence", True)
    child.stdin.write(b"\n")
    child.stdin.flush()
    return child


def test_a_hard_mount_goes_on_when_the_server_is_back(
    mounts: Callable[[str], WritableMount], children: Children
) -> None:
    """Longer than a soft one would wait: a reader and a writer, and neither hears of it."""
    mount = mounts("hard,debug")
    children.run("ls", mount.root)
    mount.order("silence", True)
    writer = children.start("sh", "-c", 'echo kept > "$1"', "sh", mount / "f1")
    reader = children.start("sh", "-c", 'cat "$1" | wc -c', "sh", mount / "full")
    wait_until(lambda: "are kept" in mount.log(), "the first try is over", 60)
    time.sleep(2.0)
    assert writer.poll() is None
    assert reader.poll() is None
    mount.order("silence", False)
    assert writer.wait(60) == 0
    assert reader.communicate(timeout=60)[0].strip() == b"1048576"
    assert mount.stored("f1") == b"kept\n"


def test_a_soft_mount_gives_up_in_the_time_it_was_given(
    mounts: Callable[[str], WritableMount], children: Children
) -> None:
    mount = mounts("soft,retry=1,debug")
    children.run("ls", mount.root)
    mount.order("silence", True)
    began = time.monotonic()
    done = children.run("cat", mount / "full")
    assert b"Connection timed out" in done.stderr
    assert time.monotonic() - began < 20  # where it is 20 s for one call alone by default
