"""Builds directory blobs the way a file server lays them out: the twin of `Directory.parse`."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = 2048
BLOB = 32


def blobs_for(name: bytes) -> int:
    """Blobs that an entry of this name takes."""
    return 1 + ((len(name) + 16) >> 5)


def name_hash(name: bytes) -> int:
    """The hash bucket of a name. Source: afs_dir_DirHash in dir.c."""
    value = 0
    for byte in name:
        value = (value * 173 + byte) & 0xFFFFFFFF
    bucket = value & 127
    return 128 - bucket if bucket and value >= 1 << 31 else bucket


class DirectoryBuilder:
    """A directory under construction. Entries keep their slots when others are removed."""

    def __init__(self, me: tuple[int, int] = (1, 1), parent: tuple[int, int] = (1, 1)) -> None:
        self.pages = [bytearray(PAGE)]
        self._start_page(0, 13)
        self.slots: dict[bytes, int] = {}
        self.add(b".", *me)
        self.add(b"..", *parent)

    def _start_page(self, page: int, reserved: int) -> None:
        struct.pack_into("!HHB", self.pages[page], 0, 0, 1234, 64 - reserved)
        for blob in range(reserved):
            self._mark(page, blob, True)

    def _mark(self, page: int, blob: int, used: bool) -> None:
        bit = 1 << (blob & 7)
        if used:
            self.pages[page][5 + (blob >> 3)] |= bit
        else:
            self.pages[page][5 + (blob >> 3)] &= ~bit

    def _free_run(self, count: int) -> tuple[int, int]:
        for page in range(max(0, len(self.pages) - 2), len(self.pages)):
            used = int.from_bytes(self.pages[page][5:13], "little")
            for blob in range(64 - count + 1):
                if not used >> blob & ((1 << count) - 1):
                    return page, blob
        self.pages.append(bytearray(PAGE))
        self._start_page(len(self.pages) - 1, 1)
        return len(self.pages) - 1, 1

    def add(self, name: bytes, vnode: int, unique: int) -> None:
        """Enter a name; its slot is the first run of free blobs on the last pages."""
        count = blobs_for(name)
        page, blob = self._free_run(count)
        for number in range(blob, blob + count):
            self._mark(page, number, True)
        head = self.pages[0]
        bucket = 160 + 2 * name_hash(name)
        entry = struct.pack("!BBHII", 1, 0, 0, vnode, unique) + name + b"\0"
        offset = blob * BLOB
        self.pages[page][offset : offset + len(entry)] = entry
        slot = page * 64 + blob
        self.pages[page][offset + 2 : offset + 4] = head[bucket : bucket + 2]
        struct.pack_into("!H", head, bucket, slot)
        self.slots[name] = slot

    def remove(self, name: bytes) -> None:
        """Take a name out, leaving a gap; the hash chains are not mended."""
        page, blob = divmod(self.slots.pop(name), 64)
        count = blobs_for(name)
        self.pages[page][blob * BLOB : (blob + count) * BLOB] = bytes(count * BLOB)
        for number in range(blob, blob + count):
            self._mark(page, number, False)

    def blob(self) -> bytes:
        """The whole directory with its page count and allocation map filled in."""
        head = self.pages[0]
        struct.pack_into("!H", head, 0, len(self.pages))
        for page in range(128):
            free = 64
            if page < len(self.pages):
                free -= int.from_bytes(self.pages[page][5:13], "little").bit_count()
            head[BLOB + page] = free
        return b"".join(self.pages)


def directory_blob(entries: Iterable[tuple[bytes, int, int]]) -> bytes:
    """A directory with these entries beside ``.`` and ``..``."""
    builder = DirectoryBuilder()
    for name, vnode, unique in entries:
        builder.add(name, vnode, unique)
    return builder.blob()


def many(count: int) -> Iterator[tuple[bytes, int, int]]:
    """Entries `file000000` and so on."""
    for number in range(count):
        yield b"file%06d" % number, 2 * number + 4, number + 10
