"""Volumes that are busy, removed, renamed, lost and restored, as those see it who work in them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli
from tests.interop import insider
from tests.interop.mounts import eventually, mounted
from tests.realcell import dump
from tests.realcell.configuration import CELL
from tests.realcell.contents import EPOCH, Bytes, Directory, File, MountPoint, PseudoRandom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.mounts import RealMount
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

TOP, VOLUME = "vols.top", "vols.one"
GONE = {"ENOENT", "ESTALE", "ENODEV"}
WELL = {
    "list": ["held", "other"], "stat": 6, "read": "other\n", "create": None, "remove": None,
    "fstat": 6, "pread": "held!\n", "pwrite": 6, "fsync": None,
}  # fmt: skip
AGAIN = 30.0  # seconds within which a name counts anew: a failure is remembered for ten
BIG = PseudoRandom("volumes", 8 << 20)
CREATE = "import os, sys; os.close(os.open(sys.argv[1] + '/made', os.O_CREAT | os.O_WRONLY))"
READ = "import sys; open(sys.argv[1] + '/big', 'rb').read()"
FSYNC = """
import os, sys
held = os.open(sys.argv[1] + "/held", os.O_RDWR)
os.write(held, b"x")
os.fsync(held)
"""


def tree(held: bytes = b"held!\n") -> Directory:
    return Directory({b"held": File(Bytes(held)), b"other": File(Bytes(b"other\n"))})


def put(cell: RealCell, contents: Directory) -> None:
    """Make the volume, or replace all that is in it. Two of one name are not of one second, by
    which alone they could be told apart: the versions of what is in them are the same.
    """
    time.sleep(1.0)
    cell.volumes.restore(VOLUME, dump.write(contents, name=VOLUME), "fs2")


@pytest.fixture(scope="module")
def mount(real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMount]:
    """A volume with a mount point `v` to another one, which each test makes as it needs it."""
    top = Directory({b"v": MountPoint(f"#{VOLUME}.".encode())})
    real_cell.volumes.restore(TOP, dump.write(top, name=TOP), "fs1")
    point = tmp_path_factory.mktemp("volumes") / "afs"
    try:
        with mounted(real_cell, "client1", point, source=f"%{CELL}:{TOP}.") as made:
            yield made
    finally:
        remove(real_cell, TOP)


@pytest.fixture
def folder(real_cell: RealCell, mount: RealMount) -> Iterator[Path]:
    """Where the volume is, fresh from a dump."""
    put(real_cell, tree())
    try:
        inside = mount.point / "v"
        assert eventually(lambda: names(inside) == ["held", "other"], AGAIN)
        yield inside
    finally:
        remove(real_cell, VOLUME)
        give_up_unstored()


def remove(cell: RealCell, volume: str) -> None:
    for suffix in (".readonly", ""):
        for server in cell.servers.values():
            cell.vos(["remove", server.address, "a", volume + suffix], check=False)


def names(path: Path) -> list[str] | None:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return None


def told(*words: str) -> str:
    """What a command of ours prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(words) == 0
    return out.getvalue()


def unstored() -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = json.loads(told("status", "--unstored", "--json"))["files"]
    return files


def give_up_unstored() -> None:
    """What was written into a volume that is gone stays until somebody says so."""
    while files := unstored():
        told("status", "--discard", files[0]["path"])


class Insider:
    """The process of `insider`."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", insider.__file__, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._line()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "it has ended"
        return line

    def does(self) -> dict[str, Any]:
        """Everything once."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        did: dict[str, Any] = json.loads(self._line())
        return did

    def end(self) -> None:
        self._process.communicate(timeout=60)


@contextmanager
def inside(folder: Path) -> Iterator[Insider]:
    process = Insider(folder)
    try:
        assert process.does() == WELL
        yield process
    finally:
        process.end()


def went(did: dict[str, Any], *actions: str) -> set[Any]:
    return {did[action] for action in actions}


def test_a_dump_keeps_the_volume_busy(real_cell: RealCell, mount: RealMount, folder: Path) -> None:
    """`vos dump` of a read/write volume, which nobody takes away from its server for a while."""
    put(real_cell, Directory({**tree().entries, b"big": File(BIG)}))
    assert eventually(lambda: "big" in (names(folder) or ()), AGAIN)
    command = ["vos", "dump", "-id", VOLUME, "-time", "0", "-localauth"]
    dumping = real_cell.fs1.popen(command, stdout=subprocess.PIPE)
    assert dumping.stdout is not None
    assert dumping.stdout.read(4)
    waiting = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", program, str(folder)], stderr=subprocess.DEVNULL
        )
        for program in (CREATE, READ, FSYNC)
    ]
    try:
        server = real_cell.servers["fs2"].address
        busy = f"{server} says: the volume is in use by its server (110 VBUSY)"
        assert eventually(lambda: busy in told("why", str(folder)), 10.0)
        assert f"{server} (busy)" in told("status")
        assert (folder / "other").stat().st_size == 6  # what is known needs no server
        time.sleep(1.0)
        for process in waiting[1:]:
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.wait(1.0)
        assert waiting[0].poll() is None
        dumping.stdout.read()
        assert dumping.wait(60) == 0
        assert waiting[0].wait(60) == 0
    finally:
        for process in (*waiting, dumping):
            process.kill()
            process.wait()
        dumping.stdout.close()
    assert "made" in os.listdir(folder)
    assert "refused" not in told("why", str(folder))
    log = mount.log.read_text()
    assert (
        f"volume {VOLUME} of cell {CELL} is refused by file server {server}: the volume is" in log
    )
    assert f"volume {VOLUME} of cell {CELL} is served by file server {server} again" in log


def test_a_removed_volume_and_another_one_of_its_name(
    real_cell: RealCell, mount: RealMount, folder: Path
) -> None:
    with inside(folder) as process:
        real_cell.volumes.remove(VOLUME, "fs2")
        did = process.does()
        assert went(did, "stat", "read", "create", "remove", "fstat", "pread", "fsync") <= GONE
        assert did["list"] in GONE
        assert names(folder) is None
        assert f"does not exist any more (volume {VOLUME}" in mount.log.read_text() or (
            f"the cell has no such volume (volume {VOLUME}" in mount.log.read_text()
        )
        assert [file["path"] for file in unstored()] == [str(folder / "held")]
        put(real_cell, tree(b"anew!\n"))
        assert eventually(lambda: names(folder) == ["held", "other"], AGAIN)
        assert (folder / "held").read_text() == "anew!\n"
        assert process.does()["fsync"] in GONE  # its file is none of the new volume's


def test_a_renamed_volume(real_cell: RealCell, mount: RealMount, folder: Path) -> None:
    other = f"{VOLUME}.other"
    with inside(folder) as process:
        real_cell.vos(["rename", VOLUME, other])
        try:
            after = {**WELL, "pread": "inside", "fstat": 6}
            assert process.does() == after  # the volume is the same
            told("fs", "checkvolumes")
            assert f"volume {VOLUME} is called {other} now" in mount.log.read_text()
            assert names(folder) is None  # the mount point's name is that of no volume
            did = process.does()
            assert went(did, "fstat", "pread", "fsync") == {6, "inside", None}
        finally:
            real_cell.vos(["rename", other, VOLUME])
        told("fs", "checkvolumes")
        assert names(folder) == ["held", "other"]
        assert process.does() == after


def test_a_volume_that_its_server_has_lost(real_cell: RealCell, folder: Path) -> None:
    """`vos zap`: the database still names the server, which has nothing any more."""
    with inside(folder) as process:
        number = str(real_cell.volumes.volume_id(VOLUME))
        real_cell.vos(["zap", real_cell.servers["fs2"].address, "a", number, "-force"])
        did = process.does()
        assert went(did, "create", "fsync") == {"ENODEV"}
        assert "not there" in told("status")
        real_cell.vos(["delentry", VOLUME])
        put(real_cell, tree(b"anew!\n"))
        assert eventually(lambda: names(folder) == ["held", "other"], AGAIN)
        assert (folder / "held").read_text() == "anew!\n"


def test_a_volume_that_is_restored_over_itself(real_cell: RealCell, folder: Path) -> None:
    """The files' numbers and versions are those of before, and their contents are not."""
    with inside(folder) as process:
        put(real_cell, tree(b"older\n"))
        assert process.does() == {**WELL, "pread": "older\n"}
        put(real_cell, Directory({b"new": File(Bytes(b"new\n"))}))
        did = process.does()
        assert did["list"] == ["new"]
        assert went(did, "stat", "read") == {"ENOENT"}
        assert did["fsync"] is None  # another file has the number of the one that is open


def test_no_listing_of_the_volume_before_is_kept(real_cell: RealCell, folder: Path) -> None:
    """Each time the root is of the same data version, and somebody has the listing before open."""
    for number in range(2):
        opened = os.open(folder, os.O_RDONLY)
        try:
            before = sorted(os.listdir(opened))
            assert names(folder) == names(folder) == before  # the kernel has it
            name = b"name%d" % number
            put(real_cell, Directory({name: File(Bytes(b"x")), b"held": File(Bytes(b"y"))}))
            assert eventually(lambda: name in os.listdir(os.fsencode(folder)), AGAIN)  # noqa: B023
            assert names(folder) == ["held", name.decode()]
            assert sorted(os.listdir(opened)) == ["held", name.decode()]
        finally:
            os.close(opened)
        assert names(folder) == names(folder) == ["held", name.decode()]


def test_a_volume_that_is_restored_and_released(real_cell: RealCell, tmp_path: Path) -> None:
    """Its replicas are told apart from those before by nothing but times: the numbers, versions and
    lengths are the same.
    """

    def put_named(name: bytes, mtime: int) -> None:
        put(real_cell, Directory({name: File(Bytes(name + b"\n"), mtime=mtime)}, mtime=mtime))

    put_named(b"older", EPOCH)
    try:
        real_cell.volumes.replicate(VOLUME)
        point = tmp_path / "afs"
        with mounted(real_cell, "client1", point, source=f"#{CELL}:{VOLUME}.") as mount:
            opened = os.open(mount.point, os.O_RDONLY)
            try:
                assert names(mount.point) == os.listdir(opened) == ["older"]
                assert (mount.point / "older").read_text() == "older\n"
                put_named(b"newer", EPOCH + 1)
                real_cell.volumes.release(VOLUME)
                assert eventually(lambda: names(mount.point) == ["newer"], AGAIN)
                assert os.listdir(opened) == ["newer"]
                assert (mount.point / "newer").read_text() == "newer\n"
                assert not (mount.point / "older").exists()
            finally:
                os.close(opened)
    finally:
        remove(real_cell, VOLUME)


def test_one_of_two_sites_is_removed_and_comes_back(real_cell: RealCell, tmp_path: Path) -> None:
    """Nobody who reads notices, though it is the preferred one."""
    first, second = (real_cell.servers[name].address for name in ("fs2", "fs1"))
    put(real_cell, Directory({b"big": File(BIG)}))
    try:
        real_cell.volumes.replicate(VOLUME)
        source, options = f"#{CELL}:{VOLUME}.", f"memory=1M,serverprefs={first}=10"
        point = tmp_path / "afs"
        with mounted(real_cell, "client1", point, source=source, options=options) as mount:
            reads = Reads(mount.point / "big")
            try:
                assert order(mount.point) == [first, second]
                real_cell.vos(["remove", first, "a", f"{VOLUME}.readonly"])
                assert eventually(lambda: order(mount.point) == [second], AGAIN)
                real_cell.vos(["addsite", first, "a", VOLUME])
                real_cell.volumes.release(VOLUME)
                told("fs", "checkvolumes")  # or within an hour
                assert eventually(lambda: order(mount.point) == [first, second], AGAIN)
            finally:
                reads.end()
            assert reads.troubles == []
            assert reads.longest < 2.0
    finally:
        remove(real_cell, VOLUME)


def order(path: Path) -> list[str]:
    """The servers of a volume, the one to be asked first before."""
    return told("fs", "whereis", str(path)).split(" on host")[1].lstrip("s").split()


class Reads:
    """Reads a file that is larger than the memory, again and again, in a thread."""

    def __init__(self, path: Path) -> None:
        self.troubles: list[object] = []
        self.longest = 0.0
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        expected = BIG.read(0, BIG.length)
        with self._path.open("rb", buffering=0) as file:
            while not self._over.wait(0.01):
                began = time.monotonic()
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                try:
                    if os.pread(file.fileno(), BIG.length, 0) != expected:
                        self.troubles.append("other bytes")
                except OSError as exc:
                    self.troubles.append(exc)
                self.longest = max(self.longest, time.monotonic() - began)

    def end(self) -> None:
        self._over.set()
        self._thread.join()
