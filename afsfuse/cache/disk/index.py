"""The index: which bytes of which version of which file are in which part, in SQLite.

A row says nothing before its part's bytes are written, so a process that is killed at any moment
loses rows, and never has one that promises too much. A row carries a checksum of itself, and is
ignored if that is wrong. In WAL mode with `synchronous=NORMAL` the database survives a loss of
power, too, perhaps without its last transactions. Source: https://www.sqlite.org/pragma.html

Two connections: one that only reads, for the thread of the event loop, and one that writes, for
the thread that writes. Readers never wait for the writer.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_APPLICATION = 0x61667363  # "afsc"
_FORMAT = 2  # 1: may have bytes of one version under the next (`ChunkStore.advance`)
_SCHEMA = """
CREATE TABLE settings (chunk_size INTEGER NOT NULL);
CREATE TABLE volumes (
    instance INTEGER PRIMARY KEY,
    cell TEXT NOT NULL,
    volume INTEGER NOT NULL,
    created INTEGER NOT NULL,
    own_sum INTEGER NOT NULL,
    UNIQUE (cell, volume)
);
CREATE TABLE parts (
    number INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    vnode INTEGER NOT NULL,
    uniq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    length INTEGER NOT NULL,
    place INTEGER NOT NULL,
    size INTEGER NOT NULL,
    used INTEGER NOT NULL,
    sums BLOB NOT NULL,
    own_sum INTEGER NOT NULL
);
CREATE INDEX parts_by_file ON parts (instance, vnode, uniq);
CREATE INDEX parts_by_use ON parts (used);
"""
_HIGHEST = 2**62  # number that anything can have come to; SQLite's integers end at 2**63
_SUFFIXES = ("", "-wal", "-shm")
BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a damaged database raises; SQLite's messages can quote it."""


class FileKey(NamedTuple):
    """One version of one file. Data versions mean something within one instance of a volume."""

    instance: int  # of the volume; see `Index.volume`
    vnode: int
    unique: int
    version: int
    stamp: int  # more that must be the same, where versions alone do not tell enough
    length: int  # bytes


class PartRow(NamedTuple):
    """What the index says of a part."""

    number: int  # also the name of its file
    key: FileKey
    place: int  # which part of the file it is
    size: int  # bytes of disk
    used: int  # logical time of the last use
    sums: bytes  # of its chunks, 4 bytes each; 0: not there

    def own_sum(self) -> int:
        """A checksum of everything that must be right; sizes are looked at when we start."""
        return zlib.crc32(self.sums, _sum_of(self.number, *self.key, self.place))


def _sum_of(*said: object) -> int:
    """A checksum of a row: SQLite has none."""
    return zlib.crc32(repr(said).encode())


class Index:
    """The two connections, and what is asked on them."""

    def __init__(self, path: Path, chunk_size: int) -> None:
        """Open the database, or make it: also anew, if it is none or has another chunk size.

        Raises `sqlite3.Error` or `OSError` if none can be made.
        """
        self._path = path
        self.writing: sqlite3.Cursor | None = None
        try:
            self._open(chunk_size)
        except (*BROKEN, TypeError, ValueError):  # what it says may make no sense at all
            self.remove()
            self._open(chunk_size)

    def _open(self, chunk_size: int) -> None:
        self._prepare(chunk_size)
        # One cursor for all: a connection remembers each that it ever gave away, 200 at a time.
        self._reading = sqlite3.connect(self._path, timeout=0, isolation_level=None).cursor()
        self._reading.execute("PRAGMA query_only=ON")
        self._reading.execute("PRAGMA cache_size=-1024")
        self.last_numbers = self._last_numbers()
        """The highest instance, part and time of use that were given out."""

    def _prepare(self, chunk_size: int) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            (form,) = database.execute("PRAGMA user_version").fetchone()
            if form == 0:
                database.executescript(
                    f"BEGIN;{_SCHEMA}INSERT INTO settings VALUES ({chunk_size});"
                    f"PRAGMA application_id={_APPLICATION};PRAGMA user_version={_FORMAT};COMMIT"
                )
            row = database.execute("SELECT chunk_size FROM settings").fetchone()
            if form not in (0, _FORMAT) or row != (chunk_size,):
                raise sqlite3.DatabaseError("of another format or chunk size")

    def remove(self) -> None:
        """Delete the database."""
        for suffix in _SUFFIXES:
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of disk that the database takes."""
        total = 0
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                total += self._path.with_name(self._path.name + suffix).stat().st_blocks * 512
        return total

    def close(self) -> None:
        """Close the reading connection, in the thread that opened it."""
        self._reading.connection.close()

    # In the thread of the event loop

    def _last_numbers(self) -> tuple[int, int, int]:
        """Raises `ValueError` or `TypeError` if they are none after which others can come."""
        ask = self._reading.execute
        (instance,) = ask("SELECT max(instance) FROM volumes").fetchone()
        # A row of a volume may be damaged: never give the number away under which parts are kept.
        (used_by_parts,) = ask("SELECT max(instance) FROM parts").fetchone()
        (number,) = ask("SELECT max(number) FROM parts").fetchone()
        (used,) = ask("SELECT max(used) FROM parts").fetchone()
        last = max(int(instance or 0), int(used_by_parts or 0)), int(number or 0), int(used or 0)
        if not all(0 <= one <= _HIGHEST for one in last):
            raise ValueError(f"numbers that nothing was given: {last}")
        return last

    def instance(self, cell: str, volume: int) -> tuple[int, int] | None:
        """Instance and creation time of a volume; None if there is no sound row."""
        row = self._reading.execute(
            "SELECT instance, created, own_sum FROM volumes WHERE cell=? AND volume=?",
            (cell, volume),
        ).fetchone()
        if row is None or row[2] != _sum_of(row[0], cell, volume, row[1]):
            return None
        return row[0], row[1]

    def shrink_reading(self) -> None:
        """Keep no pages of the database in memory that could be read again."""
        self._reading.execute("PRAGMA shrink_memory")

    def file(self, instance: int, vnode: int, unique: int) -> list[tuple[int, FileKey, int]]:
        """Number, version and place of each part of a file, in whatever version; -1: no place."""
        rows = self._reading.execute(
            "SELECT number, version, stamp, length, place FROM parts"
            " WHERE instance=? AND vnode=? AND uniq=?",
            (instance, vnode, unique),
        ).fetchall()
        return [
            (
                number,
                FileKey(instance, vnode, unique, version, stamp, length),
                place if isinstance(place, int) else -1,
            )
            for number, version, stamp, length, place in rows
        ]

    def part(self, number: int) -> PartRow | None:
        """One row; None if there is none, or none that is sound."""
        found = list(_rows(self._reading, "WHERE number=?", (number,)))
        return found[0] if found else None

    # In the thread that writes

    def open_for_writing(self) -> None:
        """Connect. Nothing is in the database for good before `commit`."""
        self.writing = sqlite3.connect(self._path, timeout=5, isolation_level=None).cursor()
        for pragma in ("synchronous=NORMAL", "wal_autocheckpoint=256", "cache_size=-4096"):
            self.writing.execute(f"PRAGMA {pragma}")
        self.writing.execute(f"PRAGMA journal_size_limit={1 << 20}")

    def _writer(self) -> sqlite3.Cursor:
        assert self.writing is not None
        if not self.writing.connection.in_transaction:
            self.writing.execute("BEGIN IMMEDIATE")
        return self.writing

    def numbers(self) -> dict[int, int]:
        """Every part and its size, which may be nonsense, but is a number."""
        rows = self._writer().execute("SELECT number, CAST(size AS INTEGER) FROM parts")
        return dict(rows.fetchall())

    def resize(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Put sizes right: pairs of size and number."""
        self._writer().executemany("UPDATE parts SET size=? WHERE number=?", sizes)

    def add_volume(self, instance: int, cell: str, volume: int, created: int) -> None:
        """Enter an instance of a volume; what was known of an earlier one is forgotten."""
        self._writer().execute(
            "INSERT OR REPLACE INTO volumes VALUES (?, ?, ?, ?, ?)",
            (instance, cell, volume, created, _sum_of(instance, cell, volume, created)),
        )

    def parts_of(self, instance: int) -> list[PartRow]:
        """All parts of an instance of a volume."""
        return list(_rows(self._writer(), "WHERE instance=?", (instance,)))

    def rows_of(self, numbers: Iterable[int]) -> list[PartRow]:
        """Parts by their numbers."""
        return [
            row for number in numbers for row in _rows(self._writer(), "WHERE number=?", (number,))
        ]

    def oldest(self, count: int) -> list[PartRow]:
        """The parts that were not used for longest."""
        return list(_rows(self._writer(), "ORDER BY used LIMIT ?", (count,)))

    def put(self, rows: Iterable[PartRow]) -> None:
        """Enter parts, or replace what was said of them."""
        self._writer().executemany(
            "INSERT OR REPLACE INTO parts VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (row.number, *row.key, row.place, row.size, row.used, row.sums, row.own_sum())
                for row in rows
            ],
        )

    def touch(self, used: Iterable[tuple[int, int]]) -> None:
        """Note times of use: pairs of time and number."""
        self._writer().executemany("UPDATE parts SET used=? WHERE number=?", used)

    def delete(self, numbers: Iterable[int]) -> None:
        """Forget parts."""
        self._writer().executemany(
            "DELETE FROM parts WHERE number=?", [(number,) for number in numbers]
        )

    def commit(self) -> None:
        """End the transaction: now a killed process leaves it behind."""
        if self.writing is not None and self.writing.connection.in_transaction:
            self.writing.execute("COMMIT")

    def roll_back(self) -> None:
        """Give the transaction up."""
        if self.writing is not None and self.writing.connection.in_transaction:
            self.writing.execute("ROLLBACK")

    def shrink_writing(self) -> None:
        """The same as `shrink_reading`, for the other connection."""
        if self.writing is not None:
            self.writing.execute("PRAGMA shrink_memory")

    def close_for_writing(self) -> None:
        """Close the writing connection."""
        if self.writing is not None:
            self.writing.connection.close()
            self.writing = None


def _rows(database: sqlite3.Cursor, which: str, values: tuple[int, ...]) -> Iterator[PartRow]:
    """Sound rows of parts. Of others only the number is told, with nothing in them."""
    for (
        number,
        instance,
        vnode,
        unique,
        version,
        stamp,
        length,
        place,
        size,
        used,
        sums,
        own,
    ) in database.execute(f"SELECT * FROM parts {which}", values).fetchall():
        key = FileKey(instance, vnode, unique, version, stamp, length)
        row = PartRow(number, key, place, size if isinstance(size, int) else 0, used, sums)
        sound = isinstance(sums, bytes) and row.own_sum() == own
        yield row if sound else row._replace(sums=b"")
