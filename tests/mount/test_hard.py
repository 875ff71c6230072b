"""Waits for servers: with `-o hard` they last until it is over, with `soft` as long as was said.

The daemon gives silent servers up sooner than usual, and looks for them more often; see
`tests.tools.hasty`.
"""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import wait_until
from tests.mount.writing import WritableMount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mount.harness import Children

pytestmark = pytest.mark.mount

HASTE = {"DEAD": 6.0, "AGAIN": 2.0, "UNLOCATED": 1.0}


@pytest.fixture
def mounts(tmp_path: Path, children: Children) -> Iterator[Callable[[str], WritableMount]]:
    made: list[WritableMount] = []

    def make(options: str) -> WritableMount:
        made.append(WritableMount(tmp_path.resolve(), options, **HASTE))
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


def test_a_hard_mount_goes_on_when_the_server_is_back(
    mounts: Callable[[str], WritableMount], children: Children
) -> None:
    """Longer than a soft one would wait: who reads, writes or changes names hears nothing of it."""
    mount = mounts("hard,debug")
    children.run("ls", mount.root, mount / "w0", mount / "w1", mount / "w2")
    mount.order("silence", True)
    commands = ["mkdir w0/new", "mv w1/f w1/new", "rm w2/f"]
    changes = [children.start(*command.split(), cwd=mount.root) for command in commands]
    writer = children.start("sh", "-c", 'echo kept > "$1"', "sh", mount / "f1")
    reader = children.start("sh", "-c", 'cat "$1" | wc -c', "sh", mount / "full")
    wait_until(lambda: "are kept" in mount.log(), "the first try is over", 60)
    wait_until(lambda: "lost contact with file server" in mount.log(), "it is found silent", 90)
    time.sleep(2.0)
    assert all(process.poll() is None for process in (writer, reader, *changes))
    mount.order("silence", False)
    assert [process.wait(90) for process in (writer, *changes)] == [0, 0, 0, 0]
    assert reader.communicate(timeout=60)[0].strip() == b"1048576"
    assert mount.stored("f1") == b"kept\n"
    for directory, names in (
        ("w0", {"f", "g", "link", "new", "sub"}), ("w1", {"g", "link", "new", "sub"}),
        ("w2", {"g", "link", "sub"}),
    ):  # fmt: skip
        assert set(children.run("ls", mount / directory).stdout.decode().split()) == names


SOFT = {"busy": errno.EBUSY, "offline": errno.ENXIO, "location": errno.ETIMEDOUT,
        "silent": errno.ETIMEDOUT}  # fmt: skip


def is_there(children: Children, path: Path) -> bool:
    return children.run("ls", path).returncode == 0


def test_a_soft_mount_gives_up_in_the_time_it_was_given(
    mounts: Callable[[str], WritableMount], children: Children
) -> None:
    """It says what it was, and goes on when that is over."""
    mount = mounts("soft,retry=1,debug")
    children.run("ls", mount.root)
    for number, (fault, expected) in enumerate(SOFT.items()):
        path = f"v{number}" if fault == "location" else f"w{number}/f"
        mount.order("fault", fault)
        done = children.run("ls", mount / path)
        assert os.strerror(expected).encode() in done.stderr, (fault, done.stderr)
        mount.order("fault", "none")
        wait_until(partial(is_there, children, mount / path), fault)
