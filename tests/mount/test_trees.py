"""Trees of a real mount: what keeps them, that they go, and that they come back.

The cell and the daemon are processes of their own, and trees expire after a second or two.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import ROOT, wait_until
from tests.mount.treesd import CELL
from tests.mount.treesmount import EXPIRE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.mount.treesmount import TreesMount

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see all processes"),
]

SETTLED = 6 * EXPIRE
"""Seconds in which whatever is idle has gone, and what is kept would have."""


def test_an_idle_tree_goes_and_comes_back(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    file = mount.volume(2) / "file"
    inode = file.stat().st_ino
    assert file.read_text() == "once\n"
    assert "/v/002" in mount.trees()
    assert mount.ask("promises") > 0
    wait_until(lambda: mount.gone("/v/002", ""), "the trees go", SETTLED)
    wait_until(lambda: mount.ask("promises") == 0, "the promises are given back", SETTLED)
    assert mount.ask("write", "v.002", "twice\n") == 0, "nobody is told of a change"
    assert file.read_text() == "twice\n"
    assert file.stat().st_ino == inode


def kept(mount: TreesMount, expected: Mapping[str, str]) -> None:
    """Trees outlast their time, and the command says what keeps each."""
    for _ in range(3):
        time.sleep(EXPIRE)  # the time of the daemon, which is the machine's
        trees = mount.trees()
        for path, what in expected.items():
            assert path in trees, f"{path} is gone"
            assert what in [keep["what"] for keep in trees[path]["kept_by"]], trees[path]


WAIT_IN_DIRECTORY = """
import os, sys
os.chdir(sys.argv[1])
print("there", flush=True)
sys.stdin.readline()
print(os.getcwd(), os.listdir(), flush=True)
"""


def in_child(mount: TreesMount, code: str, *words: str | Path) -> subprocess.Popen[bytes]:
    """A process that has said `there`, and waits for a line."""
    child = mount.children.start(sys.executable, "-c", code, *words, stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"there\n", child.communicate()[1]
    return child


def continued(child: subprocess.Popen[bytes]) -> str:
    """What it prints after that."""
    out, errors = child.communicate(b"\n", timeout=30)
    assert child.returncode == 0, errors.decode()
    return out.decode().strip()


def test_a_working_directory_keeps_its_path(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    directories = [mount.volume(n) / name for n, name in enumerate(("", "folder", "folder/deeper"))]
    names = [sorted(os.listdir(directory)) for directory in directories]
    children = [in_child(mount, WAIT_IN_DIRECTORY, directory) for directory in directories]
    kept(mount, dict.fromkeys(("/v/000", "/v/001", "/v/002"), "working directory"))
    said = [continued(child).partition(" ") for child in children]
    assert [path for path, _, _ in said] == list(map(str, directories))
    assert [sorted(ast.literal_eval(listed)) for _, _, listed in said] == names
    wait_until(lambda: mount.gone("/v/000", "/v/001", "/v/002", ""), "the trees go", SETTLED)


def test_a_root_directory_keeps_its_tree(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    code = WAIT_IN_DIRECTORY.replace("os.chdir(", "os.chroot(").replace(
        "os.getcwd()", "os.readlink('/proc/self/root') if os.path.exists('/proc') else '/'"
    )
    child = in_child(mount, code, mount.volume(2))
    kept(mount, {"/v/002": "root directory"})
    assert continued(child).startswith("/ [")


UNSEEN = """
import os, socket, sys, time
here, there = socket.socketpair()
opened = os.open(sys.argv[1], os.O_PATH)
socket.send_fds(here, [b"x"], [opened])  # on its way it is no process's
os.close(opened)
print("there", flush=True)
sys.stdin.readline()
_, (opened,), _, _ = socket.recv_fds(there, 1, 1)
for _ in range(3000):
    path = os.readlink(f"/proc/self/fd/{opened}")
    if not path.endswith(" (deleted)"):
        break
    time.sleep(0.01)
print(path, flush=True)
"""


def test_who_was_not_seen_has_his_path_back_and_keeps_no_tree_afterwards(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount(options=f"expire={EXPIRE},debug")
    paths = [mount.volume(2), mount.volume(1) / "folder" / "inner"]
    users = [in_child(mount, UNSEEN, path) for path in paths]
    for tree in ("/v/001", "/v/002"):
        wait_until(lambda: f"{tree} is still in use" in mount.log.read_text(), "it was tried")  # noqa: B023
    assert [continued(user) for user in users] == list(map(str, paths))
    wait_until(lambda: mount.gone("/v/001", "/v/002", ""), "the trees go", SETTLED)


OPEN_PATH = """
import os, sys
opened = os.open(sys.argv[1], os.O_PATH)
print("there", flush=True)
sys.stdin.readline()
os.fchdir(opened)
print(os.getcwd(), flush=True)
"""


WATCH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
watcher = libc.inotify_init1(0)
assert libc.inotify_add_watch(watcher, os.fsencode(sys.argv[1]), 0x100) > 0  # IN_CREATE
print("there", flush=True)
sys.stdin.readline()
print(os.read(watcher, 4096)[16:].rstrip(bytes(1)).decode(), flush=True)
"""


def test_an_open_path_and_a_watch_keep_their_trees(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount()
    holder = in_child(mount, OPEN_PATH, mount.volume(1))
    watcher = in_child(mount, WATCH, mount.volume(2) / "folder")
    kept(mount, {"/v/001": "open path", "/v/002": "watch"})
    (mount.volume(2) / "folder" / "new").touch()
    assert continued(watcher) == "new"
    assert continued(holder) == str(mount.volume(1))
    wait_until(lambda: mount.gone("/v/001", "/v/002"), "the trees go", SETTLED)


HOLD_FILE = """
import mmap, os, sys
file = open(sys.argv[1], "rb")
held = file
if sys.argv[2] == "mapped":
    held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    file.close()
print("there", flush=True)
sys.stdin.readline()
print(held.read()[-16:].decode(), flush=True)
"""


def test_a_file_in_use_keeps_its_tree(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    children = [
        in_child(mount, HOLD_FILE, mount.volume(number) / "folder" / "inner", how)
        for number, how in ((1, "open"), (2, "mapped"))
    ]
    kept(mount, dict.fromkeys(("/v/001", "/v/002"), "open file"))
    assert [continued(child) for child in children] == ["deep", "deep"]
    wait_until(lambda: mount.gone("/v/001", "/v/002"), "the trees go", SETTLED)


def test_a_tree_in_use_keeps_those_around_it(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    child = in_child(mount, WAIT_IN_DIRECTORY, mount.volume(0) / "below" / "folder")
    around = {"/v/000": "tree below", "": "tree below"}
    kept(mount, {"/v/000/below": "working directory", **around})
    assert continued(child).startswith(f"{mount.volume(0)}/below/folder ")
    wait_until(lambda: mount.gone("/v/000/below", "/v/000", ""), "all of them go", SETTLED)


def test_another_mount_in_a_tree_keeps_it(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    here = mount.folder / "bound"
    here.mkdir()
    subprocess.run(["mount", "--bind", mount.volume(1) / "folder", here], check=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "none", mount.volume(2) / "folder"], check=True)
        try:
            kept(mount, dict.fromkeys(("/v/001", "/v/002"), "mount"))
            assert (here / "inner").read_text() == "deep\n"
            assert os.listdir(mount.volume(2) / "folder") == []
        finally:
            subprocess.run(["umount", mount.volume(2) / "folder"], check=True)
    finally:
        subprocess.run(["umount", here], check=True)
    wait_until(lambda: mount.gone("/v/001", "/v/002"), "the trees go", SETTLED)


def test_what_the_kernel_answers_by_itself_is_seen_as_use(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount()
    inner = mount.volume(2) / "folder" / "inner"
    for _ in range(20 * SETTLED // 2):
        inner.stat()
        time.sleep(0.1)
        assert "/v/002" in mount.trees() if _ % 20 == 19 else True


def test_data_that_could_not_be_stored_keeps_its_tree(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount()
    mount.ask("quota", "v.002", "1")
    path = mount.volume(2) / "file"
    file = path.open("wb", buffering=0)
    file.write(bytes(3 << 20))  # servers let a mebibyte pass
    with pytest.raises(OSError, match="quota"):
        file.close()
    kept(mount, {"/v/002": "unstored data"})
    assert mount.afsfuse("status", "--discard", path).returncode == 0
    wait_until(lambda: mount.gone("/v/002"), "the tree goes", SETTLED)


def test_data_outlasts_its_tree_on_the_disk(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    file = mount.volume(2) / "big"
    before = file.read_bytes()
    wait_until(lambda: mount.gone("/v/002", ""), "the trees go", SETTLED)
    os.listdir(mount.volume(2))
    fetched = mount.ask("calls", "FetchData64")
    assert file.read_bytes() == before
    assert mount.ask("calls", "FetchData64") == fetched, "a status is all that it takes"


def test_a_mount_point_is_removed_while_somebody_is_inside(
    trees_mount: Callable[..., TreesMount],
) -> None:
    """He stays in what he has; when he has left, the tree goes, and the name does not come back."""
    mount = trees_mount()
    point = mount.volume(0) / "below"
    code = WAIT_IN_DIRECTORY.replace("os.getcwd()", "open('inner').read()")
    child = in_child(mount, code, point / "folder")
    done = mount.afsfuse("fs", "rmmount", point)
    assert done.returncode == 0, done.stderr
    assert not point.exists()
    time.sleep(3 * EXPIRE)
    assert "/v/000/below" in mount.trees()
    assert continued(child).startswith("deep\n")
    wait_until(lambda: mount.gone("/v/000/below", "/v/000", ""), "the trees go", 2 * SETTLED)
    assert not point.exists()


def test_a_volume_at_two_places_has_two_trees(trees_mount: Callable[..., TreesMount]) -> None:
    """Of which one may go without the other, and without its promises."""
    mount = trees_mount()
    here, there = mount.volume(1) / "file", mount.volume(0) / "below" / "file"
    with there.open() as file:
        before = here.stat()
        wait_until(lambda: mount.gone("/v/001"), "the tree nobody uses goes", SETTLED)
        assert "/v/000/below" in mount.trees()
        mount.ask("write", "v.001", "twice\n")
        assert file.read() == "twice\n"
        assert here.stat().st_ino == before.st_ino != os.fstat(file.fileno()).st_ino
        assert here.read_text() == "twice\n"


def test_inode_numbers_outlast_the_daemon(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount(options="expire=0")
    paths = [mount.cell, mount.volume(0), mount.volume(0) / "below" / "folder" / "inner"]
    numbers = [path.stat().st_ino for path in paths]
    assert len(set(numbers)) == 3
    mount.stop()
    mount.start()
    assert [path.stat().st_ino for path in reversed(paths)] == numbers[::-1]


def test_never(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount(options="expire=0")
    (mount.volume(2) / "file").read_text()
    time.sleep(2 * EXPIRE)
    assert mount.trees()["/v/002"]["kept_by"] == []
    assert mount.ask("promises") > 0


def test_one_tree_is_let_go_at_once_or_its_users_are_named(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount(options="expire=0")
    for number in (0, 2):
        (mount.volume(number) / "file").read_text()
    (mount.volume(0) / "below" / "file").read_text()
    child = in_child(mount, WAIT_IN_DIRECTORY, mount.volume(0) / "below")
    done = mount.afsfuse("umount", "--tree", mount.volume(0))
    assert done.returncode == 32
    assert done.stderr.decode() == (
        f"afsfuse: {mount.volume(0)}/below: in use: working directory "
        f"{comm(child.pid)} (process {child.pid})\n"
    )
    assert mount.volume(0).stat()
    continued(child)
    done = mount.afsfuse("umount", "--tree", mount.volume(0))
    assert (done.returncode, done.stderr) == (0, b"")
    assert mount.trees().keys() == {"", "/v/002"}
    assert (mount.volume(0) / "below" / "file").read_text() == "once\n"


def comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def test_what_cannot_be_let_go(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    for path, complaint in (
        (mount.point, "not the root of a volume in use"),
        (mount.volume(1) / "folder", "not the root of a volume in use"),
        (mount.volume(1) / "file", "not a directory"),
        (mount.folder, "in no mount of ours"),
        (mount.folder / "nowhere", "No such file or directory"),
    ):
        done = mount.afsfuse("umount", "--tree", path)
        assert done.returncode == 32
        assert done.stderr.decode() == f"afsfuse: {path}: {complaint}\n"


def test_the_table(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount()
    with (mount.volume(2) / "file").open():
        done = mount.afsfuse("mounts")
    assert done.returncode == 0
    (line,) = [
        each for each in done.stdout.decode().splitlines() if each.startswith(f"{mount.volume(2)} ")
    ]
    words = line.split()
    assert words[:4] == [str(mount.volume(2)), "v.002", CELL, "RW"]
    assert words[4].startswith("127.")
    assert "open file /trees.test/v/002/file, opened by process" in line


AS_NOBODY = """
import os, sys
from afsfuse import cli
from afsfuse.tools import mounts, umount
cli.parser().format_help(), mounts.parser().format_help()  # loads all before root's are shut
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_others_see_neither_whose_process_it_is_nor_may_they_let_go(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount(options="expire=0")
    (mount.volume(2) / "file").read_text()
    child = in_child(mount, WAIT_IN_DIRECTORY, mount.volume(2))
    for folder in (mount.folder, *mount.folder.parents):
        if folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    ask = [sys.executable, "-c", AS_NOBODY]
    done = mount.children.run(*ask, "mounts", "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (tree,) = [t for t in json.loads(done.stdout)["trees"] if t["path"].endswith("/v/002")]
    assert tree["kept_by"] == [{"what": "working directory", "who": "another user"}]
    continued(child)
    done = mount.children.run(*ask, "umount", "--tree", mount.volume(2), cwd=ROOT)
    assert done.returncode == 32
    assert b"only root and whoever mounted it" in done.stderr
