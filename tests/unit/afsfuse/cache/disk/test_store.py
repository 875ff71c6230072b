"""The cache on disk: what goes in comes out, also after a restart, and nothing else ever does."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.disk import NO_FILE, VolumeInstance
from afsfuse.cache.disk.folder import measure
from afsfuse.cache.disk.parts import PART_SIZE
from tests.unit.afsfuse.cache.disk.desk import CHUNK, VOLUME, Desk, chunk_of, contents, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

LENGTH = 10 * CHUNK + 77
BIG = PART_SIZE + 3 * CHUNK + 5


def parts_of(desk: Desk) -> list[Path]:
    return sorted(path for path in desk.room.parts.rglob("*") if path.is_file())


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, LENGTH, PART_SIZE, BIG])
def test_what_goes_in_comes_out_after_a_restart_too(tmp_path: Path, length: int) -> None:
    whole = contents(4, 1, length)
    with opened(tmp_path) as desk:
        assert desk.get(4, length) is None
        desk.put(4, length)
        desk.settle()
        assert desk.get(4, length) == whole
    with opened(tmp_path) as desk:
        assert desk.get(4, length) == whole
        assert desk.get(4, length, length - 1) == whole[-1:]
        assert desk.cache.statistics().written == 0


@pytest.mark.parametrize("seed", range(5))
def test_any_range_is_right(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = contents(4, 1, BIG)
    with opened(tmp_path) as desk:
        desk.put(4, BIG)
    with opened(tmp_path) as desk:
        for _ in range(50):
            start = rng.randrange(BIG)
            end = min(BIG, start + rng.choice((1, 4096, CHUNK, 1 << 20)))
            assert desk.get(4, BIG, start, end) == whole[start:end]


def test_only_what_is_there_is_said_to_be(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH, 2, 3)
        desk.settle()
        file = desk.file(4, LENGTH)
        assert [index for index in range(11) if file.has(index)] == [2, 3, 4]
        assert file.holds(2, 4)
        assert not file.holds(1, 4)
        assert not file.holds(2, 5)
        assert desk.get(4, LENGTH, CHUNK, 3 * CHUNK) is None
        assert desk.get(4, LENGTH, 2 * CHUNK, 5 * CHUNK) == b"".join(
            chunk_of(4, 1, index) for index in (2, 3, 4)
        )


def test_another_version_has_nothing_and_lets_the_old_one_go(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
    with opened(tmp_path) as desk:
        assert not desk.file(4, LENGTH, version=2).has(0)
        desk.settle()
        assert not parts_of(desk)
        assert desk.get(4, LENGTH) is None


def test_a_restored_volume_starts_anew(tmp_path: Path) -> None:
    """Its data versions may have been counted up anew, over other data."""
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.put(6, LENGTH)
    with opened(tmp_path) as desk:
        assert not desk.file(4, LENGTH, volume=VOLUME._replace(created=2000)).has(0)
        desk.settle()
        assert not parts_of(desk)
    with opened(tmp_path) as desk:
        assert not desk.file(4, LENGTH).has(0), "and it does not come back"


def test_a_released_volume_keeps_what_it_had(tmp_path: Path) -> None:
    released = VolumeInstance("test.afs", 536870916, 1000, True)
    with opened(tmp_path) as desk:
        desk.file(4, CHUNK, volume=released).put(0, [bytearray(chunk_of(4, 1, 0))])
    with opened(tmp_path) as desk:
        assert desk.file(4, CHUNK, volume=released._replace(created=2000)).has(0)
        other = desk.cache.file(released._replace(created=2000), 4, 1, 1, 1_800_000_000, CHUNK)
        assert not other.has(0), "the same version with another time: a restored one, released"
    with opened(tmp_path) as desk:
        assert not desk.file(4, CHUNK, volume=released).has(0), "an earlier one is a restored one"


def test_cells_do_not_meet(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        assert not desk.file(4, LENGTH, volume=VOLUME._replace(cell="other.afs")).has(0)
        assert desk.get(4, LENGTH) is not None


def test_without_a_creation_time_nothing_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        file = desk.cache.file(VOLUME._replace(created=0), 4, 1, 1, 0, LENGTH)
        assert file is NO_FILE
        file.put(0, [bytearray(CHUNK)])
        desk.settle()
        assert not parts_of(desk)


def test_the_least_recently_used_leave_first(tmp_path: Path) -> None:
    size = 1 << 20
    with opened(tmp_path, limit=16 << 20) as desk:
        for vnode in range(2, 22, 2):
            desk.put(vnode, size)
            desk.settle()
        assert desk.get(2, size) is not None  # now it is the youngest
        for vnode in range(102, 110, 2):
            desk.put(vnode, size)
            desk.settle()
        assert desk.get(2, size) == contents(2, 1, size)
        assert desk.get(4, size) is None
        assert desk.get(108, size) is not None
        assert desk.cache.statistics().evicted


@pytest.mark.parametrize("seed", range(3))
def test_the_limit_is_never_passed(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    limit = 16 << 20
    lengths = {vnode: rng.choice((100, 5000, 100_000, 3 << 20)) for vnode in range(2, 2000, 2)}
    for _ in range(2):
        with opened(tmp_path, limit=limit) as desk:
            for step in range(400):
                vnode = rng.choice(list(lengths))
                desk.put(vnode, lengths[vnode])
                if step % 10 == 0:
                    desk.settle(committed=rng.random() < 0.5)
                    assert measure(tmp_path) <= limit
                    assert desk.cache.statistics().used <= limit
            desk.settle()
            assert measure(tmp_path) > limit // 3, "and it is used"


def test_deleted_parts_take_no_room_in_open_files(tmp_path: Path) -> None:
    with opened(tmp_path, limit=16 << 20) as desk:
        for vnode in range(2, 60, 2):
            desk.put(vnode, 1 << 20)
            desk.settle()
            desk.get(vnode, 1 << 20)
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{fd}")]  # fmt: skip
        assert not [
            link for link in links if link.startswith(str(tmp_path)) and link.endswith("(deleted)")
        ]


def test_a_smaller_limit_holds_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        for vnode in range(2, 50, 2):
            desk.put(vnode, 1 << 20)
            desk.settle()
    with opened(tmp_path, limit=16 << 20):
        assert measure(tmp_path) <= 16 << 20


@pytest.mark.parametrize("seed", range(100))
def test_a_wrong_byte_is_noticed(
    tmp_path: Path, seed: int, expected_warnings: ExpectedWarnings
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    expected_warnings("a checksum is wrong: fetched again")
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        (path,) = parts_of(desk)
    place = rng.randrange(LENGTH)
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    with opened(tmp_path) as desk:
        assert desk.get(4, LENGTH) is None
        file_ = desk.file(4, LENGTH)
        wrong = place // CHUNK
        assert [index for index in range(11) if not file_.has(index)] == [wrong]
        assert desk.cache.statistics().damaged == 1
        desk.put(4, LENGTH)  # fetched again
        desk.settle()
        assert desk.get(4, LENGTH) == contents(4, 1, LENGTH)
    with opened(tmp_path) as desk:
        assert desk.get(4, LENGTH) == contents(4, 1, LENGTH)


def test_a_truncated_part_is_noticed(tmp_path: Path, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings(r"it ends after \d+ bytes: fetched again")
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        (path,) = parts_of(desk)
    os.truncate(path, LENGTH - 100)
    with opened(tmp_path) as desk:
        assert desk.get(4, LENGTH, 0, CHUNK) == chunk_of(4, 1, 0)
        assert desk.get(4, LENGTH) is None
        desk.settle()
        assert not path.exists()
        desk.put(4, LENGTH)
        desk.settle()
        assert desk.get(4, LENGTH) == contents(4, 1, LENGTH)


def test_a_deleted_part_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        (path,) = parts_of(desk)
        path.unlink()
        assert desk.get(4, LENGTH) is None
        desk.put(4, LENGTH)
        desk.settle()
        assert desk.get(4, LENGTH) == contents(4, 1, LENGTH)
    parts_of(desk)[0].unlink()
    with opened(tmp_path) as desk:
        assert desk.get(4, LENGTH) is None, "without a word: the index was put right at the start"


def test_parts_do_not_stand_in_for_each_other(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("a checksum is wrong: fetched again")
    with opened(tmp_path) as desk:
        desk.put(4, CHUNK)
        desk.put(6, CHUNK)
        desk.settle()
        one, two = parts_of(desk)
    one.write_bytes(two.read_bytes())
    with opened(tmp_path) as desk:
        assert desk.get(4, CHUNK) is None
        assert desk.get(6, CHUNK) == chunk_of(6, 1, 0)


def test_files_nobody_knows_are_deleted(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        strange = desk.room.parts / "7f" / "1fc00"
    strange.parent.mkdir()
    strange.write_bytes(b"what a killed daemon left")
    (strange.parent / "notes.txt").write_bytes(b"something else")
    with opened(tmp_path) as desk:
        assert not strange.parent.exists()
        assert desk.get(4, LENGTH) == contents(4, 1, LENGTH)


@pytest.mark.parametrize("damage", ["deleted", "garbage", "emptied", "truncated"])
def test_a_lost_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        index = desk.room.index
    match damage:
        case "deleted":
            index.unlink()
        case "garbage":
            index.write_bytes(b"no database at all" * 1000)
        case "emptied":
            index.write_bytes(b"")
        case "truncated":
            os.truncate(index, 5000)
    with opened(tmp_path) as desk:
        assert desk.get(4, LENGTH) is None
        desk.settle()
        assert not parts_of(desk)
        desk.put(4, LENGTH)
        desk.settle()
        assert desk.get(4, LENGTH) == contents(4, 1, LENGTH)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_index_gives_no_wrong_bytes(
    tmp_path: Path, seed: int, expected_warnings: ExpectedWarnings
) -> None:
    """Whatever a broken database says: what is read is right, or fetched again."""
    print(f"seed {seed}")
    expected_warnings("broken, no disk is used from now on|fetched again|nothing is cached on disk")
    rng = random.Random(seed)
    files = {vnode: rng.choice((100, CHUNK, LENGTH)) for vnode in range(2, 100, 2)}
    with opened(tmp_path) as desk:
        for vnode, length in files.items():
            desk.put(vnode, length)
        desk.settle()
        index = desk.room.index
    data = bytearray(index.read_bytes())
    for _ in range(rng.choice((1, 10, 300))):
        data[rng.randrange(100, len(data))] ^= 1 << rng.randrange(8)
    index.write_bytes(data)
    for _ in range(2):
        with opened(tmp_path) as desk:
            for vnode, length in files.items():
                file = desk.cache.file(VOLUME, vnode, 1, 1, 0, length)
                read = file.peek(0, length)
                assert read is None or read == contents(vnode, 1, length)


def test_another_chunk_size_starts_anew(tmp_path: Path) -> None:
    from afsfuse.cache.disk.index import Index

    with opened(tmp_path) as desk:
        desk.put(4, LENGTH)
        desk.settle()
        path = desk.room.index
    index = Index(path, CHUNK * 2)
    assert index.last_numbers == (0, 0, 0)
    index.close()


def test_a_version_of_our_own_keeps_what_has_not_changed(tmp_path: Path) -> None:
    length = 3 * PART_SIZE + 5
    with opened(tmp_path) as desk:
        desk.put(4, length)
        desk.settle()
        old = desk.file(4, length)
        new = old.moved(2, length, length + CHUNK, [(PART_SIZE + 7, PART_SIZE + 9)])
        assert new is desk.file(4, length + CHUNK, version=2)
        assert not old.has(0)
        whole = contents(4, 1, length)
        for place, there in enumerate((True, False, True, False)):
            start = place * PART_SIZE
            read = new.peek(start, min(start + 100, length))
            assert (read is not None) is there
            assert read is None or bytes(read) == whole[start : start + 100]
        new.put(PART_SIZE >> 15, [bytearray(CHUNK)])
        desk.settle()
        assert len(parts_of(desk)) == 3
        counted = desk.cache.budget.parts
    with opened(tmp_path) as desk:
        new = desk.file(4, length + CHUNK, version=2)
        assert bytes(new.peek(0, 1 << 20) or b"") == whole[: 1 << 20]
        assert bytes(new.peek(PART_SIZE, PART_SIZE + CHUNK) or b"") == bytes(CHUNK)
        assert desk.cache.budget.parts == counted


def test_what_is_under_way_to_an_old_version_does_not_reach_the_new_one(tmp_path: Path) -> None:
    length = 2 * PART_SIZE
    with opened(tmp_path) as desk:
        with desk.held():
            desk.put(4, length)
            middle = desk.file(4, length).moved(2, length, length, [(0, 1)])
            newest = middle.moved(3, length, length, [(1, 2)])
        desk.settle()
        assert not newest.has(0)
        assert not parts_of(desk)
        newest.put(0, [bytearray(CHUNK)])
        desk.settle()
        assert bytes(newest.peek(0, CHUNK) or b"") == bytes(CHUNK)


def test_a_file_that_was_cut_keeps_the_parts_before(tmp_path: Path) -> None:
    length = 3 * PART_SIZE
    with opened(tmp_path) as desk:
        desk.put(4, length)
        desk.settle()
        new = desk.file(4, length).moved(2, PART_SIZE + 1, length, [])
        desk.settle()
        shift = PART_SIZE // CHUNK
        assert [new.has(place * shift) for place in range(3)] == [True, False, False]


def test_parts_evicted_before_they_are_adopted_are_gone(tmp_path: Path) -> None:
    with opened(tmp_path, limit=20 << 20) as desk:
        desk.put(4, PART_SIZE)
        desk.settle()
        with desk.held():
            desk.put(6, PART_SIZE)
            desk.put(8, PART_SIZE)
            new = desk.file(4, PART_SIZE).moved(2, PART_SIZE, PART_SIZE, [])
            assert new.has(0)
        desk.settle()
        assert not new.has(0)
        assert desk.get(8, PART_SIZE) == contents(8, 1, PART_SIZE)
        counted = desk.cache.budget.parts
        assert len(parts_of(desk)) == 2
    with opened(tmp_path, limit=20 << 20) as desk:
        assert desk.cache.budget.parts == counted


def test_what_is_dropped_is_there_no_more_and_may_come_again(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        for vnode in (4, 6):
            desk.put(vnode, BIG)
        desk.settle()
        desk.file(4, BIG).drop()
        assert desk.get(4, BIG) is None
        assert desk.get(6, BIG) == contents(6, 1, BIG)
        desk.settle()
        assert len(parts_of(desk)) == 2
        desk.put(4, BIG)
        desk.settle()
        assert desk.get(4, BIG) == contents(4, 1, BIG)


def test_a_smaller_limit_is_kept_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        for vnode in (4, 6, 8):
            desk.put(vnode, PART_SIZE)
            desk.settle()
        desk.cache.resize(20 << 20)
        desk.settle()
        assert desk.cache.statistics().limit == 20 << 20
        assert desk.cache.statistics().used <= 20 << 20
        assert desk.get(8, PART_SIZE) == contents(8, 1, PART_SIZE)
