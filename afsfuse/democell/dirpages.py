"""Directories as file servers store and send them: built, and changed in place.

A directory is a file of pages of 2048 bytes, each cut into 64 blobs of 32 bytes. The first blob of
a page is its header: tag, and a bitmap of the blobs in use. In the first page twelve more blobs
hold the free count of each of the first 128 pages and the heads of 128 hash chains. An entry takes
the first run of free blobs that is long enough for its name, and stays there while it lives.
Source of all numbers and of where things are put: OpenAFS src/dir/dir.h and dir.c.
"""

from __future__ import annotations

import errno
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from afsfuse.democell.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PAGE_BYTES = 2048
BLOB_BYTES = 32
BLOBS_A_PAGE = 64
MAX_PAGES = 1023
MAPPED_PAGES = 128  # the allocation map has a byte for each of the first 128 pages only
HASH_BUCKETS = 128
MAX_NAME = 255
_FIRST_PAGE_BLOBS = 13  # page header 1, allocation map 4, hash table 8
_TAG = 1234
_IN_USE = 1
_MAP = BLOB_BYTES
_HEADS = BLOB_BYTES + MAPPED_PAGES
_BITMAP = 5  # where it stands in a page
_ALL_BLOBS = (1 << BLOBS_A_PAGE) - 1
_ENTRY = struct.Struct("!BBHII")  # flag, unused, next in the chain, vnode, unique
_LINK = struct.Struct("!H")
_LINK_OFFSET = 2
_FID = struct.Struct("!II")
_FID_OFFSET = 4

Entry = tuple[bytes, int, int]
"""Name, vnode, unique."""


def blobs_for(name: bytes) -> int:
    """How many blobs an entry takes: the first one holds 16 bytes of the name with its NUL."""
    return 1 + (len(name) + 16) // BLOB_BYTES


def bucket(name: bytes) -> int:
    """The hash chain of a name: multiply by 173 in 32 bits; the top half is counted backwards."""
    value = 0
    for byte in name:
        value = (value * 173 + byte) & 0xFFFFFFFF
    low = value & (HASH_BUCKETS - 1)
    if low and value >= 1 << 31:
        return HASH_BUCKETS - low
    return low


class DirectoryPages:
    """One directory. Names are found by an index beside the pages, not by the chains."""

    __slots__ = ("_fits", "_free", "_pages", "_slots")

    def __init__(self) -> None:
        """Without any name, even ``.`` and ``..``: `make` is what is wanted mostly."""
        self._pages = bytearray()
        self._free: list[int] = []  # blobs, by page
        self._fits: dict[int, int] = {}  # by blobs needed: no page before this one has them
        self._slots: dict[bytes, int] = {}
        self._add_page(_FIRST_PAGE_BLOBS)
        self._pages[_MAP : _MAP + MAPPED_PAGES] = bytes([BLOBS_A_PAGE]) * MAPPED_PAGES
        self._pages[_MAP] = BLOBS_A_PAGE - _FIRST_PAGE_BLOBS

    @classmethod
    def make(cls, me: tuple[int, int], parent: tuple[int, int]) -> Self:
        """An empty directory: vnode and unique of itself, and of the one above."""
        directory = cls()
        directory.add(b".", *me)
        directory.add(b"..", *parent)
        return directory

    @classmethod
    def load(cls, pages: bytes) -> Self:
        """The directory that `data` gave."""
        directory = cls.__new__(cls)
        directory._pages = bytearray(pages)
        directory._fits = {}
        directory._slots = {}
        directory._free = [
            BLOBS_A_PAGE - directory._used(page).bit_count()
            for page in range(len(pages) // PAGE_BYTES)
        ]
        for chain in range(HASH_BUCKETS):
            (slot,) = _LINK.unpack_from(pages, _HEADS + 2 * chain)
            while slot:
                directory._slots[directory._name_at(slot)] = slot
                (slot,) = _LINK.unpack_from(pages, slot * BLOB_BYTES + _LINK_OFFSET)
        return directory

    def copy(self) -> Self:
        """Another one with the same contents."""
        twin = self.__class__.__new__(self.__class__)
        twin._pages = self._pages[:]
        twin._free = self._free[:]
        twin._fits = self._fits.copy()
        twin._slots = self._slots.copy()
        return twin

    @property
    def length(self) -> int:
        """Bytes; pages never go away."""
        return len(self._pages)

    @property
    def is_empty(self) -> bool:
        """Nothing but ``.`` and ``..``."""
        return len(self._slots) <= 2

    @property
    def slots(self) -> Mapping[bytes, int]:
        """Where each name stands: the number of its first blob, counted over all pages."""
        return MappingProxyType(self._slots)

    def data(self) -> bytes:
        """All pages."""
        return bytes(self._pages)

    def read(self, position: int, size: int) -> bytes:
        """A part of the pages."""
        return bytes(self._pages[position : position + size])

    def find(self, name: bytes) -> tuple[int, int] | None:
        """Vnode and unique behind a name."""
        slot = self._slots.get(name)
        if slot is None:
            return None
        vnode, unique = _FID.unpack_from(self._pages, slot * BLOB_BYTES + _FID_OFFSET)
        return vnode, unique

    def __iter__(self) -> Iterator[Entry]:
        """All entries, ``.`` and ``..`` among them."""
        for name, slot in self._slots.items():
            vnode, unique = _FID.unpack_from(self._pages, slot * BLOB_BYTES + _FID_OFFSET)
            yield name, vnode, unique

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of this name."""
        return name in self._slots

    def add(self, name: bytes, vnode: int, unique: int) -> None:
        """Enter a name. Refuses one that is there (EEXIST) or cannot be, and to exceed the limit
        of pages (EFBIG).
        """
        if not name or b"/" in name or b"\0" in name:
            raise Refused(errno.EINVAL, f"no name for a directory entry: {name!r}")
        if len(name) > MAX_NAME:
            raise Refused(errno.ENAMETOOLONG)
        if name in self._slots:
            raise Refused(errno.EEXIST)
        slot = self._take(blobs_for(name))
        head = _HEADS + 2 * bucket(name)
        (following,) = _LINK.unpack_from(self._pages, head)
        entry = _ENTRY.pack(_IN_USE, 0, following, vnode, unique) + name + b"\0"
        offset = slot * BLOB_BYTES
        self._pages[offset : offset + len(entry)] = entry
        _LINK.pack_into(self._pages, head, slot)
        self._slots[name] = slot

    def remove(self, name: bytes) -> None:
        """Take a name out; refuses one that is not there (ENOENT)."""
        slot = self._slots.pop(name, None)
        if slot is None:
            raise Refused(errno.ENOENT)
        link = _HEADS + 2 * bucket(name)
        while (following := _LINK.unpack_from(self._pages, link)[0]) != slot:
            link = following * BLOB_BYTES + _LINK_OFFSET
        offset = slot * BLOB_BYTES
        self._pages[link : link + 2] = self._pages[offset + _LINK_OFFSET : offset + 4]
        count = blobs_for(name)
        self._pages[offset : offset + count * BLOB_BYTES] = bytes(count * BLOB_BYTES)
        page, blob = divmod(slot, BLOBS_A_PAGE)
        self._set_used(page, self._used(page) & ~(((1 << count) - 1) << blob))
        self._fits = {need: min(first, page) for need, first in self._fits.items()}

    def _name_at(self, slot: int) -> bytes:
        begin = slot * BLOB_BYTES + _ENTRY.size
        return bytes(self._pages[begin : self._pages.index(0, begin)])

    def _take(self, count: int) -> int:
        """The first run of so many free blobs, now in use."""
        for page in range(self._fits.get(count, 0), MAX_PAGES):
            if page == len(self._free):
                self._add_page(1)
            if self._free[page] < count:
                continue
            used = self._used(page)
            runs = ~used & _ALL_BLOBS
            for _ in range(count - 1):
                runs &= runs >> 1
            if runs:
                blob = (runs & -runs).bit_length() - 1
                self._set_used(page, used | ((1 << count) - 1) << blob)
                self._fits[count] = page
                return page * BLOBS_A_PAGE + blob
        raise Refused(errno.EFBIG, f"a directory has {MAX_PAGES} pages at most")

    def _add_page(self, reserved: int) -> None:
        page = len(self._free)
        fresh = bytearray(PAGE_BYTES)
        struct.pack_into("!HHB", fresh, 0, 0, _TAG, BLOBS_A_PAGE - reserved)
        self._pages += fresh
        self._free.append(0)
        self._set_used(page, (1 << reserved) - 1)
        struct.pack_into("!H", self._pages, 0, page + 1)

    def _used(self, page: int) -> int:
        """The bitmap: bit n of byte m is blob 8 m + n."""
        begin = page * PAGE_BYTES + _BITMAP
        return int.from_bytes(self._pages[begin : begin + 8], "little")

    def _set_used(self, page: int, used: int) -> None:
        begin = page * PAGE_BYTES + _BITMAP
        self._pages[begin : begin + 8] = used.to_bytes(8, "little")
        self._free[page] = BLOBS_A_PAGE - used.bit_count()
        if page < MAPPED_PAGES:
            self._pages[_MAP + page] = self._free[page]


def build(entries: Iterable[Entry]) -> bytes:
    """The pages of a directory with these entries, ``.`` and ``..`` included."""
    directory = DirectoryPages()
    for name, vnode, unique in entries:
        directory.add(name, vnode, unique)
    return directory.data()
