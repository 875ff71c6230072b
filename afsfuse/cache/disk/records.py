"""Records of the journal: what they look like in a file, and how they are read back.

A record is a header and data. The header has a checksum of its own and one of the data, so that a
record is either whole or not there: a process that is killed leaves at most the last one torn.
Headers are changed in place when a record counts no more; so that this, too, is done or not done,
no header lies on two pages.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.cache.journal import Buffer

_MAGIC = b"AFJ1"
_HEADER = struct.Struct("<4sB3xQQQII")
_SUM = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _SUM.size
PAGE = 4096


class Kind(enum.IntEnum):
    """What a record says; what `first` and `second` are is told in brackets."""

    OPENED = 1  # a session: one file changed in one name until it is clean (version, length)
    WRITTEN = 2  # bytes (offset; where they end, if the file was cut since)
    CUT = 3  # the file has become shorter (length)
    GROWN = 4  # ... or longer, without data (length)
    CLEAN = 5  # was OPENED: the session is over, or not to be recovered
    DEAD = 6  # was another one, and is on the server
    MOVED = 7  # the file is at another path, which is the data, as JSON


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read."""

    position: int
    """Of its header, in the file."""
    kind: Kind
    session: int
    first: int
    second: int
    data: memoryview
    sound: bool
    """Whether the data is what was written."""


def header(kind: Kind, session: int, first: int, second: int, data: Buffer) -> bytes:
    """The bytes before some data."""
    packed = _HEADER.pack(_MAGIC, kind, session, first, second, len(data), zlib.crc32(data))
    return packed + _SUM.pack(zlib.crc32(packed))


def changed(
    head: bytes, kind: Kind | None = None, first: int | None = None, second: int | None = None
) -> bytes:
    """Another header in the place of one, with the same data; `ValueError` if it is none."""
    if (fields := _fields(memoryview(head), 0)) is None:
        raise ValueError("no record begins here")
    known, session, old_first, old_second, size, data_sum = fields
    packed = _HEADER.pack(
        _MAGIC,
        known if kind is None else kind,
        session,
        old_first if first is None else first,
        old_second if second is None else second,
        size,
        data_sum,
    )
    return packed + _SUM.pack(zlib.crc32(packed))


def place_for_header(position: int) -> int:
    """Where the next header lies: here, or on the next page if it would lie on both."""
    left = PAGE - position % PAGE
    return position if left >= HEADER_SIZE else position + left


def size_of(head: bytes) -> int:
    """How many bytes of data the beginning of a record announces; -1 if it is none."""
    fields = _fields(memoryview(head), 0)
    return -1 if fields is None else fields[4]


def records(content: memoryview, base: int = 0) -> Iterator[Record]:
    """The records of a file, up to its end or to the first one that is torn.

    `base`: where in the file `content` begins.
    """
    position = place_for_header(base) - base
    while (fields := _fields(content, position)) is not None:
        kind, session, first, second, size, data_sum = fields
        start = position + HEADER_SIZE
        if start + size > len(content):
            return
        data = content[start : start + size]
        sound = zlib.crc32(data) == data_sum
        yield Record(base + position, Kind(kind), session, first, second, data, sound)
        position = place_for_header(base + start + size) - base


def has_more(content: memoryview, position: int) -> bool:
    """Whether a record begins anywhere behind the place where the records of a file ended.

    Then it was no kill that tore the last one: something in the middle was damaged.
    """
    rest = bytes(content[position:])
    found = rest.find(_MAGIC)
    while found >= 0:
        if _fields(content, position + found) is not None:
            return True
        found = rest.find(_MAGIC, found + 1)
    return False


def _fields(content: memoryview, position: int) -> tuple[int, int, int, int, int, int] | None:
    """What a header says after its first word; None where there is none."""
    if position + HEADER_SIZE > len(content):
        return None
    packed = content[position : position + _HEADER.size]
    (own_sum,) = _SUM.unpack_from(content, position + _HEADER.size)
    magic, kind, *fields = _HEADER.unpack(packed)
    if magic != _MAGIC or own_sum != zlib.crc32(packed) or kind not in _KINDS:
        return None
    session, first, second, size, data_sum = fields
    return kind, session, first, second, size, data_sum


_KINDS = frozenset(int(kind) for kind in Kind)
