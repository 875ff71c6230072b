"""The journal: what was written and not stored is there for whoever comes after a kill."""

from __future__ import annotations

import json
import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.disk import journal as module
from afsfuse.cache.disk.budget import Budget
from afsfuse.cache.disk.journal import DiskJournal
from afsfuse.cache.disk.records import Kind, header
from afsfuse.cache.journal import DirtyKey, JournalLost

if TYPE_CHECKING:
    from pathlib import Path

    from afsfuse.cache.journal import RecoveredFile
    from tests.conftest import ExpectedWarnings

KEY = DirtyKey("test.afs", 536870915, 4, 1, "uid-1000")
OTHER = DirtyKey("test.afs", 536870915, 6, 1, "uid-1000")
LIMIT = 64 << 20


def open_journal(folder: Path, limit: int = LIMIT) -> DiskJournal:
    return DiskJournal(folder, Budget(limit, limit // 16))


def after_a_kill(folder: Path, there: Path) -> list[RecoveredFile]:
    """What a daemon finds that starts where another one was killed just now."""
    shutil.copytree(folder, there)
    journal = open_journal(there)
    found = journal.recovered()
    journal.close()
    again = open_journal(there)
    assert again.recovered() == found, "it stays until it is clean"
    again.close()
    shutil.rmtree(there)
    return found


def replayed(file: RecoveredFile, base: bytes) -> bytes:
    """What the file is when that is done to the version that was there."""
    data = bytearray(base if file.cut is None else base[: file.cut])
    for offset, extent in file.extents:
        data[len(data) :] = bytes(max(0, offset - len(data)))
        data[offset : offset + len(extent)] = extent
    data[len(data) :] = bytes(max(0, file.length - len(data)))
    return bytes(data[: file.length])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "journal"
    made.mkdir()
    return made


def test_what_was_written_is_found(folder: Path, tmp_path: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 7, 100, "/afs/test.afs/file")
    journal.written(KEY, 50, b"one")
    journal.written(KEY, 51, b"two")
    journal.opened(OTHER, 1, 0, "/afs/test.afs/b\udcff")
    journal.written(OTHER, 0, memoryview(b"three"))
    found = {file.key: file for file in after_a_kill(folder, tmp_path / "copy")}
    file = found[KEY]
    assert (file.base_version, file.length, file.path) == (7, 100, "/afs/test.afs/file")
    assert file.whole
    assert file.cut is None
    assert replayed(file, bytes(100)) == bytes(50) + b"otwo" + bytes(46)
    assert found[OTHER].path == "/afs/test.afs/b\udcff"
    assert replayed(found[OTHER], b"") == b"three"
    journal.close()


def test_what_is_clean_is_forgotten(folder: Path, tmp_path: Path) -> None:
    journal = open_journal(folder)
    for key in (KEY, OTHER):
        journal.opened(key, 1, 0, "")
        journal.written(key, 0, b"data")
    journal.clean(KEY)
    assert [file.key for file in after_a_kill(folder, tmp_path / "copy")] == [OTHER]
    journal.clean(OTHER)
    assert [path.stat().st_size for path in folder.iterdir()] == [0]
    assert not after_a_kill(folder, tmp_path / "copy")
    journal.opened(KEY, 2, 4, "")
    journal.written(KEY, 0, b"anew")
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert replayed(file, b"data") == b"anew"
    journal.clean(KEY)
    journal.close()
    assert not list(folder.iterdir())


def test_what_was_cut_does_not_come_back(folder: Path, tmp_path: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 10, "")
    journal.written(KEY, 5, b"ABCDE")
    journal.resized(KEY, 7)
    journal.written(KEY, 9, b"Z")
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert replayed(file, b"0123456789") == b"01234AB\0\0Z"
    journal.resized(KEY, 2)
    journal.resized(KEY, 12)
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert replayed(file, b"0123456789") == b"01" + bytes(10)
    journal.close()


def test_what_is_stored_is_not_stored_again(folder: Path, tmp_path: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 10, "")
    journal.resized(KEY, 0)
    journal.written(KEY, 0, b"first")
    mark = journal.mark()
    journal.written(KEY, 1, b"later")
    journal.stored(KEY, 0, 5, mark, 2)
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert (file.base_version, file.cut) == (2, None)
    assert [(offset, bytes(data)) for offset, data in file.extents] == [(1, b"later")]
    assert replayed(file, b"first") == b"flater"
    journal.close()


def test_a_file_is_found_where_it_was_at_last(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 64 << 10)
    journal = open_journal(folder)
    journal.opened(KEY, 7, 0, "/cell/folder/file")
    journal.opened(OTHER, 7, 0, "/cell/folderol")
    journal.written(KEY, 0, b"early")
    journal.written(OTHER, 0, b"other")
    journal.renamed("/cell/folder", "/cell/b\udcff")
    for number in range(8):  # over several segments, of which none with the news may go
        mark = journal.mark()
        journal.written(KEY, 100 + number, bytes(30 << 10))
        journal.stored(KEY, 100, 1 << 20, mark, 8)
    found = {file.key: file for file in after_a_kill(folder, tmp_path / "copy")}
    assert found[KEY].path == "/cell/b\udcff/file"
    assert found[OTHER].path == "/cell/folderol"
    assert replayed(found[KEY], b"")[:5] == b"early"
    heir = open_journal(folder)
    heir.renamed("/cell/b\udcff/file", "/cell/here")
    assert {file.path for file in heir.recovered()} == {"/cell/here", "/cell/folderol"}
    found = {file.key: file for file in after_a_kill(folder, tmp_path / "copy")}
    assert found[KEY].path == "/cell/here"
    for key in (KEY, OTHER):
        heir.clean(key)  # what was left is not the heir's own
        assert key in {file.key for file in heir.recovered()}
        heir.forgotten(key)
        assert key not in {file.key for file in heir.recovered()}
    heir.close()
    assert not list(folder.iterdir())
    journal.close()


def test_bytes_are_read_back(folder: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 0, "")
    tokens = [(journal.written(KEY, 0, bytes([i]) * 1000), i) for i in range(50)]
    for token, i in tokens:
        assert token is not None
        assert journal.read(token, 10, 20) == bytes([i]) * 20
        with pytest.raises(JournalLost):
            journal.read(token, 990, 20)
    journal.clean(KEY)
    assert tokens[0][0] is not None
    with pytest.raises(JournalLost, match="forgotten"):
        journal.read(tokens[0][0], 0, 1)
    journal.close()


def test_damaged_bytes_are_not_read_back(folder: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 0, "")
    token = journal.written(KEY, 0, b"data" * 100)
    assert token is not None
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalLost, match="damaged"):
        journal.read(token, 0, 1)
    os.truncate(path, len(data) - 3)
    with pytest.raises(JournalLost, match="damaged"):
        journal.read(token, 0, 1)
    journal.close()


def test_damaged_bytes_make_a_session_that_is_not_whole(folder: Path, tmp_path: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 0, "")
    journal.written(KEY, 0, b"data" * 100)
    journal.written(KEY, 400, b"more")
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[data.index(b"datadata")] ^= 1
    path.write_bytes(data)
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert not file.whole
    journal.close()


@pytest.mark.parametrize("boot", ["this", "another"])
def test_segments_of_different_moments_are_what_a_loss_of_power_leaves(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    """One segment reached the disk before a store, the other one after it: a record that is dead
    seems alive, and may lie under what the server has.
    """
    monkeypatch.setattr(module, "this_boot", lambda: "this")
    journal = DiskJournal(folder, Budget(LIMIT, 32 << 10))
    journal.opened(KEY, 1, 0, "")
    journal.written(KEY, 0, bytes(20_000))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    journal.written(KEY, 0, b"newer" * 4000)
    journal.written(KEY, 50_000, b"not stored")
    assert len(list(folder.iterdir())) == 2
    journal.stored(KEY, 0, 20_000, journal.mark(), 2)
    for path, data in before.items():
        path.write_bytes(data)
    monkeypatch.setattr(module, "this_boot", lambda: boot)
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert file.base_version == 2
    assert (file.exact, file.whole) == (boot == "this", boot == "this")
    journal.close()


def test_a_journal_that_tells_of_no_boot_is_read(folder: Path, tmp_path: Path) -> None:
    """As those of earlier versions are."""
    journal = open_journal(folder)
    journal.opened(KEY, 1, 0, "name")
    journal.written(KEY, 0, b"data")
    (path,) = folder.iterdir()
    old = json.dumps([KEY.cell, KEY.volume, KEY.vnode, KEY.unique, KEY.who, "name"]).encode()
    path.write_bytes(
        header(Kind.OPENED, 1, 1, 0, old) + old + header(Kind.WRITTEN, 1, 0, 4, b"data") + b"data"
    )
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert (file.key, file.path, file.whole, file.exact) == (KEY, "name", True, False)
    assert replayed(file, b"") == b"data"
    journal.close()


def test_a_torn_record_is_not_there(folder: Path, tmp_path: Path) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 0, "")
    journal.written(KEY, 0, b"whole")
    journal.written(KEY, 5, b"torn by the kill")
    (path,) = folder.iterdir()
    os.truncate(path, path.stat().st_size - 1)
    (file,) = after_a_kill(folder, tmp_path / "copy")
    assert file.whole
    assert replayed(file, b"") == b"whole"
    journal.close()


def test_a_long_copy_needs_no_more_room_than_what_is_not_stored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1 << 20)
    budget = Budget(16 << 20, 1 << 20)
    journal = DiskJournal(folder, budget)
    journal.opened(KEY, 1, 0, "")
    journal.resized(KEY, 0)
    block = bytes(256 << 10)
    for number in range(400):
        start = number * len(block)
        assert journal.written(KEY, start, block) is not None
        if number % 4 == 3:
            mark = journal.mark()
            journal.stored(KEY, start - 3 * len(block), start + len(block), mark, 2 + number // 4)
    assert budget.journal <= 4 << 20
    assert sum(path.stat().st_size for path in folder.iterdir()) <= budget.journal
    for file in after_a_kill(folder, tmp_path / "copy"):
        assert (file.base_version, file.length, file.cut) == (101, 400 * len(block), None)
        assert not file.extents
    journal.clean(KEY)
    journal.close()
    assert budget.journal in (0, 1 << 20)


def test_without_room_a_session_is_not_to_be_recovered(
    folder: Path, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    """Older bytes without newer ones would be worse than none."""
    expected_warnings("what is written is in memory only: there is no room")
    journal = open_journal(folder, limit=4 << 20)
    journal.opened(OTHER, 1, 0, "")
    journal.written(OTHER, 0, b"small")
    journal.opened(KEY, 1, 0, "")
    first = journal.written(KEY, 0, b"x" * 100_000)
    assert first is not None
    offset = 100_000
    while journal.written(KEY, offset, b"y" * 100_000) is not None:
        offset += 100_000
    assert journal.read(first, 0, 3) == b"xxx"
    assert [file.key for file in after_a_kill(folder, tmp_path / "copy")] == [OTHER]
    journal.clean(KEY)
    journal.opened(KEY, 2, 0, "")
    assert journal.written(KEY, 0, b"there is room again") is not None
    assert len(after_a_kill(folder, tmp_path / "copy")) == 2
    journal.close()


def test_room_is_asked_for_ahead(folder: Path) -> None:
    asked: list[int] = []
    journal = DiskJournal(folder, Budget(LIMIT, 1 << 20), lambda: asked.append(1))
    journal.opened(KEY, 1, 0, "")
    journal.written(KEY, 0, b"data")
    assert asked
    journal.close()


def test_an_inherited_journal_is_read_with_ones_own(folder: Path, tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    for where, key in ((folder, KEY), (dead, OTHER)):
        journal = open_journal(where)
        journal.opened(key, 1, 0, "")
        journal.written(key, 0, key.path.encode() if hasattr(key, "path") else b"data")
        journal.close()
    for path in dead.iterdir():
        path.rename(folder / f"{path.name}.1.123456")
    journal = open_journal(folder)
    assert {file.key for file in journal.recovered()} == {KEY, OTHER}
    journal.forgotten(OTHER)
    assert len(list(folder.iterdir())) == 1
    journal.forgotten(KEY)
    journal.close()
    assert not list(folder.iterdir())


def test_what_is_recovered_can_be_stored_under_way_and_die_again(
    folder: Path, tmp_path: Path
) -> None:
    journal = open_journal(folder)
    journal.opened(KEY, 1, 4, "")
    journal.written(KEY, 0, b"mine")
    journal.close()
    journal = open_journal(folder)
    journal.opened(KEY, 1, 4, "")  # as it is applied
    journal.written(KEY, 0, b"mine")
    (before,) = (after_a_kill(folder, tmp_path / "copy"),)
    assert [bytes(file.extents[0][1]) for file in before] == [b"mine", b"mine"]
    journal.taken_over(KEY)
    mark = journal.mark()
    journal.stored(KEY, 0, 4, mark, 2)
    found = after_a_kill(folder, tmp_path / "copy")
    assert not found
    journal.clean(KEY)
    assert not after_a_kill(folder, tmp_path / "copy")
    journal.close()


@pytest.mark.parametrize("seed", range(60))
def test_a_file_is_what_its_writers_made_of_it_whenever_the_daemon_dies(
    folder: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random writes, cuts and stores; the server's file with what is recovered is the writer's."""
    print(f"seed {seed}")
    monkeypatch.setattr(module, "SEGMENT_BYTES", 4096)
    rng = random.Random(seed)
    journal = DiskJournal(folder, Budget(LIMIT, 4096))
    mine = bytearray(rng.randbytes(rng.randrange(3000)))
    server, version = bytes(mine), 1
    journal.opened(KEY, 1, len(mine), "")
    cut = None
    for step in range(60):
        match rng.choice(["write", "write", "write", "cut", "store", "die"]):
            case "write":
                offset, data = rng.randrange(4000), rng.randbytes(rng.randrange(1, 600))
                mine[len(mine) :] = bytes(max(0, offset - len(mine)))
                mine[offset : offset + len(data)] = data
                assert journal.written(KEY, offset, data) is not None
            case "cut":
                length = rng.randrange(4000)
                if length < len(mine):
                    cut = length if cut is None else min(cut, length)
                mine[length:] = b""
                mine[len(mine) :] = bytes(length - len(mine))
                journal.resized(KEY, length)
            case "store":  # as the storer does: all, or a range once no cut is left
                whole = cut is not None or rng.random() < 0.5
                start = 0 if whole else rng.randrange(len(mine) + 1)
                end = len(mine) if whole else rng.randrange(start, len(mine) + 1)
                mark = journal.mark()
                image = bytes(mine)
                if rng.random() < 0.5 and end > start:  # written while it is on its way
                    at = rng.randrange(start, end)
                    mine[at : at + 1] = b"!"
                    journal.written(KEY, at, b"!")
                below = image if whole else server.ljust(start, b"\0")
                server = below[:start] + image[start:end] + below[end:]
                cut, version = None, version + 1
                journal.stored(KEY, start, end, mark, version)
            case "die":
                for file in after_a_kill(folder, tmp_path / f"copy{step}"):
                    assert file.whole
                    assert file.base_version == version
                    assert replayed(file, server) == mine
                    break
                else:  # all is stored
                    assert server == mine
    journal.clean(KEY)
    journal.close()
    assert not list(folder.iterdir())
