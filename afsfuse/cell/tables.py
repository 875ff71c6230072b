"""Tables that were large once: a dictionary never gives room back by itself."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

T = TypeVar("T", bound="dict[Any, Any]")

_SPARSE_BYTES = 1 << 14  # not worth a copy
_SPARSE_ENTRY = 400  # bytes an entry; a full dictionary has 40 to 120, an ordered one twice that


def is_sparse(table: dict[Any, Any]) -> bool:
    """Whether a dictionary has much more room than it needs."""
    return sys.getsizeof(table) > _SPARSE_BYTES + _SPARSE_ENTRY * len(table)


def compacted(table: T) -> T:
    """A copy with little room, in the same order, if a table is sparse; else the table itself.

    Of a class that is made without arguments, as all of Python's are but `defaultdict`.
    """
    if not is_sparse(table):
        return table
    copy = type(table)()
    for key, value in table.items():
        copy[key] = value
    return copy
