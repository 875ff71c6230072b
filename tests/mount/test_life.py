"""How mounts end, and what they leave behind: nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import mount
from tests.mount.harness import clear, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.harness import Children, ToyMount

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(toy: ToyMount, number: signal.Signals) -> None:
    toy.order("add", "file", b"content")
    assert (toy / "file").read_bytes() == b"content"
    toy.process.send_signal(number)
    assert toy.process.wait(30) == 0, toy.log()
    assert not toy.mounted
    assert os.listdir(toy.path) == []


def test_umount_ends_the_daemon(toy: ToyMount, children: Children) -> None:
    assert children.run("umount", toy.path).returncode == 0
    assert toy.process.wait(30) == 0, toy.log()


def test_the_end_answers_whoever_waits(toy: ToyMount, children: Children) -> None:
    toy.order("add_directory", "dir")
    toy.order("behave", "dir", "lookup", "hang")
    waiting = [children.start("stat", toy / "dir" / str(number)) for number in range(5)]
    wait_until(lambda: toy.state()["waiting"] == 5, "five requests")
    toy.process.send_signal(signal.SIGTERM)
    assert toy.process.wait(30) == 0
    for child in waiting:
        _, err = child.communicate(timeout=30)
        assert b"not connected" in err
    assert not toy.mounted


def test_a_mount_in_use_is_detached(toy: ToyMount, children: Children) -> None:
    toy.order("add_directory", "dir")
    user = children.start("sleep", "60", cwd=toy / "dir")
    assert children.run("umount", toy.path).returncode != 0
    toy.process.send_signal(signal.SIGTERM)
    assert toy.process.wait(30) == 0
    assert not toy.mounted
    with pytest.raises(OSError, match="not connected"):
        os.listdir(f"/proc/{user.pid}/cwd/")


def test_a_cut_connection_ends_the_daemon(toy: ToyMount, children: Children) -> None:
    toy.order("add_directory", "dir")
    toy.order("behave", "dir", "lookup", "hang")
    child = children.start("stat", toy / "dir" / "x")
    wait_until(lambda: toy.state()["waiting"], "a request")
    toy.abort()
    assert child.wait(30) != 0
    toy.process.wait(30)
    assert not toy.mounted, "the dead mount is removed, too"


def test_a_mount_over_ours_is_left_alone(
    toy: ToyMount, toys: Callable[..., ToyMount], children: Children
) -> None:
    children.run("umount", "-l", toy.path)
    assert toy.process.wait(30) == 0
    second = toys("mnt")
    assert second.mounted
    assert second.process.poll() is None


def test_a_killed_daemon_leaves_a_dead_mount_that_the_next_one_clears(
    toys: Callable[..., ToyMount],
) -> None:
    first = toys("mnt")
    first.process.kill()
    first.process.wait(30)
    assert first.mounted
    with pytest.raises(OSError, match="not connected") as caught:
        os.stat(first.path)
    assert caught.value.errno == errno.ENOTCONN
    second = toys("mnt")
    second.order("add", "file", b"back")
    assert (second / "file").read_bytes() == b"back"
    second.end()
    assert not second.mounted


def test_stacked_dead_mounts_are_cleared(tmp_path: Path) -> None:
    directory = str(tmp_path.resolve())
    for _ in range(3):
        os.close(mount.mount(directory, mount.MountOptions("dead")))
    try:
        assert mount.prepare(directory) == directory
        assert mount.find_mount(directory) is None
    finally:
        clear(tmp_path.resolve())


def test_below_a_dead_mount_nothing_can_be_mounted(tmp_path: Path) -> None:
    directory = str(tmp_path.resolve())
    os.close(mount.mount(directory, mount.MountOptions("dead")))
    try:
        with pytest.raises(mount.MountError, match="lies on a mount whose daemon is gone"):
            mount.prepare(f"{directory}/below")
    finally:
        clear(tmp_path.resolve())


def test_a_busy_mount_is_not_unmounted(toy: ToyMount, children: Children) -> None:
    toy.order("add_directory", "dir")
    children.start("sleep", "60", cwd=toy / "dir")
    with pytest.raises(mount.MountError, match=r"busy: .*fuser -m"):
        mount.unmount(str(toy.path), lazy=False)
    mount.unmount(str(toy.path), lazy=True)
    assert not toy.mounted


def test_a_second_mount_on_the_same_directory_is_refused(toy: ToyMount) -> None:
    with pytest.raises(mount.MountError, match="busy: toy"):
        mount.prepare(str(toy.path))
    done = subprocess.run(["fusermount3", "-u", toy.path], check=True, capture_output=True)
    assert done.returncode == 0
