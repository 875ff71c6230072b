"""Names are made, moved and removed through a mount; the kernel's caches stay right.

The scripts run in processes of their own, in the root of the cell, where the volume `data` is
mounted as `one` and as `two`.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.mount.celld import CELL
from tests.mount.harness import ROOT, Children, clear, wait_until
from tests.mount.usersmount import Process, beside, loopback_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

_PRELUDE = """
import errno, os, stat, time

def refused(call, *args):
    try:
        call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "done"

def touch(path, mode=0o644):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, mode))

def there(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True

"""


class NamesMount:
    """A cell, and a daemon that mounts it; the daemon can be killed and started again."""

    def __init__(self, folder: Path, children: Children) -> None:
        self._children = children
        self._folder = folder
        self.point = folder / "afs"
        self.conf = folder / "conf"
        for made in (self.point, self.conf):
            made.mkdir()
        self._address = loopback_address()
        self._env = {**os.environ, "AFSFUSE_RUNTIME_DIR": str(folder / "run")}
        self._cell = Process(
            children.start(
                sys.executable, "-m", "tests.mount.celld", self.conf, self._address,
                stdin=subprocess.PIPE, cwd=ROOT,
            ),
            b"serving",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        bind = beside(self._address)
        options = f"confdir={self.conf},bind={bind}"
        with (self._folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "afsfuse", "mount", "afs", self.point, "-f", "-o", options],
                env=self._env, cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_until(self._mounted, "the mount")
        except AssertionError:
            self.end()
            raise

    def _mounted(self) -> bool:
        assert self.daemon.poll() is None, self.log()
        return os.path.ismount(self.point)

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def requests(self) -> int:
        """How many the daemon has answered that took more than a look."""
        status = [sys.executable, "-m", "afsfuse", "status", "--json"]
        done = subprocess.run(status, cwd=ROOT, env=self._env, stdout=subprocess.PIPE, check=True)
        (told,) = json.loads(done.stdout)["mounts"]
        return int(told["requests"]["answered"])

    def kill(self) -> None:
        """The daemon dies in this moment, and knows nothing of it."""
        self.daemon.kill()
        self.daemon.wait()
        clear(self.point)

    def stop(self) -> None:
        self.daemon.send_signal(signal.SIGTERM)
        assert self.daemon.wait(30) == 0, self.log()

    def tell(self, *words: str) -> object:
        """Ask the cell, or have another client change something."""
        return ast.literal_eval(self._cell.ask(repr(words)))

    def names(self, volume: str = "data") -> set[str]:
        """What the server has in the root of a volume."""
        found = self.tell("names", volume)
        assert isinstance(found, list)
        return set(found) - {".", ".."}

    def run(self, script: str) -> None:
        """A process does something in the cell's root; its assertions are the test's."""
        code = _PRELUDE + textwrap.dedent(script)
        done = self._children.run(sys.executable, "-S", "-c", code, cwd=self.point / CELL)
        assert done.returncode == 0, done.stderr.decode() + self.log()

    def end(self) -> None:
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        clear(self.point)


@pytest.fixture
def mount(tmp_path: Path, children: Children) -> Iterator[NamesMount]:
    made = NamesMount(tmp_path.resolve(), children)
    yield made
    made.end()
    assert "ERROR" not in made.log(), made.log()
    assert "WARNING" not in made.log(), made.log()


def test_what_is_made_is_there_and_what_is_removed_is_not(mount: NamesMount) -> None:
    mount.run("""
        os.chdir("one")
        os.umask(0o027)
        assert not there("file")
        touch("file", 0o666)
        assert stat.S_IMODE(os.stat("file").st_mode) == 0o640
        os.mkdir("d")
        assert stat.S_IMODE(os.stat("d").st_mode) == 0o750
        assert os.stat(".").st_nlink == 3
        os.symlink("file", "s")
        assert os.readlink("s") == "file" and stat.S_ISREG(os.stat("s").st_mode)
        os.link("file", "second")
        assert os.stat("file").st_nlink == os.stat("second").st_nlink == 2
        assert os.stat("file").st_ino == os.stat("second").st_ino
        assert sorted(os.listdir()) == ["d", "file", "s", "second"]
        os.rename("second", "d2")
        os.rename("d2", "third")
        assert refused(os.link, "file", "d/x") == "EXDEV"
        os.unlink("third")
        assert os.stat("file").st_nlink == 1
        os.rename("file", "d/file")
        assert not there("file") and there("d/file")
        assert refused(os.rmdir, "d") == "ENOTEMPTY"
        os.unlink("d/file")
        os.rmdir("d")
        assert refused(os.stat, "d") == "ENOENT"
        assert os.stat(".").st_nlink == 2
        assert os.listdir() == ["s"]
        assert refused(os.mkfifo, "p") == "EPERM"
        assert refused(os.rename, "s", "../other/s") == "EXDEV"
        assert refused(os.mkdir, "x" * 256) == "ENAMETOOLONG"
        assert refused(os.mkdir, "../../new.cell") == "EROFS"
        os.mknod("node", 0o600 | stat.S_IFREG)
        assert stat.S_ISREG(os.stat("node").st_mode)
    """)
    assert mount.names() == {"s", "node"}


def test_an_absent_name_that_the_kernel_remembers_is_made(mount: NamesMount) -> None:
    mount.run("""
        for place in ("one", "two"):
            for round in range(3):
                assert not there("one/name") and not there("two/name")
                touch(place + "/name")
                assert there("one/name") and there("two/name"), round
                os.unlink(place + "/name")
    """)


def test_two_mounts_of_a_volume_are_of_one_mind(mount: NamesMount) -> None:
    mount.run("""
        def both():
            first, second = (sorted(os.listdir(place)) for place in ("one", "two"))
            assert first == second
            assert all(there("one/" + n) and there("two/" + n) for n in first)
            return first

        def soon(condition):
            for _ in range(500):
                if condition():
                    return True
                time.sleep(0.01)

        touch("one/a")
        os.mkdir("two/d")
        assert both() == ["a", "d"]
        os.rename("one/a", "one/d/a")
        assert not there("two/a") and there("two/d/a")
        os.rename("two/d/a", "two/b")
        assert both() == ["b", "d"] and not there("one/d/a")
        os.link("one/b", "one/c")
        assert soon(lambda: os.stat("two/b").st_nlink == 2)
        os.unlink("two/b")
        assert soon(lambda: os.stat("one/c").st_nlink == 1)
        os.rmdir("one/d")
        assert both() == ["c"]
        assert soon(lambda: os.stat("two").st_nlink == 2)
    """)


def test_a_directory_is_listed_once(mount: NamesMount) -> None:
    """The kernel keeps what it was told."""
    mount.run("""
        for number in range(50):
            touch(f"one/f{number:02}")
        assert len(os.listdir("one")) == 50
    """)
    before = mount.requests()
    mount.run("""
        opened = os.open("one", os.O_RDONLY)
        for round in range(40):
            assert len(os.listdir("one")) == len(os.listdir(opened)) == 50
    """)
    assert mount.requests() - before < 60  # they were opened 41 times; it would be 160 more


def test_a_listing_that_is_not_so_any_more_is_dropped(mount: NamesMount) -> None:
    mount.run("""
        names = [f"f{number:02}" for number in range(50)]
        for name in names:
            touch("one/" + name)
        opened = os.open("one", os.O_RDONLY)

        def listed(*changed):
            for where in ("one", opened, "two", "one", opened):
                assert sorted(os.listdir(where)) == sorted(changed), where

        listed(*names)
        os.rename("one/f07", "one/g")
        names[7] = "g"
        listed(*names)
        os.unlink("two/g")
        names.remove("g")
        listed(*names)
        os.mkdir("two/d")
        listed(*names, "d")
    """)
    mount.tell("make", "data", "theirs")
    mount.run("""
        assert "theirs" in os.listdir("one") and "theirs" in os.listdir("two")
        with os.scandir("one") as entries:
            assert {entry.name: entry.is_dir() for entry in entries}["d"]
    """)
    mount.tell("remove", "data", "theirs")
    mount.run("""
        assert "theirs" not in os.listdir("one") and "theirs" not in os.listdir("two")
    """)


def test_a_name_is_replaced(mount: NamesMount) -> None:
    mount.run("""
        os.chdir("one")
        for round in range(20):
            touch("lock")                       # as git does it with its index
            new = os.stat("lock").st_ino
            assert refused(touch, "lock") == "EEXIST"
            os.rename("lock", "index")
            assert os.stat("index").st_ino == new and not there("lock")
        os.mkdir("d"); os.mkdir("empty"); touch("d/file")
        assert refused(os.rename, "empty", "d") == "ENOTEMPTY"
        os.rename("d", "empty")
        assert os.listdir("empty") == ["file"] and not there("d")
        assert os.listdir("../two/empty") == ["file"]
        assert refused(os.rename, "index", "empty") == "EISDIR"
        assert refused(os.rename, "empty", "empty/below") == "EINVAL"
    """)
    assert mount.names() == {"index", "empty"}


def test_what_another_client_makes_and_removes_shows(mount: NamesMount) -> None:
    mount.run("assert not there('one/theirs') and os.listdir('one') == []")
    mount.tell("make", "data", "theirs")
    mount.run("""
        assert refused(touch, "one/theirs") == "EEXIST"
        assert open("one/theirs").read() == "theirs\\n"
        touch("one/ours")
    """)
    mount.tell("remove", "data", "theirs")
    mount.run("assert not there('one/theirs') and os.listdir('one') == ['ours']")


def test_a_removed_file_is_read_until_it_is_closed(mount: NamesMount) -> None:
    mount.tell("make", "data", "file")
    mount.tell("make", "data", "other")
    mount.run("""
        os.chdir("one")
        with open("file") as file, open("../two/other") as other:
            os.unlink("file")
            touch("new")
            os.rename("new", "other")           # the other node of the volume has it open
            assert not there("file") and os.stat("other").st_size == 0
            assert file.read() == other.read() == "theirs\\n"
            assert os.fstat(file.fileno()).st_nlink == 0
            silly = [name for name in os.listdir() if name.startswith(".__afs")]
            assert len(silly) == 2
        for _ in range(500):
            if os.listdir() == ["other"]:
                break
            time.sleep(0.01)
        assert os.listdir() == ["other"]
    """)
    assert mount.names() == {"other"}


def test_a_file_that_is_open_at_umount_goes(mount: NamesMount, children: Children) -> None:
    mount.tell("make", "data", "file")
    holding = _holder(mount, children)
    assert len(mount.names()) == 1
    holding.kill()
    holding.wait()
    mount.stop()
    assert mount.names() == set()
    assert not list((mount.point.parent / "run/unlinked").iterdir())


def test_what_a_killed_daemon_left_is_removed_by_the_next(
    mount: NamesMount, children: Children
) -> None:
    mount.tell("make", "data", "file")
    _holder(mount, children)
    (silly,) = mount.names()
    assert silly.startswith(".__afs")
    mount.tell("make", "data", ".__afsBAD0")  # another client's: not ours to remove
    mount.kill()
    assert mount.names() == {silly, ".__afsBAD0"}
    mount.start()
    wait_until(lambda: mount.names() == {".__afsBAD0"}, "the name to be removed")
    mount.stop()
    assert not list((mount.point.parent / "run/unlinked").iterdir())


def test_what_a_living_daemon_keeps_is_left_alone(mount: NamesMount, children: Children) -> None:
    mount.tell("make", "data", "file")
    _holder(mount, children)
    before = mount.names()
    first, point = mount.daemon, mount.point
    mount.point = point.parent / "second"
    mount.point.mkdir()
    mount.start()
    mount.run("assert len(os.listdir('one')) == 1")
    mount.stop()
    assert mount.names() == before
    mount.daemon, mount.point = first, point


def _holder(mount: NamesMount, children: Children) -> subprocess.Popen[bytes]:
    """A process that has a file open whose name it has removed."""
    code = "import os; f = open('file'); os.unlink('file'); print(f.read(), flush=True); input()"
    process = children.start(
        sys.executable, "-S", "-c", code, cwd=mount.point / CELL / "one", stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"theirs\n"
    return process
