"""Tables that were large once."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from typing import Any

import pytest

from afsfuse.cell.tables import compacted, is_sparse


@pytest.mark.parametrize("kind", [dict, OrderedDict, Counter])
def test_room_is_given_back(kind: Any) -> None:
    table = kind()
    for number in range(10_000):
        table[number] = number + 1
    assert not is_sparse(table)
    assert compacted(table) is table
    for number in range(3, 10_000):
        del table[number]
    assert is_sparse(table)
    small = compacted(table)
    assert type(small) is kind
    assert list(small.items()) == [(0, 1), (1, 2), (2, 3)]
    assert sys.getsizeof(small) * 100 < sys.getsizeof(table)
    assert not is_sparse(small)


def test_what_is_small_is_left() -> None:
    table = dict.fromkeys(range(100))
    for number in range(100):
        del table[number]
    assert compacted(table) is table
