"""What is written down survives its daemon, and is taken over once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from afsfuse.cache.leftovers import Leftover, Leftovers

if TYPE_CHECKING:
    from tests.conftest import ExpectedWarnings


def leftover(number: int) -> Leftover:
    return Leftover("a.cell", 536870915, (1, 1), f".__afs{number:08X}", (2, number), "uid-1000")


def abandoned(folder: Path, *numbers: int) -> None:
    """Have a process note some, and die."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from afsfuse.cache.leftovers import Leftovers\n"
        "from tests.unit.afsfuse.cache.test_leftovers import leftover\n"
        "notes = Leftovers(Path(sys.argv[1]))\n"
        "for number in sys.argv[2:]: notes.note(leftover(int(number)))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, folder, *map(str, numbers)], check=False)


def test_what_is_done_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "unlinked"
    notes = Leftovers(folder)
    notes.note(leftover(1))
    notes.note(leftover(2))
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    notes.strike(leftover(1))
    assert len(notes) == 1
    notes.strike(leftover(2))
    notes.strike(leftover(2))
    assert path.stat().st_size == 0
    notes.close()
    assert not list(folder.iterdir())


def test_the_list_is_no_longer_than_what_is_on_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from afsfuse.cache.leftovers import Leftovers\n"
        "from tests.unit.afsfuse.cache.test_leftovers import leftover\n"
        "notes = Leftovers(Path(sys.argv[1]))\n"
        "notes.note(leftover(1))\n"
        "for one in map(leftover, range(2, 3000)): notes.note(one); notes.strike(one)\n"
        "(path,) = Path(sys.argv[1]).iterdir()\n"
        "print(path.stat().st_size, len(os.listdir('/proc/self/fd')), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, check=False
    )
    size, descriptors = map(int, done.stdout.split())
    assert size < 200_000
    assert descriptors < 10
    assert Leftovers(tmp_path).inherit() == [leftover(1)]


def test_what_a_dead_process_left_is_taken_over_once(tmp_path: Path) -> None:
    abandoned(tmp_path, 1, 2)
    first, second = Leftovers(tmp_path), Leftovers(tmp_path)
    assert first.inherit() == [leftover(1), leftover(2)]
    assert second.inherit() == []
    assert len(list(tmp_path.iterdir())) == 1  # in the list of the one that took it over
    first.strike(leftover(1))
    first.close()
    assert Leftovers(tmp_path).inherit() == [leftover(2)]


def test_what_is_in_other_folders_is_taken_over_too(tmp_path: Path) -> None:
    abandoned(tmp_path / "volatile", 1)
    abandoned(tmp_path / "lasting", 2)
    heir = Leftovers(tmp_path / "lasting", tmp_path / "volatile", tmp_path / "nowhere")
    assert heir.inherit() == [leftover(2), leftover(1)]
    assert not list((tmp_path / "volatile").iterdir())
    heir.close()
    assert set(Leftovers(tmp_path / "lasting").inherit()) == {leftover(1), leftover(2)}


async def test_what_is_written_down_is_flushed_by_one_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    flushed: list[bytes] = []

    def fsync(descriptor: int) -> None:
        may_end.wait(30)
        flushed.append(Path(f"/proc/self/fd/{descriptor}").read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    notes = Leftovers(tmp_path)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            notes.note(leftover(number))
            nursery.start_soon(notes.sync)
        await trio.testing.wait_all_tasks_blocked()
        notes.note(leftover(3))
        await notes.sync()  # joins what is under way
        may_end.set()
    assert len(flushed) == 2
    assert flushed[-1].count(b"made") == 4


def test_what_a_living_process_keeps_is_left_alone(tmp_path: Path) -> None:
    living = Leftovers(tmp_path)
    living.note(leftover(1))
    assert Leftovers(tmp_path).inherit() == []
    assert len(list(tmp_path.iterdir())) == 1
    living.close()
    assert Leftovers(tmp_path).inherit() == [leftover(1)]


@pytest.mark.parametrize(
    "tail",
    [
        b'{"made": {"cell',
        b"null\n",
        b"[]\n",
        b'{"made": 3}\n',
        b'{"made": {"cell": "x"}}\n',
        b"\xff\n",
    ],
)
def test_damaged_lines_cost_only_themselves(tmp_path: Path, tail: bytes) -> None:
    abandoned(tmp_path, 1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + tail)
    assert Leftovers(tmp_path).inherit() == [leftover(1)]


def test_without_a_folder_nothing_is_written() -> None:
    notes = Leftovers(None)
    notes.note(leftover(1))
    assert notes.inherit() == []
    notes.strike(leftover(1))
    notes.close()


def test_links_and_files_of_others_are_not_followed(tmp_path: Path) -> None:
    abandoned(tmp_path / "real", 1)
    (path,) = (tmp_path / "real").iterdir()
    (tmp_path / "unlinked-0.jsonl").symlink_to(path)
    assert Leftovers(tmp_path).inherit() == []
    assert path.exists()


def test_a_broken_disk_costs_a_warning(tmp_path: Path, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("cannot be written down")
    (tmp_path / "file").write_bytes(b"")
    notes = Leftovers(tmp_path / "file/unlinked")
    notes.note(leftover(1))
    notes.strike(leftover(1))
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_costs_no_line_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be written down: No space left on device")
    notes = Leftovers(tmp_path)
    notes.note(leftover(1))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, line: write(file, line[:20]))
        notes.note(leftover(2))
    notes.note(leftover(3))
    notes.close()
    assert Leftovers(tmp_path).inherit() == [leftover(1), leftover(3)]


def test_a_disk_that_fails_at_the_last_name_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be written down: Input/output error")
    notes = Leftovers(tmp_path)
    notes.note(leftover(1))

    def fail(file: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fail)
        notes.strike(leftover(1))
    notes.close()
    assert not list(tmp_path.iterdir())
