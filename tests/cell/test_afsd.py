"""OpenAFS's own client in user space, on the cell in one process: neither knows of the other.

Both are in a network namespace of their own, since OpenAFS's clients want no loopback addresses and
may meet another client on port 7001 elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import ROOT, clear, wait_until
from tests.realcell import contents, seed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

ADDRESS = "10.99.0.1"
CELL = "test.afs"
CACHE_KIB = 50_000
STOP_SECONDS = 20.0


class Served:
    """The cell, in a process and a network namespace of its own."""

    def __init__(self, log: Path) -> None:
        python = shlex.join([sys.executable, "-m", "tests.cell.serve", ADDRESS])
        script = f"ip link set lo up && ip addr add {ADDRESS}/24 dev lo && exec {python}"
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                ["unshare", "--net", "--", "sh", "-c", script],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            )  # fmt: skip
        self._log = log
        assert self._answer() == "ready"

    def order(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        assert answer, self._log.read_text()
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            assert self.process.wait(STOP_SECONDS) == 0, self._log.read_text()
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture(scope="module")
def served(_realcell_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served") / "log")
    yield served
    served.end()


@pytest.fixture(scope="module")
def afsd(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of the cell as afsd.fuse shows it, read-write."""
    folder = tmp_path_factory.mktemp("afsd")
    mount, confdir = folder / "mount", folder / "conf"
    for made in (mount, confdir, folder / "cache"):
        made.mkdir()
    (confdir / "ThisCell").write_text(f"{CELL}\n")
    (confdir / "CellServDB").write_text(f">{CELL} #test\n{ADDRESS} #fs1\n")
    (confdir / "cacheinfo").write_text(f"{mount}:{folder / 'cache'}:{CACHE_KIB}\n")
    command = ["afsd.fuse", "-f", "-mountdir", str(mount), "-confdir", str(confdir)]
    command += ["-cachedir", str(folder / "cache"), "-memcache", "-dynroot", "-fakestat"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["nsenter", "-t", str(served.process.pid), "--net", "--", *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text(errors="replace")
        with contextlib.suppress(OSError):
            return os.path.ismount(mount) and CELL in os.listdir(mount)
        return False

    try:
        wait_until(answers, "afsd.fuse")
        yield mount / f".{CELL}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        clear(mount)


def test_it_reads_what_is_there(afsd: Path) -> None:
    files = seed.files_tree().entries[b"files"]
    assert isinstance(files, contents.Directory)
    assert {os.fsencode(name) for name in os.listdir(afsd / "tree/files")} == set(files.entries)
    for name, node in files.entries.items():
        assert isinstance(node, contents.File)
        data = (afsd / "tree/files" / os.fsdecode(name)).read_bytes()
        assert data == node.content.read(0, node.content.length), name
    assert {os.fsencode(name) for name in os.listdir(afsd / "names")} == set(seed.ODD_NAMES)


def test_it_follows_links_and_mount_points(afsd: Path) -> None:
    assert (afsd / "links/to-link").read_text() == "the target\n"
    assert (afsd / "links/mount-tree/old").read_text() == "from 1971\n"
    assert (afsd / "replicated/version").read_text() == "1\n"
    assert (afsd.parent / CELL / "replicated/version").read_text() == "1\n"
    with pytest.raises(OSError, match=r"."):
        os.listdir(afsd / "links/mount-missing")


def test_it_is_refused_what_it_may_not(afsd: Path) -> None:
    assert (afsd / "rights/read/file").read_text() == "not for all\n"
    with pytest.raises(PermissionError):
        (afsd / "rights/lookup/file").read_text()


def test_it_makes_and_removes_things(afsd: Path) -> None:
    folder = afsd / "scratch/made-by-afsd"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 300_000)
    assert (folder / "file").stat().st_size == 300_000
    (folder / "file").rename(folder / "moved")
    (folder / "link").hardlink_to(folder / "moved")
    assert sorted(os.listdir(folder)) == ["link", "moved"]
    assert (folder / "link").read_bytes() == b"x" * 300_000
    for name in ("link", "moved"):
        (folder / name).unlink()
    folder.rmdir()
    assert not folder.exists()


def test_it_hears_of_changes(afsd: Path, served: Served) -> None:
    path = afsd / "scratch/slot07"
    assert path.read_text() == "slot 07, first\n"
    assert int(served.order("promises")) > 0
    assert served.order("store scratch slot07 changed by another client") == "stored"
    assert path.read_text() == "changed by another client"
    assert served.order("store scratch quite-new first") == "stored"
    assert (afsd / "scratch/quite-new").read_text() == "first"


def test_vos_lists_the_volumes(served: Served, tmp_path: Path) -> None:
    (tmp_path / "ThisCell").write_text(f"{CELL}\n")
    (tmp_path / "CellServDB").write_text(f">{CELL} #test\n{ADDRESS} #fs1\n")
    command = ["vos", "listvldb", "-noauth", "-config", str(tmp_path)]
    listed = subprocess.run(
        ["nsenter", "-t", str(served.process.pid), "--net", "--", *command],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in ("tree", "root.cell", "replicated"):
        assert f"\n{name} \n" in listed.stdout
    assert f"server {ADDRESS} partition /vicepa RO Site" in listed.stdout
