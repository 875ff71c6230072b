"""Parsing of directory blobs: what is accepted, found, listed, compared and refused."""

from __future__ import annotations

import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afsfuse.cache.directories import MAX_SIZE, Directory, DirectoryEntry
from afsfuse.errors import DataCorrupt
from tests.unit.afsfuse.cache.blobs import BLOB, PAGE, DirectoryBuilder, directory_blob, many

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)


def test_an_empty_directory_has_its_two_dots() -> None:
    directory = Directory.parse(DirectoryBuilder((5, 7), (1, 1)).blob(), 3)
    assert list(directory) == [DirectoryEntry(13, b".", 5, 7), DirectoryEntry(14, b"..", 1, 1)]
    assert directory.find(b".") == (5, 7)
    assert len(directory) == 2
    assert directory.data_version == 3


def test_names_are_found_and_others_are_not() -> None:
    directory = Directory.parse(directory_blob(many(500)))
    assert directory.find(b"file000123") == (250, 133)
    assert directory.find(b"file000500") is None
    assert b"file000499" in directory
    assert b"" not in directory
    assert len(directory) == 502
    assert directory.names() >= {b".", b"..", b"file000000"}


@settings(max_examples=60)
@given(st.lists(NAMES, unique=True, max_size=150))
def test_what_was_built_is_parsed(names: list[bytes]) -> None:
    entries = [(name, 2 * n + 2, n + 1) for n, name in enumerate(names)]
    builder = DirectoryBuilder()
    for entry in entries:
        builder.add(*entry)
    directory = Directory.parse(builder.blob())
    listed = [(e.name, e.vnode, e.unique) for e in directory][2:]
    assert listed == sorted(entries, key=lambda entry: builder.slots[entry[0]])
    assert all(directory.find(name) == (vnode, unique) for name, vnode, unique in entries)
    assert all(entry.slot == builder.slots[entry.name] for entry in directory)


@pytest.mark.parametrize("length", [1, 15, 16, 47, 48, 79, 80, 239, 240, 255])
def test_names_of_every_number_of_blobs(length: int) -> None:
    entries = [(bytes([65 + n]) * length, 2 + 2 * n, 1) for n in range(20)]
    directory = Directory.parse(directory_blob(entries))
    assert [(e.name, e.vnode, e.unique) for e in directory][2:] == entries


def test_a_listing_can_be_continued_after_changes() -> None:
    builder = DirectoryBuilder()
    for entry in many(200):
        builder.add(*entry)
    before = list(Directory.parse(builder.blob()))
    stopped_at = before[100]
    for gone in (b"file000010", stopped_at.name, b"file000150"):
        builder.remove(gone)
    after = Directory.parse(builder.blob())
    rest = list(after.entries_from(stopped_at.slot + 1))
    assert rest == [e for e in before[101:] if e.name != b"file000150"]
    assert list(after.entries_from(70_000)) == []


def test_differences_are_exactly_what_changed() -> None:
    builder = DirectoryBuilder()
    for entry in many(300):
        builder.add(*entry)
    old = Directory.parse(builder.blob())
    builder.remove(b"file000017")
    builder.remove(b"file000200")
    builder.add(b"file000200", 999, 999)  # another file under the old name
    builder.add(b"a name that is new and needs three blobs in all", 1000, 1)
    new = Directory.parse(builder.blob())
    changed = {b"file000017", b"file000200", b"a name that is new and needs three blobs in all"}
    assert old.diff(new) == changed
    assert new.diff(old) == changed
    assert old.diff(old) == set()


def test_a_name_that_only_moved_is_no_difference() -> None:
    one, two = DirectoryBuilder(), DirectoryBuilder()
    one.add(b"first", 2, 1)
    one.add(b"second", 4, 1)
    two.add(b"second", 4, 1)
    two.add(b"first", 2, 1)
    assert Directory.parse(one.blob()).diff(Directory.parse(two.blob())) == set()


def test_a_directory_that_lost_its_last_pages() -> None:
    old = Directory.parse(directory_blob(many(300)))
    new = Directory.parse(directory_blob(many(10)))
    assert len(old.diff(new)) == 290
    assert old.diff(new) == new.diff(old)


def test_the_format_s_limit_is_accepted() -> None:
    full = list(many(1023 * 63 - 14))
    directory = Directory.parse(directory_blob(full))
    assert len(directory) == 64_437
    assert directory.find(full[-1][0]) == full[-1][1:]


def test_sixty_thousand_names_in_twelve_mebibytes() -> None:
    blob = directory_blob(many(60_000))
    tracemalloc.start()
    try:
        directory = Directory.parse(bytes(bytearray(blob)))
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 12 << 20
    assert 0.8 < directory.cost / size < 1.4


def test_an_old_header_without_page_count() -> None:
    blob = bytearray(directory_blob(many(300)))
    struct.pack_into("!H", blob, 0, 0)
    assert len(Directory.parse(bytes(blob))) == 302


def _patch(
    offset: int, data: bytes, offset2: int = 0, data2: bytes = b""
) -> Callable[[bytearray], None]:
    def patch(blob: bytearray) -> None:
        blob[offset : offset + len(data)] = data
        blob[offset2 : offset2 + len(data2)] = data2

    return patch


FIRST = 15 * BLOB  # the first entry after the dots
DAMAGE: dict[str, Callable[[bytearray], None]] = {
    "tag of the first page": _patch(2, b"\x04\xd3"),
    "tag of a later page": _patch(2 * PAGE + 2, b"\0\0"),
    "page count too high": _patch(0, b"\0\x09"),
    "page count too low": _patch(0, b"\0\x01"),
    "free count": _patch(BLOB + 1, b"\x05"),
    "page behind the end in use": _patch(BLOB + 100, b"\x3f"),
    "header blobs not in use": _patch(5, b"\xfe"),
    "header blobs not in use, as counted": _patch(5, b"\xfe", BLOB, b"\x01"),
    "blob in use that holds nothing": _patch(4 * PAGE + 5 + 7, b"\xff"),
    "entry without its flag": _patch(FIRST, b"\x02"),
    "entry marked as free": _patch(5 + 1, b"\x7f"),
    "empty name": _patch(FIRST + 12, b"\0"),
    "slash in a name": _patch(FIRST + 14, b"/"),
    "dot in the wrong place": _patch(FIRST + 12, b".\0"),
    "dot with another name": _patch(13 * BLOB + 12, b"x\0"),
    "name twice": _patch(FIRST + BLOB + 12, b"file000000\0"),
    "vnode 0": _patch(FIRST + 4, bytes(4)),
    "name over its blobs": _patch(4 * PAGE + 62 * BLOB + 12, b"a name longer than one blob\0"),
    "name without end on its page": _patch(2 * PAGE - BLOB + 12, b"x" * 20),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_refused(damage: Callable[[bytearray], None]) -> None:
    blob = bytearray(directory_blob(many(300)))
    damage(blob)
    with pytest.raises(DataCorrupt, match="directory: "):
        Directory.parse(bytes(blob))


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE + 1, 5 * PAGE - 1, MAX_SIZE + PAGE])
def test_sizes_that_cannot_be(size: int) -> None:
    blob = directory_blob(many(300))
    with pytest.raises(DataCorrupt):
        Directory.parse((blob + bytes(MAX_SIZE))[:size])


def test_a_short_blob_is_no_empty_directory() -> None:
    with pytest.raises(DataCorrupt):
        Directory.parse(directory_blob(many(300))[:PAGE])
    with pytest.raises(DataCorrupt):
        Directory.parse(bytes(PAGE))


def test_hash_chains_are_not_followed() -> None:
    blob = bytearray(directory_blob(many(100)))
    for bucket in range(128):  # every bucket leads to one entry, and that one to itself
        struct.pack_into("!H", blob, 160 + 2 * bucket, 15)
    struct.pack_into("!H", blob, FIRST + 2, 15)
    assert len(Directory.parse(bytes(blob))) == 102


# Edits


def meaning(blob: bytes) -> tuple[bytes, list[bytes], list[DirectoryEntry]]:
    """Map, headers and entries: all but the hash chains and remains of old names."""
    headers = [blob[at : at + 13] for at in range(0, len(blob), PAGE)]
    return blob[BLOB : BLOB + 128], headers, list(Directory.parse(blob))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(NAMES, unique=True, min_size=1, max_size=60),
    st.lists(st.tuples(st.booleans(), st.integers(0, 59)), max_size=300),
)
def test_edits_put_entries_where_servers_put_them(
    names: list[bytes], steps: list[tuple[bool, int]]
) -> None:
    builder = DirectoryBuilder((5, 7), (1, 1))
    directory = Directory.parse(builder.blob())
    for number, (adding, index) in enumerate(steps):
        name = names[index % len(names)]
        there = name in directory
        if adding:
            assert directory.add(name, 2 * number + 2, number) is not there
            if not there:
                builder.add(name, 2 * number + 2, number)
        else:
            assert directory.remove(name) is there
            if there:
                builder.remove(name)
    copy = directory.snapshot()
    assert meaning(copy) == meaning(builder.blob())
    assert list(directory) == list(Directory.parse(builder.blob()))
    assert not directory.diff(Directory.parse(builder.blob()))
    for name in names:
        assert (name in directory) == (name in builder.slots)


def test_a_large_directory_is_edited_beyond_the_map() -> None:
    builder = DirectoryBuilder()
    for entry in many(9_000):
        builder.add(*entry)
    directory = Directory.parse(builder.blob())
    for number in (0, 8_999, 4_000, 4_001, 8_500):
        directory.remove(b"file%06d" % number)
        builder.remove(b"file%06d" % number)
    for name in (b"short", b"x" * 40, b"y" * 255, b"another"):
        directory.add(name, 2, 2)
        builder.add(name, 2, 2)
    assert meaning(directory.snapshot()) == meaning(builder.blob())


def test_a_directory_that_is_full_takes_no_more() -> None:
    directory = Directory.empty((3, 1), (1, 1), 0)
    added = 0
    while directory.add(b"%06d" % added, 2 * added + 2, 1):
        added += 1
    assert added == 51 - 2 + 1_022 * 63 == 64_435
    assert directory.length == MAX_SIZE
    assert len(directory) == added + 2
    assert directory.remove(b"000007")
    assert not directory.add(b"x" * 16, 2, 1)
    assert directory.add(b"again", 2, 1)


def test_an_empty_directory_is_what_a_server_makes() -> None:
    directory = Directory.empty((5, 7), (3, 4), 9)
    assert meaning(directory.snapshot()) == meaning(DirectoryBuilder((5, 7), (3, 4)).blob())
    assert directory.data_version == 9


def test_a_listing_goes_on_at_its_slot_after_edits() -> None:
    directory = Directory.parse(directory_blob(many(200)))
    entries = list(directory)
    middle = entries[100].slot + 1
    directory.remove(entries[100].name)
    directory.remove(entries[150].name)
    directory.add(b"new", 2, 2)  # into the gap before the place where the listing stands
    rest = [entry.name for entry in directory.entries_from(middle)]
    assert rest == [entry.name for entry in entries[101:] if entry != entries[150]]


def test_what_was_parsed_is_not_touched_by_edits_of_the_copy() -> None:
    blob = directory_blob(many(10))
    before = bytes(blob)
    directory = Directory.parse(blob)
    directory.add(b"new", 2, 2)
    assert blob == before
