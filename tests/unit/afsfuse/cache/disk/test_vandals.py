"""Somebody edits, cuts, swaps or removes files in the cache's folder: what is read is right or not
there, what was written and not stored is right or told to be lost, and nothing ever fails.

Seeded; each seed has a few edits of all kinds. What cannot be told from a kill in the middle of a
write is a file of the journal that is cut short or has a damaged last record: then the last writes
are missing, as they are after such a kill.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache.disk import DiskCache, open_cache
from afsfuse.cache.disk import journal as journal_module
from afsfuse.cache.disk.budget import Budget
from afsfuse.cache.disk.journal import DiskJournal
from afsfuse.cache.disk.parts import path_of
from afsfuse.cache.journal import DirtyKey
from tests.unit.afsfuse.cache.disk.desk import CHUNK, LIMIT, VOLUME, contents, opened
from tests.unit.afsfuse.cache.disk.test_journal import replayed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

FILES = {
    vnode: length
    for vnode, length in zip(range(2, 42, 2), [100, CHUNK, 3 * CHUNK + 7] * 7, strict=False)
}
KEYS = [DirtyKey("test.afs", 536870915, vnode, 1, "uid-1000") for vnode in (4, 6, 8)]


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def overwrite(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.randrange(1, 200)] = rng.randbytes(rng.randrange(200))
    path.write_bytes(data)


def blank(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) + 1)
    size = min(rng.randrange(1, 5000), len(data) - at)
    data[at : at + size] = bytes(size)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size + 1))


def lengthen(path: Path, rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 5000)))


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def replace_by_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(["nowhere", "/dev/null", ".."]))


def close_off(path: Path, rng: random.Random) -> None:
    path.chmod(rng.choice([0, 0o444, 0o777]))


def swap(path: Path, rng: random.Random) -> None:
    other = rng.choice([each for each in path.parent.iterdir() if each.is_file()])
    there = other.read_bytes()
    other.write_bytes(path.read_bytes())
    path.write_bytes(there)


EDITS: list[Callable[[Path, random.Random], None]] = [
    flip, flip, overwrite, blank, cut, lengthen, remove, replace_by_folder, replace_by_link,
    close_off, swap,
]  # fmt: skip


def vandalize(
    folder: Path, rng: random.Random, edits: list[Callable[[Path, random.Random], None]]
) -> list[str]:
    """Do a few things to files below a folder; what was done."""
    done = []
    for _ in range(rng.choice((1, 3, 10))):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        if files:
            edit, path = rng.choice(edits), rng.choice(files)
            edit(path, rng)
            done.append(f"{edit.__name__} {path.relative_to(folder)}")
    return done


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a daemon that has ended."""
    folder = tmp_path_factory.mktemp("filled")
    with opened(folder) as desk:
        for vnode, length in FILES.items():
            desk.put(vnode, length)
        desk.settle()
    return folder


@pytest.mark.parametrize("seed", range(15))
def test_what_is_read_from_an_edited_cache_is_right_or_not_there(
    filled: Path, tmp_path: Path, seed: int, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings(".*")
    rng = random.Random(seed)
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    print(f"seed {seed}:", vandalize(folder, rng, EDITS))
    for _ in range(2):  # and a second time, when the first daemon has tidied up
        disk = open_cache(folder, LIMIT, CHUNK)
        if isinstance(disk, DiskCache):
            disk.close()
            with opened(folder) as desk:
                for vnode, length in FILES.items():
                    file = desk.cache.file(VOLUME, vnode, 1, 1, 0, length)
                    read = file.peek(0, length)
                    assert read is None or read == contents(vnode, 1, length)


HONEST: list[Callable[[Path, random.Random], None]] = [flip, blank, close_off]
"""What does not look like a kill, as long as it is not the very last record that is hit."""


def write_journal(folder: Path, rng: random.Random) -> dict[DirtyKey, list[bytes]]:
    """Some files being written by a daemon that is killed; each after each of its writes."""
    journal = DiskJournal(folder, Budget(LIMIT, 4096))
    states: dict[DirtyKey, list[bytes]] = {key: [b""] for key in KEYS}
    for key in KEYS:
        journal.opened(key, 1, 0, f"/afs/test.afs/{key.vnode}")
    for _ in range(40):
        key = rng.choice(KEYS)
        data = bytearray(states[key][-1])
        offset, piece = rng.randrange(len(data) + 1), rng.randbytes(rng.randrange(1, 400))
        data[offset : offset + len(piece)] = piece
        assert journal.written(key, offset, piece) is not None
        states[key].append(bytes(data))
    for segment in journal._segments.values():  # as a kill leaves it
        segment.close()
    return states


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_what_was_not_stored_is_right_or_told_to_be_lost(
    tmp_path: Path,
    seed: int,
    honest: bool,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected_warnings(".*")
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 4096)
    rng = random.Random(seed)
    folder = tmp_path / "journal"
    folder.mkdir()
    states = write_journal(folder, rng)
    print(f"seed {seed}:", vandalize(folder, rng, HONEST if honest else EDITS))
    for _ in range(2):
        caplog.clear()
        journal = DiskJournal(folder, Budget(LIMIT, 4096))
        found = {file.key: file for file in journal.recovered()}
        told = any(record.levelname == "WARNING" for record in caplog.records)
        journal.close()
        assert found.keys() <= states.keys()
        for key, known in states.items():
            file = found.get(key)
            if file is None or not file.whole:
                assert not honest or told or file is not None or known[-1] == b""
                continue
            result = replayed(file, b"")
            if honest:
                assert result in known[-2:], "the last record may be what was hit"
            else:
                assert result in known or len(list(folder.iterdir())) > 1


@pytest.mark.parametrize("nowait", [os.RWF_NOWAIT, None])
def test_what_was_written_and_never_reached_the_disk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
    nowait: int | None,
) -> None:
    """As over quota on a server's disk, or with an error of the disk: the kernel drops its pages,
    and what is read then is something else.
    """
    expected_warnings("a checksum is wrong: fetched again")

    def dropped(descriptor: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError
        return read(descriptor, buffers, offset, flags)

    with opened(tmp_path) as desk:
        desk.cache.nowait = nowait
        file = desk.file(2, 3 * CHUNK)
        desk.put(2, 3 * CHUNK)
        desk.settle()
        assert desk.get(2, 3 * CHUNK) == contents(2, 1, 3 * CHUNK)
        (part,) = tmp_path.glob("0/parts/*/*")
        with part.open("r+b") as bytes_of_part:
            bytes_of_part.seek(CHUNK + 100)
            bytes_of_part.write(bytes(100))
        read = os.preadv
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", dropped)
            assert trio.run(file.read, CHUNK, 2 * CHUNK) is None
        assert trio.run(file.read, 0, 3 * CHUNK) is None
        assert bytes(trio.run(file.read, 0, CHUNK) or b"") == contents(2, 1, CHUNK)


@pytest.mark.parametrize("start", [0, 5000, CHUNK - 10])
def test_a_hole_where_something_was_written(
    tmp_path: Path, expected_warnings: ExpectedWarnings, start: int
) -> None:
    """As an error of the disk leaves it: such pages are there without waiting. Zeros that were
    written are read all the same.
    """
    expected_warnings("a checksum is wrong: fetched again")
    with opened(tmp_path) as desk:
        file = desk.file(2, 3 * CHUNK)
        desk.put(2, 3 * CHUNK)
        zeros = desk.file(4, 2 * CHUNK)
        zeros.put(0, [bytes(CHUNK), bytes(CHUNK)])
        desk.settle()
        part = path_of(str(desk.room.parts), file.parts[0].number)
        with open(part, "r+b") as bytes_of_part:
            bytes_of_part.seek(CHUNK)
            bytes_of_part.write(bytes(CHUNK))
        assert trio.run(file.read, CHUNK + start, 2 * CHUNK) is None
        for _ in range(2):
            assert bytes(trio.run(zeros.read, start, 2 * CHUNK) or b"") == bytes(2 * CHUNK - start)


@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_that_is_another_daemons_by_now_is_left_alone(
    tmp_path: Path, expected_warnings: ExpectedWarnings, moved: bool
) -> None:
    """As after `rm -r ~/.cache/*` under a mount, when another one is made: their parts have the
    same names.
    """
    expected_warnings("deleted or moved, no disk is used from now on")
    expected_warnings("what is written is in memory only: the folder was deleted or moved")
    folder = tmp_path / "cache"
    files = range(2, 12, 2)
    with opened(folder) as first:
        for vnode in files:
            first.put(vnode, 3 * CHUNK)
        first.settle()
        waiting = first.file(100, 3 * CHUNK)
        if moved:
            folder.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(folder)
        with opened(folder) as second:
            for vnode in range(20, 60, 2):
                second.put(vnode, 3 * CHUNK)
            second.settle()
            there = sorted(path for path in folder.rglob("*") if path.is_file())
            for vnode in files:
                assert trio.run(first.file(vnode, 3 * CHUNK).read, 0, 3 * CHUNK) in (
                    None, contents(vnode, 1, 3 * CHUNK),
                )  # fmt: skip
                if not first.cache.usable:
                    break
            waiting.put(0, [bytes(CHUNK)])
            first.settle()
            first.cache.journal.opened(KEYS[0], 1, 0, "name")
            assert first.cache.journal.written(KEYS[0], 0, b"data") is None
            first.cache.journal.clean(KEYS[0])
            first.cache.broken(ValueError("no index"))
            assert sorted(path for path in folder.rglob("*") if path.is_file()) == there
            for vnode in range(20, 60, 2):
                assert second.get(vnode, 3 * CHUNK) == contents(vnode, 1, 3 * CHUNK)


@pytest.mark.parametrize("change", [
    "parts SET place='x'", "parts SET place=x'00'", "parts SET place=1e300", "parts SET place=-1",
    "parts SET place=9223372036854775807", "parts SET version='x', length='y', stamp=x'00'",
    "parts SET length=-5", "parts SET size='x'", "parts SET used='x'", "parts SET used=-1",
    "parts SET used=9223372036854775807", "parts SET number=9223372036854775807",
    "parts SET number=-5", "parts SET instance=9223372036854775807", "parts SET own_sum='x'",
    "volumes SET instance=9223372036854775807", "volumes SET instance=-9",
    "volumes SET created='x'",
])  # fmt: skip
def test_numbers_in_the_index_that_cannot_be(tmp_path: Path, change: str) -> None:
    """As one byte that is damaged in its pages can make them: files are read and written again."""
    with opened(tmp_path) as desk:
        desk.put(2, 3 * CHUNK)
    with closing(sqlite3.connect(tmp_path / "0" / "index.sqlite")) as database:
        database.execute(f"UPDATE {change}")
        database.commit()
    with opened(tmp_path) as desk:
        assert desk.get(2, 3 * CHUNK) in (None, contents(2, 1, 3 * CHUNK))
        for vnode in (2, 4):
            desk.put(vnode, 3 * CHUNK)
            desk.settle()
            assert desk.get(vnode, 3 * CHUNK) == contents(vnode, 1, 3 * CHUNK)


def test_the_number_of_a_volume_is_not_given_away_while_parts_have_it(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.put(2, CHUNK)
    with closing(sqlite3.connect(tmp_path / "0" / "index.sqlite")) as database:
        database.execute("UPDATE volumes SET instance=0")
        database.commit()
    with opened(tmp_path) as desk:
        other = desk.file(2, CHUNK, volume=VOLUME._replace(number=9))
        assert trio.run(other.read, 0, CHUNK) is None
