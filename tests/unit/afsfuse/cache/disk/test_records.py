"""Records of the journal: whole, or not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.cache.disk.records import (
    HEADER_SIZE,
    PAGE,
    Kind,
    changed,
    header,
    place_for_header,
    records,
    size_of,
)

WORDS = st.integers(0, 2**64 - 1)
RECORDS = st.lists(st.tuples(st.sampled_from(Kind), WORDS, WORDS, WORDS, st.binary(max_size=3000)))


def packed(kind: Kind, session: int, first: int, second: int, data: bytes) -> bytes:
    return header(kind, session, first, second, data) + data


def written(said: list[tuple[Kind, int, int, int, bytes]]) -> bytes:
    content = bytearray()
    for one in said:
        content.extend(bytes(place_for_header(len(content)) - len(content)))
        assert len(content) % PAGE <= PAGE - HEADER_SIZE
        content += packed(*one)
    return bytes(content)


@given(RECORDS)
def test_what_is_written_is_read(said: list[tuple[Kind, int, int, int, bytes]]) -> None:
    content = written(said)
    found = [(r.kind, r.session, r.first, r.second, bytes(r.data))
             for r in records(memoryview(content)) if r.sound]  # fmt: skip
    assert found == said


@given(RECORDS, st.integers(0, 10_000))
def test_what_is_torn_is_not_there(said: list[tuple[Kind, int, int, int, bytes]], cut: int) -> None:
    content = written(said)[:cut]
    found = list(records(memoryview(content)))
    assert all(record.sound for record in found)
    assert [r.session for r in found] == [one[1] for one in said[: len(found)]]
    assert sum(HEADER_SIZE + len(r.data) for r in found) <= len(content)


def test_data_that_has_changed_is_not_sound() -> None:
    content = bytearray(packed(Kind.WRITTEN, 1, 2, 3, b"data") + packed(Kind.CLEAN, 1, 0, 0, b""))
    content[HEADER_SIZE] ^= 1
    assert [record.sound for record in records(memoryview(content))] == [False, True]


@pytest.mark.parametrize("byte", range(HEADER_SIZE))
def test_a_header_that_has_changed_ends_the_file(byte: int) -> None:
    content = bytearray(packed(Kind.WRITTEN, 1, 2, 3, b"data") + packed(Kind.CLEAN, 1, 0, 0, b""))
    content[byte] ^= 1
    assert not list(records(memoryview(content)))


def test_a_beginning_can_be_written_over() -> None:
    content = bytearray(packed(Kind.OPENED, 7, 1, 2, b"some words"))
    assert size_of(bytes(content)) == 10
    content[:HEADER_SIZE] = changed(bytes(content), Kind.CLEAN)
    (record,) = records(memoryview(content))
    assert (record.kind, record.session, record.sound) == (Kind.CLEAN, 7, True)
    assert (record.first, record.second) == (1, 2)
    content[:HEADER_SIZE] = changed(bytes(content), first=3, second=4)
    (record,) = records(memoryview(content))
    assert (record.kind, record.first, record.second) == (Kind.CLEAN, 3, 4)
    with pytest.raises(ValueError, match="no record"):
        changed(bytes(HEADER_SIZE))


@given(st.binary(max_size=300))
def test_garbage_is_nothing(content: bytes) -> None:
    assert not list(records(memoryview(content)))
