"""What a mount lends nobody: set-user-id programs, devices, and the daemon's own insides."""

from __future__ import annotations

import errno
import fcntl
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import mount
from tests.mount.asuser import as_user
from tests.mount.harness import flags_of
from tests.mount.test_command import Command, afsfuse
from tests.mount.usersmount import CELL, OTHER, SUPERUSER, UsersMount

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["afsfuse"]  # fixtures

pytestmark = pytest.mark.mount
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")

DEBUGGING = ["fuse_stacktrace", "user.fuse_stacktrace", "trusted.fuse_stacktrace"]


def name_of(attempt: Callable[[], object]) -> str:
    """What an attempt ends in."""
    try:
        attempt()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "done"


@pytest.mark.parametrize("words", [[], ["exec", "nosuid", "nodev"], ["user", "defaults"]])
def test_no_mount_has_suid_or_devices(afsfuse: Command, words: list[str]) -> None:
    assert afsfuse.start(*words).returncode == 0
    assert {"nosuid", "nodev"} <= flags_of(str(afsfuse.directory))


@pytest.mark.parametrize("word", ["suid", "dev", "remount"])
def test_they_cannot_be_asked_for(afsfuse: Command, word: str) -> None:
    done = afsfuse.start(word)
    assert done.returncode == 1
    assert f"-o {word}".encode() in done.stderr
    assert afsfuse.shown is None


@ROOT_ONLY
@pytest.mark.parametrize("mode", ["4755", "2755", "6755", "7777"])
def test_suid_and_sgid_bits_are_not_shown(mounts: dict[str, UsersMount], mode: str) -> None:
    """Not even to root: a copy that keeps modes must not make a set-user-id program elsewhere."""
    here = mounts["strict"]
    here.make("open", {"anybody": "rl"})
    here.chmod("open", mode)
    path = f"{here.point.name}/{CELL}/open/file"
    for uid in (OTHER, SUPERUSER):
        shown = as_user(lambda: os.stat(path).st_mode & 0o7777, uid, at=here.point.parent)
        assert shown == int(mode, 8) & 0o777


def attempt_all(path: str, name: str) -> list[str]:
    """What comes of setting, reading and removing an attribute."""
    return [
        name_of(lambda: os.setxattr(path, name, b"")),
        name_of(lambda: os.setxattr(path, name, b"1", os.XATTR_CREATE)),
        name_of(lambda: os.setxattr(path, name, b"1", os.XATTR_REPLACE)),
        name_of(lambda: os.getxattr(path, name)),
        name_of(lambda: os.removexattr(path, name)),
    ]


@ROOT_ONLY
@pytest.mark.parametrize("word", ["ro", "rw"])
@pytest.mark.parametrize("uid", [OTHER, SUPERUSER], ids=["other", "root"])
def test_no_attribute_is_an_order(afsfuse: Command, uid: int, word: str) -> None:
    """pyfuse3 has a name for which it logs the stack of every thread."""
    assert afsfuse.start("debug", word).returncode == 0
    directory = str(afsfuse.directory)
    at, name = os.path.split(directory)
    told = as_user(lambda: [attempt_all(name, one) for one in DEBUGGING], uid, at=Path(at))
    assert isinstance(told, list), told
    for results in told:
        assert "done" not in results
    assert told[0][0] == ("EROFS" if word == "ro" else "ENOTSUP"), "by the kernel, or by us"
    assert isinstance(as_user(lambda: os.listdir(name), uid, at=Path(at)), list)
    log = afsfuse.log.read_text()
    for word in ("ThreadID", "Traceback", "ERROR", "WARNING"):
        assert word not in log


@ROOT_ONLY
@pytest.mark.parametrize("uid", [OTHER, SUPERUSER], ids=["other", "root"])
def test_no_ioctl_is_an_order(afsfuse: Command, uid: int) -> None:
    """Neither those of other AFS clients, of file systems, nor any number of theirs."""
    assert afsfuse.start("debug").returncode == 0
    directory = str(afsfuse.directory)
    at, name = os.path.split(directory)
    requests = [
        direction << 30 | size << 16 | letter << 8 | number
        for direction in range(4)
        for size in (0, 8, 40)  # 40: OpenAFS's ViceIoctl
        for letter in b"VCOfX"
        for number in range(64)
    ]
    # The kernel itself answers these: FS_IOC_* and FITRIM, which are not ours to hear.
    allowed = {"ENOTTY", "ENOSYS", "ENOTSUP", "EROFS", "EPERM", "EINVAL", "EFAULT", "EBADF"}

    def try_all() -> list[str]:
        opened = os.open(name, os.O_RDONLY)
        results = {name_of(partial(fcntl.ioctl, opened, one, bytes(64))) for one in requests}
        os.close(opened)
        return sorted(results)

    told = as_user(try_all, uid, at=Path(at))
    assert isinstance(told, list), told
    assert set(told) <= allowed
    assert isinstance(as_user(lambda: os.listdir(name), uid, at=Path(at)), list)
    log = afsfuse.log.read_text()
    for word in ("ThreadID", "Traceback", "ERROR", "WARNING"):
        assert word not in log
    assert mount.find_mount(directory) is not None
