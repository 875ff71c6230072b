"""Which records of the journal are of no use any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.cache.disk.segments import Segment, dead_spans

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=12)


@given(SPANS, st.integers(0, 20), st.integers(0, 20), st.integers(0, 12))
def test_what_is_left_laid_over_what_is_stored_is_the_file(
    said: list[tuple[int, int]], start: int, size: int, mark: int
) -> None:
    """By a model: each record writes its token. The server has the range as it was at the mark."""
    end = start + size
    spans = [(first, first + length, token) for token, (first, length) in enumerate(said)]
    wanted, server = [-1] * 40, [-1] * 40
    for first, last, token in spans:
        wanted[first:last] = [token] * (last - first)
        if token < mark:
            for place in range(max(first, start), min(last, end)):
                server[place] = token
    dead = dead_spans(list(reversed(spans)), start, end, mark)
    for span in spans:
        if span not in dead:
            first, last, token = span
            server[first:last] = [token] * (last - first)
    assert server == wanted


@pytest.mark.parametrize("mark", [0, 1])
def test_only_what_was_there_at_the_mark_is_dead(mark: int) -> None:
    assert dead_spans([(0, 10, 0)], 0, 10, mark) == ({(0, 10, 0)} if mark else set())


def test_a_header_that_cannot_be_changed_is_told_of(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("cannot be kept up to date at 0: no record begins here")
    segment = Segment(1, tmp_path / "1", 4096)
    segment.change(0, first=1)
    segment.close()
