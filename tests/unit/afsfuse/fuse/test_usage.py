"""Who is inside a mount, as /proc tells: asked of real processes and an ordinary directory."""

from __future__ import annotations

import errno
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
def run() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a program that says `there`, and ends when it has read a line."""
    running = []

    def start(code: str, *words: Path | str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        return child

    yield start
    for child in running:
        child.communicate(b"\n", timeout=30)


@pytest.fixture
def enter(
    run: Callable[..., subprocess.Popen[bytes]],
) -> Callable[..., subprocess.Popen[bytes]]:
    def start(directory: Path, how: str = "process") -> subprocess.Popen[bytes]:
        return run(INSIDE, directory, how)

    return start


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


FIRST_THREAD_ENDED = """
import ctypes, os, sys, threading
def go():
    os.chdir(sys.argv[1])
    while open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[0] != "Z":
        pass
    print("there", flush=True)
    sys.stdin.readline()
    os._exit(0)
threading.Thread(target=go).start()
ctypes.CDLL(None).syscall(SYS_EXIT, 0)  # of this thread only
"""


def sys_exit() -> int:
    """The number of exit(2), which differs between machines."""
    return 60 if os.uname().machine == "x86_64" else 93


def test_a_process_of_which_the_first_thread_has_ended(
    tmp_path: Path, run: Callable[..., subprocess.Popen[bytes]]
) -> None:
    child = run(FIRST_THREAD_ENDED.replace("SYS_EXIT", str(sys_exit())), tmp_path)
    ((keep,),) = found(tmp_path).values()
    assert (keep[0], keep[2]) == ("working directory", os.getuid())
    assert str(child.pid) in keep[1]


HOLD_PATH = """
import os, sys
opened = os.open(sys.argv[1], os.O_PATH if sys.argv[2] == "path" else os.O_RDONLY)
print("there", flush=True)
sys.stdin.readline()
"""


def test_a_descriptor_that_the_file_system_was_not_told_of(
    tmp_path: Path, run: Callable[..., subprocess.Popen[bytes]]
) -> None:
    run(HOLD_PATH, tmp_path, "open")
    assert found(tmp_path) == {}, "that one is told of"
    child = run(HOLD_PATH, tmp_path, "path")
    ((keep,),) = found(tmp_path).values()
    assert keep[0] == "open path"
    assert keep[1].endswith(f"(process {child.pid})")


WATCH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[2] == "inotify":
    watcher = libc.inotify_init1(0)
    assert libc.inotify_add_watch(watcher, os.fsencode(sys.argv[1]), 0x2) > 0
else:
    watcher = libc.fanotify_init(0, 0)
    assert libc.fanotify_mark(watcher, 1, ctypes.c_uint64(2), -100, os.fsencode(sys.argv[1])) == 0
print("there", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["inotify", "fanotify"])
def test_a_watch(tmp_path: Path, run: Callable[..., subprocess.Popen[bytes]], how: str) -> None:
    if how == "fanotify" and os.geteuid() != 0:
        pytest.skip("only root may watch with that everywhere")
    child = run(WATCH, tmp_path, how)
    ((keep,),) = found(tmp_path).values()
    assert keep[0] == "watch"
    assert keep[1].endswith(f"(process {child.pid})")


APART = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
place, other, how = sys.argv[1:]
def part():
    assert libc.unshare(0x20200 if how == "thread" else 0x20000) == 0  # mounts of its own
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # private, recursively
    assert libc.mount(b"none", os.fsencode(place), b"tmpfs", 0, None) == 0
def stay():
    print("there", flush=True)
    sys.stdin.readline()
if how == "thread":
    worker = threading.Thread(target=lambda: (part(), stay()))
    worker.start()
    worker.join()
else:
    part()
    child = os.fork()
    if child:
        os.chroot(other)  # sees none of these mounts, and comes first in /proc
        os.waitpid(child, 0)
    else:
        stay()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has mounts of its own")
@pytest.mark.parametrize("how", ["thread", "behind one in a chroot"])
def test_mounts_that_not_every_process_sees(
    tmp_path: Path, run: Callable[..., subprocess.Popen[bytes]], how: str
) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    run(APART, place, other, how)
    paths = [keep.who for _, keep in survey(Mounted(device_of(tmp_path), everybody=True)).paths]
    assert str(place) in paths


NOT_FOR_ROOT = """
import ctypes, os, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
how = sys.argv[1]
assert libc.unshare(0x20000) == 0  # mounts of its own
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # private, recursively
kernel = os.open("/dev/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40755,user_id=65534,group_id=65534" % kernel
assert libc.mount(b"other", b"/tmp", b"fuse", 0, options) == 0
def serve():
    while request := os.read(kernel, 1 << 17):
        _, operation, unique = struct.unpack_from("=IIQ", request)
        started = struct.pack("=IIIIHHI", 7, 31, 0, 0, 9, 9, 4096) + bytes(40)
        reply = started if operation == 26 else b""  # INIT; anything else is granted
        os.write(kernel, struct.pack("=IiQ", 16 + len(reply), 0, unique) + reply)
        if how == "dead" and operation == 34:  # ACCESS: somebody comes in
            return os.close(kernel)
server = threading.Thread(target=serve, daemon=True)
server.start()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.chdir("/tmp")
if how == "dead":
    server.join()
print("there", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has mounts of its own")
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE here")
@pytest.mark.parametrize("how", ["alive", "dead"])
def test_whoever_is_in_a_mount_that_lets_nobody_else_in_is_not_in_ours(
    run: Callable[..., subprocess.Popen[bytes]], how: str
) -> None:
    child = run(NOT_FOR_ROOT, how)
    everything = survey(Mounted("0:0", everybody=True))
    assert [keep.who for keep in everything.unseen if str(child.pid) in keep.who] == []
    assert everything.inodes == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into all processes")
def test_what_a_file_system_does_not_show_is_not_ours(
    tmp_path: Path, enter: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = enter(tmp_path)

    def refuse(path: str) -> tuple[int, int, int]:
        raise PermissionError(errno.EACCES, "older kernels refuse everything", path)

    monkeypatch.setattr(usage, "_look_at", refuse)
    everything = survey(Mounted("0:0", everybody=True))
    assert [keep.who for keep in everything.unseen if str(child.pid) in keep.who] == []


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


def test_other_mounts_that_show_or_cover_something(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(TABLE)
    places = usage._mounts_of(str(table), "0:53")
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
        ({"uids": [1000], "gids": [1000], "start": 5}, False),  # (sd-pam), from before
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
