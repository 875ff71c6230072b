"""Who is inside a mount, as /proc tells: asked of real processes and an ordinary directory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.fuse import usage
from afsfuse.fuse.usage import Mounted, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INSIDE = """
import os, sys, threading, ctypes
def go():
    if sys.argv[2] == "thread":
        assert ctypes.CDLL(None).unshare(0x200) == 0  # CLONE_FS: a directory of its own
    os.chdir(sys.argv[1])
    print("there", flush=True)
    sys.stdin.readline()
worker = threading.Thread(target=go)
worker.start()
worker.join()
"""


@pytest.fixture
def enter() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running = []

    def start(directory: Path, how: str = "process") -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", INSIDE, directory, how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        running.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        return child

    yield start
    for child in running:
        child.communicate(b"\n", timeout=30)


def device_of(directory: Path) -> str:
    number = directory.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def found(directory: Path, everybody: bool = True) -> dict[int, list[tuple[str, str, int | None]]]:
    """What is found in this very directory."""
    result: dict[int, list[tuple[str, str, int | None]]] = {}
    for inode, keep in survey(Mounted(device_of(directory), everybody)).inodes:
        result.setdefault(inode, []).append((keep.what, keep.who, keep.uid))
    return {k: v for k, v in result.items() if k == directory.stat().st_ino}


@pytest.mark.parametrize("how", ["process", "thread"])
def test_a_working_directory(
    tmp_path: Path, enter: Callable[..., subprocess.Popen[bytes]], how: str
) -> None:
    if how == "thread" and os.geteuid() != 0:
        how = "process"  # only root has threads with directories of their own
    assert found(tmp_path) == {}
    child = enter(tmp_path, how)
    (keeps,) = found(tmp_path).values()
    (keep,) = keeps
    assert keep[0] == "working directory"
    assert keep[1].endswith(f"(process {child.pid})")
    assert keep[2] == os.getuid()


def test_another_device_is_another_mount(
    tmp_path: Path, enter: Callable[..., subprocess.Popen[bytes]]
) -> None:
    enter(tmp_path)
    everything = survey(Mounted("0:0", everybody=True))
    assert everything.inodes == []
    assert everything.paths == []


def test_without_statx_it_is_asked_in_the_plain_way(
    tmp_path: Path, enter: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path)
    with_statx = found(tmp_path)
    monkeypatch.setattr(usage, "_STATX", None)
    assert found(tmp_path) == with_statx != {}


TABLE = rb"""22 1 0:21 / / rw,relatime - ext4 /dev/sda rw
30 22 0:53 / /afs rw,nosuid - fuse.afs afs rw
31 22 0:53 /cell/a\040b /mnt/bound rw - fuse.afs afs rw
32 30 0:60 / /afs/cell/deep/here rw - tmpfs none rw
33 31 0:61 / /mnt/bound/x rw - tmpfs none rw
34 22 0:62 / /afsother rw - tmpfs none rw
35 32 0:63 / /afs/cell/deep/here/more rw - tmpfs none rw
"""


def test_other_mounts_that_show_or_cover_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(TABLE)
    real = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, *more, **rest: real(
            table if str(path) == "/proc/7/mountinfo" else path, *more, **rest
        ),
    )
    places = usage._mounts_of("7", "0:53")
    assert [(path, keep.what, keep.who) for path, keep in places] == [
        (b"/cell/a b", "mount", "/mnt/bound"),
        (b"/cell/deep/here", "mount", "/afs/cell/deep/here"),
        (b"/cell/a b/x", "mount", "/mnt/bound/x"),
    ]


class Hidden:
    """A process that cannot be looked into, and what can be known of it all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
        self.facts = {
            "uids": [0], "gids": [0], "start": 500, "login": 0xFFFFFFFF, "parents": (), **facts
        }  # fmt: skip
        monkeypatch.setattr(usage, "_numbers", self._numbers)
        monkeypatch.setattr(usage, "kin", self._kin)
        monkeypatch.setattr("builtins.open", self._open)
        monkeypatch.setattr(os, "getuid", lambda: 1000)
        monkeypatch.setattr(os, "getgid", lambda: 1000)

    def _numbers(self, pid: str, field: bytes) -> list[int]:
        if pid == "77":
            ids: list[int] = self.facts["uids" if field == b"Uid:" else "gids"]
            return ids
        return [dict(self.facts["parents"])[int(pid)]]

    def _kin(self, pid: int) -> Any:
        chain = [77, *dict(self.facts["parents"]), 0]
        start = 100 if pid == os.getpid() else self.facts["start"]
        process = type("Process", (), {"start": start})
        parent = chain[chain.index(pid) + 1] if pid in chain else 0
        return type("Kin", (), {"process": process, "parent": parent})

    def _open(self, path: str, **_: Any) -> Any:
        import io

        assert path == "/proc/77/loginuid"
        return io.StringIO(str(self.facts["login"]))


@pytest.mark.parametrize(
    ("facts", "inside"),
    [
        ({"uids": [1000], "gids": [1000]}, True),  # it may have gone in by itself
        ({"uids": [1000], "gids": [1000], "start": 5}, True),
        ({"uids": [1000], "gids": [1000, 108], "start": 5}, False),  # ssh-agent, from before
        ({"start": 5}, False),  # a system's service
        ({"login": 1000}, True),  # sudo in a shell of the user's
        ({"login": 1001}, False),
        ({"parents": ((70, 0), (60, 1000))}, True),
        ({"parents": ((70, 0), (1, 0))}, False),
    ],
)
def test_who_may_be_inside_unseen_where_one_user_may_enter(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], inside: bool
) -> None:
    Hidden(monkeypatch, **facts)
    assert usage._may_be_inside(77, everybody=False) is inside
    assert usage._may_be_inside(77, everybody=True), "where all may enter, anybody may be inside"


def test_neither_the_daemon_itself_nor_init_counts() -> None:
    for pid in (1, os.getpid()):
        assert not usage._may_be_inside(pid, everybody=True)


def test_a_process_that_ended_is_not_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    listdir = os.listdir
    monkeypatch.setattr(
        os,
        "listdir",
        lambda path: [*listdir(path), "99999999"] if path == "/proc" else listdir(path),
    )
    assert all("99999999" not in keep.who for keep in survey(Mounted("0:0", True)).unseen)
