"""A start that fails half-way leaves no mount, no connection and no descriptor behind."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pyfuse3
import pytest
import trio

from afsfuse.fuse import handshake, mount, session, tuning
from afsfuse.fuse.mount import MountError, MountOptions
from afsfuse.fuse.notify import KernelNotifier
from afsfuse.fuse.session import FuseSession, SessionLimits
from tests.mount.harness import clear
from tests.mount.toyfs import ToyFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

pytestmark = pytest.mark.mount


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[str]:
    path = tmp_path.resolve() / "m\xa0n\rt"  # white space to Python, but not to the mount table
    path.mkdir()
    yield str(path)
    clear(path)


def made(directory: str) -> FuseSession:
    options = MountOptions("toy")
    return FuseSession(ToyFileSystem(), directory, options, SessionLimits(), KernelNotifier())


def connections() -> int:
    """Open descriptors of /dev/fuse in this process."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{number}") == mount.DEVICE
        except FileNotFoundError:  # the one that this listing used
            continue
    return count


async def expect_failure(directory: str, error: type[BaseException], message: str) -> None:
    with pytest.raises(error, match=message):
        await made(directory).run()
    assert mount.find_mount(directory) is None
    assert connections() == 0


async def test_libfuse_does_not_start(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("fuse_session_new() failed")

    monkeypatch.setattr(pyfuse3, "init", fail)
    await expect_failure(directory, MountError, "libfuse does not start")


async def test_the_kernel_does_not_agree(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise MountError("libfuse and the kernel do not agree on a version")

    monkeypatch.setattr(handshake, "corrected", refuse)
    await expect_failure(directory, MountError, "do not agree")


async def test_a_bug_while_starting(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(tuning, "set_read_ahead", fail)
    await expect_failure(directory, KeyError, "bug")


async def test_the_main_loop_fails(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def shake(*_: object) -> int:
        descriptor = await handshake.shake_hands(*_)  # type: ignore[arg-type]
        monkeypatch.setattr(pyfuse3, "main", fail)
        return descriptor

    async def fail(*_: object) -> None:
        raise OSError("fuse_session_receive_buf failed")

    monkeypatch.setattr(session, "shake_hands", shake)
    with pytest.RaisesGroup(OSError, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(made(directory).run)
    assert mount.find_mount(directory) is None
    assert connections() == 0


async def test_a_cancelled_session_is_gone(directory: str) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(made(directory).run)
        assert mount.find_mount(directory) is not None
        nursery.cancel_scope.cancel()
    assert mount.find_mount(directory) is None
    assert connections() == 0


async def test_a_mount_is_removed_from_where_it_was_moved(directory: str) -> None:
    """Renaming a directory takes the mounts below it along; a copy of a mount dies with it."""
    parent, name = os.path.split(directory)
    moved = f"{parent}-moved"
    copy = os.path.join(moved, "copy")
    async with trio.open_nursery() as nursery:
        await nursery.start(made(directory).run)
        os.rename(parent, moved)
        os.mkdir(copy)
        bind = ["mount", "--bind", os.path.join(moved, name), copy]
        bound = await trio.run_process(bind, check=False, stderr=subprocess.DEVNULL)
        assert bound.returncode == 0 or os.geteuid() != 0
        nursery.cancel_scope.cancel()
    assert mount.find_mount(os.path.join(moved, name)) is None
    assert mount.find_mount(copy) is None
    os.rename(moved, parent)


async def test_a_mount_that_cannot_be_removed_is_told(
    directory: str, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("the mount stays behind: not permitted")

    def refuse(*_: object, **__: object) -> None:
        raise MountError("not permitted")

    with monkeypatch.context() as patched:
        async with trio.open_nursery() as nursery:
            await nursery.start(made(directory).run)
            patched.setattr(mount, "unmount", refuse)
            nursery.cancel_scope.cancel()
    assert mount.find_mount(directory) is not None
    assert mount.is_dead(directory), "it does not answer, but hangs nobody"
