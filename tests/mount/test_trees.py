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
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.harness import ROOT, Children, clear, wait_until
from tests.mount.treesd import CELL
from tests.mount.usersmount import Process, loopback_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see all processes"),
]

EXPIRE = 1
SETTLED = 6 * EXPIRE
"""Seconds in which whatever is idle has gone, and what is kept would have."""


class TreesMount:
    """A cell, and a mount of it by the command."""

    def __init__(self, folder: Path, children: Children, volumes: int, options: str) -> None:
        self.children = children
        self.folder = folder
        self.point = folder / "afs"
        self.point.mkdir()
        confdir = folder / "conf"
        confdir.mkdir()
        address = loopback_address()
        cell = children.start(
            sys.executable, "-m", "tests.mount.treesd", address, confdir, str(volumes),
            stdin=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self.cell_process = cell.pid
        self._cell = Process(cell, b"ready")
        self.log = folder / "log"
        words = f"confdir={confdir},bind={address.rpartition('.')[0]}.254,logfile={self.log}"
        words += f",cachedir={folder / 'cache'}"
        self.daemon = children.start(
            sys.executable, "-m", "afsfuse", "mount", "afs", self.point, "-f",
            "-o", f"{words},{options}", cwd=ROOT,
        )  # fmt: skip
        wait_until(lambda: os.path.ismount(self.point), "the mount")

    @property
    def cell(self) -> Path:
        return self.point / CELL

    def volume(self, number: int) -> Path:
        return self.cell / "v" / f"{number:03d}"

    def ask(self, *words: object) -> Any:
        return ast.literal_eval(self._cell.ask(repr(words)))

    def afsfuse(self, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
        return self.children.run(sys.executable, "-m", "afsfuse", *words, cwd=ROOT)

    def trees(self) -> dict[str, dict[str, Any]]:
        """What the command says of each, by its path below the cell."""
        done = self.afsfuse("mounts", "--json")
        assert done.returncode == 0, done.stderr
        return {
            tree["path"].removeprefix(f"{self.point}/{CELL}"): tree
            for tree in json.loads(done.stdout)["trees"]
            if tree["path"].startswith(str(self.point))
        }

    def gone(self, *paths: str) -> bool:
        return not set(paths) & self.trees().keys()


@pytest.fixture
def mounted(tmp_path: Path, children: Children) -> Iterator[Callable[..., TreesMount]]:
    folder = tmp_path.resolve()

    def make(volumes: int = 3, options: str = f"expire={EXPIRE}") -> TreesMount:
        return TreesMount(folder, children, volumes, options)

    yield make
    children.end()
    clear(folder / "afs")


def test_an_idle_tree_goes_and_comes_back(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
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


def kept(mount: TreesMount, path: str, what: str) -> None:
    """A tree outlasts its time, and the command says what keeps it."""
    for _ in range(3):
        time.sleep(EXPIRE)  # the time of the daemon, which is the machine's
        tree = mount.trees().get(path)
        assert tree is not None, f"{path} is gone"
        assert what in [keep["what"] for keep in tree["kept_by"]], tree


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


@pytest.mark.parametrize("below", ["", "folder", "folder/deeper"])
def test_a_working_directory_keeps_its_path(mounted: Callable[..., TreesMount], below: str) -> None:
    mount = mounted()
    directory = mount.volume(2) / below
    names = sorted(os.listdir(directory))
    child = in_child(mount, WAIT_IN_DIRECTORY, directory)
    kept(mount, "/v/002", "working directory")
    path, _, listed = continued(child).partition(" ")
    assert path == str(directory).rstrip("/")
    assert sorted(ast.literal_eval(listed)) == names
    wait_until(lambda: mount.gone("/v/002", ""), "the trees go", SETTLED)


def test_a_root_directory_keeps_its_tree(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
    code = WAIT_IN_DIRECTORY.replace("os.chdir(", "os.chroot(").replace(
        "os.getcwd()", "os.readlink('/proc/self/root') if os.path.exists('/proc') else '/'"
    )
    child = in_child(mount, code, mount.volume(2))
    kept(mount, "/v/002", "root directory")
    assert continued(child).startswith("/ [")


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


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_file_in_use_keeps_its_tree(mounted: Callable[..., TreesMount], how: str) -> None:
    mount = mounted()
    child = in_child(mount, HOLD_FILE, mount.volume(2) / "folder" / "inner", how)
    kept(mount, "/v/002", "open file")
    assert continued(child) == "deep"
    wait_until(lambda: mount.gone("/v/002"), "the tree goes", SETTLED)


def test_a_tree_in_use_keeps_those_around_it(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
    child = in_child(mount, WAIT_IN_DIRECTORY, mount.volume(0) / "below" / "folder")
    kept(mount, "/v/000/below", "working directory")
    kept(mount, "/v/000", "tree below")
    kept(mount, "", "tree below")
    assert continued(child).startswith(f"{mount.volume(0)}/below/folder ")
    wait_until(lambda: mount.gone("/v/000/below", "/v/000", ""), "all of them go", SETTLED)


def test_another_mount_in_a_tree_keeps_it(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
    here = mount.folder / "bound"
    here.mkdir()
    subprocess.run(["mount", "--bind", mount.volume(1) / "folder", here], check=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "none", mount.volume(2) / "folder"], check=True)
        try:
            kept(mount, "/v/001", "mount")
            kept(mount, "/v/002", "mount")
            assert (here / "inner").read_text() == "deep\n"
            assert os.listdir(mount.volume(2) / "folder") == []
        finally:
            subprocess.run(["umount", mount.volume(2) / "folder"], check=True)
    finally:
        subprocess.run(["umount", here], check=True)
    wait_until(lambda: mount.gone("/v/001", "/v/002"), "the trees go", SETTLED)


def test_what_the_kernel_answers_by_itself_is_seen_as_use(
    mounted: Callable[..., TreesMount],
) -> None:
    mount = mounted()
    inner = mount.volume(2) / "folder" / "inner"
    for _ in range(20 * SETTLED // 2):
        inner.stat()
        time.sleep(0.1)
        assert "/v/002" in mount.trees() if _ % 20 == 19 else True


def test_data_that_could_not_be_stored_keeps_its_tree(
    mounted: Callable[..., TreesMount],
) -> None:
    mount = mounted()
    mount.ask("quota", "v.002", "1")
    path = mount.volume(2) / "file"
    file = path.open("wb", buffering=0)
    file.write(bytes(3 << 20))  # servers let a mebibyte pass
    with pytest.raises(OSError, match="quota"):
        file.close()
    kept(mount, "/v/002", "unstored data")
    assert mount.afsfuse("status", "--discard", path).returncode == 0
    wait_until(lambda: mount.gone("/v/002"), "the tree goes", SETTLED)


def test_data_outlasts_its_tree_on_the_disk(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
    file = mount.volume(2) / "big"
    before = file.read_bytes()
    wait_until(lambda: mount.gone("/v/002", ""), "the trees go", SETTLED)
    os.listdir(mount.volume(2))
    fetched = mount.ask("calls", "FetchData64")
    assert file.read_bytes() == before
    assert mount.ask("calls", "FetchData64") == fetched, "a status is all that it takes"


def test_never(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted(options="expire=0")
    (mount.volume(2) / "file").read_text()
    time.sleep(2 * EXPIRE)
    assert mount.trees()["/v/002"]["kept_by"] == []
    assert mount.ask("promises") > 0


def test_one_tree_is_let_go_at_once_or_its_users_are_named(
    mounted: Callable[..., TreesMount],
) -> None:
    mount = mounted(options="expire=0")
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


def test_what_cannot_be_let_go(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
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


def test_the_table(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted()
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
    mounted: Callable[..., TreesMount],
) -> None:
    mount = mounted(options="expire=0")
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


def test_volumes_that_are_alike_are_not_mistaken_for_one(
    mounted: Callable[..., TreesMount],
) -> None:
    """Two names of one file are one file; the same vnode of two volumes is two."""
    mount = mounted(options="expire=0")
    for number in range(3):
        mount.ask("link", f"v.{number:03d}")
    files = [mount.volume(n) / name for n in range(3) for name in ("file", "twin")]
    stats = [file.stat() for file in files]
    assert {status.st_nlink for status in stats} == {2}
    assert len({status.st_dev for status in stats}) == 1
    assert len({status.st_ino for status in stats}) == 3
    archive = mount.folder / "archive.tar"
    subprocess.run(["tar", "-cf", archive, "-C", mount.cell, "v"], check=True)
    listed = subprocess.run(["tar", "-tvf", archive], check=True, capture_output=True).stdout
    links = [line.split()[5::3] for line in listed.decode().splitlines() if " link to " in line]
    assert sorted((os.path.dirname(name), os.path.dirname(target)) for name, target in links) == [
        (place, place) for place in ("v/000", "v/000/below", "v/001", "v/002")
    ], "each within its volume, at its place"
    used = subprocess.run(["du", "-sb", mount.cell / "v"], check=True, capture_output=True).stdout
    each = subprocess.run(
        ["du", "-sb", *(mount.volume(n) for n in range(3))], check=True, capture_output=True
    ).stdout
    assert int(used.split()[0]) > sum(int(line.split()[0]) for line in each.splitlines())


def test_find_ends_in_a_volume_inside_itself(mounted: Callable[..., TreesMount]) -> None:
    mount = mounted(volumes=1)
    done = mount.children.run("find", mount.cell, "-name", "file")
    paths = done.stdout.decode().split()
    assert sorted(paths, key=len) == [
        f"{mount.cell}{'/loop' * rounds}/v/000/file" for rounds in range(8)
    ]
    assert done.returncode == 1
    assert done.stderr.decode().count("Too many levels of symbolic links") == 1


def test_find_and_updatedb_can_be_told_to_leave_it_out(
    mounted: Callable[..., TreesMount],
) -> None:
    mount = mounted()
    done = mount.children.run(
        "find", mount.folder, "-fstype", "fuse.afs", "-prune", "-o", "-name", "*file*", "-print"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
