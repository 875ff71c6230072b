"""Mount tables, and what is said about directories that cannot be mounted on."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import mount
from afsfuse.fuse.mount import Mount, MountError, MountOptions, parse_mount_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = rb"""
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
42 28 0:46 / /afs ro,nosuid,nodev - fuse.afs afs rw,user_id=0,group_id=0
43 28 0:47 / /mnt/with\040space ro - fuse.afs \043cell:vol. rw,user_id=1000
44 28 0:48 / /afs rw shared:3 master:1 - fuse host:/dir rw
45 28 0:49 / /empty rw - tmpfs  rw
a line that is none
"""


def test_a_mount_table_is_read() -> None:
    mounts = parse_mount_table(TABLE)
    assert mounts[1] == Mount("0:46", "/afs", "fuse.afs", "afs", "rw,user_id=0,group_id=0")
    assert (mounts[2].directory, mounts[2].source) == ("/mnt/with space", "#cell:vol.")
    assert [entry.device for entry in mounts] == ["254:0", "0:46", "0:47", "0:48", "0:49"]


def test_the_root_directory_is_found_and_others_are_not(tmp_path: Path) -> None:
    assert mount.find_mount("/") is not None
    assert mount.find_mount(str(tmp_path)) is None
    assert mount.device_of(str(tmp_path)) is None
    status = os.stat("/proc")
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    assert mount.device_of("/proc") == device


def test_links_on_the_way_are_resolved(tmp_path: Path) -> None:
    real = tmp_path.resolve()
    (real / "a" / "b").mkdir(parents=True)
    (real / "link").symlink_to("a")
    (real / "last").symlink_to("a/b")
    assert mount.real_directory(f"{real}/link/b") == f"{real}/a/b"
    assert mount.real_directory(f"{real}/last") == f"{real}/a/b"
    assert mount.real_directory(f"{real}/a/../a/b/") == f"{real}/a/b"
    assert mount.real_directory("/") == "/"
    assert mount.prepare(f"{real}/link/b") == f"{real}/a/b"


@pytest.mark.parametrize(
    ("make", "message", "status"),
    [
        (lambda path: None, "no such directory: create it with mkdir -p", 32),
        (lambda path: path.write_text(""), "not a directory", 32),
        (lambda path: path.symlink_to(path.name), "choose another directory", 32),
    ],
)
def test_what_is_no_directory_is_refused(
    tmp_path: Path, make: Callable[[Path], object], message: str, status: int
) -> None:
    path = tmp_path / "mnt"
    make(path)
    with pytest.raises(MountError, match=message) as caught:
        mount.prepare(str(path))
    assert caught.value.exit_code == status


def test_a_file_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MountError, match="a component of the path is not a directory"):
        mount.prepare(str(tmp_path / "file" / "mnt"))


def test_a_directory_out_of_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(MountError, match="not accessible for this user") as caught:
        mount.prepare(str(tmp_path))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "modprobe fuse"),
        (errno.EACCES, "mount as root"),
        (errno.EPERM, "container"),
        (errno.EMFILE, "FUSE works"),
    ],
)
def test_an_unusable_device_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MountError, match=r"^/dev/fuse: ") as caught:
        mount.mount(str(tmp_path), MountOptions("afs"))
    assert advice in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("said", "message", "status"),
    [
        ("option allow_other only allowed if 'user_allow_other' is set", "fuse.conf", 1),
        ("user has no write access to mountpoint /mnt", "a directory of your own", 1),
        ("failed to unmount /mnt: Device or resource busy", "fuser -m", 32),
        ("entry for /mnt not found in /etc/mtab", "entry for /mnt not found", 32),
        ("", "exit status 1", 32),
    ],
)
def test_what_fusermount_says_becomes_our_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, message: str, status: int
) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text(
        f'#!/bin/sh\n[ -z "{said}" ] || echo "/usr/bin/fusermount3: {said}" >&2; exit 1\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MountError) as caught:
        mount.unmount("/mnt", lazy=False)
    assert message in str(caught.value)
    assert "fusermount3:" not in str(caught.value)
    assert caught.value.exit_code == status


def test_a_missing_fusermount_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MountError, match="install the package fuse3") as caught:
        mount.unmount("/mnt", lazy=True)
    assert caught.value.exit_code == 2


def test_a_helper_that_hands_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text("#!/bin/sh\n")
    helper.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(mount, "DEVICE", os.devnull)
    with pytest.raises(MountError, match="handed nothing over"):
        mount.mount(str(tmp_path), MountOptions("afs"))


@pytest.mark.skipif(os.geteuid() != 0, reason="asks the kernel as root")
def test_nothing_is_mounted_there(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="nothing is mounted there"):
        mount.unmount(str(tmp_path.resolve()), lazy=False)


def test_any_process_may_have_any_name() -> None:
    """Whoever likes gives his processes names that are no text."""
    rename = (
        "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff\\xfe'); input(print('', flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert list(mount.copies_elsewhere("0:0")) == []
        child.communicate(b"\n")
