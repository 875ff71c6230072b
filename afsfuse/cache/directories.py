"""Directories as file servers store them: parsed once, checked page by page, edited in place.

A directory is a file of pages of 2048 bytes, each cut into 64 blobs of 32 bytes. The first blob of
a page is its header (tag 1234, a bitmap of the blobs in use); in the first page twelve more blobs
hold the free count of each page and a hash table. An entry takes one blob and as many following
ones of the same page as its name needs. All numbers are big endian.
Source: src/dir/dir.h, dir.c and salvage.c of OpenAFS; fs/afs/xdr_fs.h of Linux.

The hash table is not used: entries are found by the bitmap, so that no loop in a hash chain can
matter. Everything that the bitmap leads to is checked, and a blob that fails one check is refused
as a whole with `DataCorrupt`: a name that is not there must be proven by a sound directory.

After a change of ours the copy is edited as the server edits its own: an entry goes into the first
run of free blobs that is long enough. So slots, which are the offsets of listings, are the same in
both. The hash chains are left alone, since nobody here reads them. Nor does what stands in free
blobs and behind names mean anything: servers leave remains of old names there, more or less of
them. So a later fetch has other bytes, but the same entries at the same places.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.errors import DataCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator, KeysView

PAGE_SIZE = 2048
BLOB_SIZE = 32
BLOBS_A_PAGE = PAGE_SIZE // BLOB_SIZE
MAX_PAGES = 1023  # as many as the server ever makes. Source: BIGMAXPAGES in dir.h
MAX_SIZE = MAX_PAGES * PAGE_SIZE
MAX_NAME = 255  # bytes. Source: AFSNAMEMAX in common.xg, NUL included
_TAG = 1234
_MAPPED_PAGES = 128  # the allocation map covers these; later pages are not in it
_FIRST_PAGE_BLOBS = 13  # page header 1, allocation map 4, hash table 8
_DOT_SLOT, _DOT_DOT_SLOT = 13, 14  # where the server's MakeDir puts them
_NAME_OFFSET = 12  # flag, unused byte, hash link (2 bytes), vnode, unique
_BITMAP_OFFSET = 5  # in the header of a page
_ALL_BLOBS = (1 << BLOBS_A_PAGE) - 1
_IN_USE = 1  # the flag of an entry's first blob

_NO_VNODE = bytes(4)  # vnode 0 stands for a whole volume, never for a file

_PAGE_HEADER = struct.Struct("!HHB8s")  # pages (first header only), tag, unused, bitmap
_COUNT = struct.Struct("!H")
_FID = struct.Struct("!II")
_ENTRY = struct.Struct("!BBHII")  # flag, unused byte, hash link, vnode, unique
# An entry that fits in one blob, as nearly all do: flag, three bytes, a vnode that is not 0,
# unique, name and NUL. A whole run of such blobs is checked and cut in one go.
_SHORT_ENTRY = re.compile(rb"\x01.{3}(?!\0{4}).{8}(?=([^\0/]{1,15})\0).{20}", re.DOTALL)

# What one entry costs in memory beside its blob: a bytes object of 33 bytes and the name, an int,
# and its share of the dictionary; measured with tracemalloc on 60,000 names of 10 bytes.
_ENTRY_COST = 136


class DirectoryEntry(NamedTuple):
    """One name. `slot` is the number of its first blob, counted over the whole directory."""

    slot: int
    name: bytes
    vnode: int
    unique: int


class Directory:
    """A directory in the version that `data_version` names.

    The blob is kept as it came and entries are decoded when they are asked for; the index maps
    names to slots. ``.`` and ``..`` are entries like all others. Whoever edits it says of which
    version it is from then on.
    """

    __slots__ = ("_blob", "_fits", "_index", "_slots", "data_version")

    def __init__(
        self, blob: bytes | bytearray, index: dict[bytes, int], slots: array[int], data_version: int
    ) -> None:
        """Only `parse` and `empty` make these."""
        self._blob = blob
        self._index = index
        self._slots = slots
        self._fits: dict[int, int] = {}  # by blobs needed: no page before this one has them
        self.data_version = data_version

    @classmethod
    def empty(cls, me: tuple[int, int], parent: tuple[int, int], data_version: int) -> Directory:
        """What a server makes: vnode and uniquifier of the directory and of the one above it."""
        directory = cls(bytearray(), {}, array("H"), data_version)
        directory._add_page()
        directory.add(b".", *me)
        directory.add(b"..", *parent)
        return directory

    @classmethod
    def parse(cls, blob: bytes, data_version: int = 0) -> Directory:
        """Check a whole directory and index it; raise `DataCorrupt` if anything is wrong."""
        pages = _count_pages(blob)
        index: dict[bytes, int] = {}
        slots = array("H")
        for page in range(pages):
            _parse_page(blob, page, index, slots)
        if len(index) != len(slots):
            raise DataCorrupt("directory: a name stands in it twice")
        if index.get(b".") != _DOT_SLOT or index.get(b"..") != _DOT_DOT_SLOT:
            raise DataCorrupt("directory: . and .. do not stand where they belong")
        return cls(blob, index, slots, data_version)

    def find(self, name: bytes) -> tuple[int, int] | None:
        """Vnode and uniquifier behind a name, None if there is no such name."""
        slot = self._index.get(name)
        if slot is None:
            return None
        vnode, unique = _FID.unpack_from(self._blob, slot * BLOB_SIZE + 4)
        return vnode, unique

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of this name."""
        return name in self._index

    def __len__(self) -> int:
        """Number of entries, ``.`` and ``..`` included."""
        return len(self._index)

    def __iter__(self) -> Iterator[DirectoryEntry]:
        """All entries in the order of their slots."""
        return self.entries_from(0)

    def entries_from(self, slot: int) -> Iterator[DirectoryEntry]:
        """The entries whose slot is `slot` or higher. No edit may come before it was exhausted.

        A slot is a stable cookie: as long as an entry exists it stays where it is, whatever
        happens around it. Continue a listing at the last entry's slot + 1.
        """
        start = bisect_left(self._slots, slot)
        blob = self._blob
        unpack = _FID.unpack_from
        for position in range(start, len(self._slots)):
            slot = self._slots[position]
            offset = slot * BLOB_SIZE
            vnode, unique = unpack(blob, offset + 4)
            name = blob[offset + _NAME_OFFSET : blob.index(0, offset + _NAME_OFFSET)]
            yield DirectoryEntry(slot, bytes(name), vnode, unique)

    def names(self) -> KeysView[bytes]:
        """All names, without a copy."""
        return self._index.keys()

    @property
    def length(self) -> int:
        """Bytes of the whole, as a status has it."""
        return len(self._blob)

    def snapshot(self) -> bytes:
        """The whole as it is now, for `parse`. What was edited is copied."""
        return bytes(self._blob)

    @property
    def cost(self) -> int:
        """Roughly how many bytes of memory this object keeps."""
        return len(self._blob) + len(self._index) * _ENTRY_COST

    # Edits. Each is done whole or not at all: False means that the copy is not what the server has.

    def add(self, name: bytes, vnode: int, unique: int) -> bool:
        """Enter a name where a server puts it; False if it is there, or there is no room."""
        if name in self._index:
            return False
        slot = self._take(1 + ((len(name) + 16) >> 5))
        if slot is None:
            return False
        entry = _ENTRY.pack(_IN_USE, 0, 0, vnode, unique) + name + b"\0"
        offset = slot * BLOB_SIZE
        blob = self._editable()
        blob[offset : offset + len(entry)] = entry
        self._index[name] = slot
        slots = self._slots
        if not slots or slot > slots[-1]:
            slots.append(slot)
        else:
            slots.insert(bisect_left(slots, slot), slot)
        return True

    def remove(self, name: bytes) -> bool:
        """Take a name out; False if there is none. What its blobs held stays: nobody reads it."""
        slot = self._index.pop(name, None)
        if slot is None:
            return False
        del self._slots[bisect_left(self._slots, slot)]
        count = 1 + ((len(name) + 16) >> 5)
        page, inside = divmod(slot, BLOBS_A_PAGE)
        self._set_used(page, self._used(page) & ~(((1 << count) - 1) << inside))
        for needed, first in self._fits.items():
            if page < first:
                self._fits[needed] = page
        return True

    def _editable(self) -> bytearray:
        if isinstance(self._blob, bytes):
            self._blob = bytearray(self._blob)
        return self._blob

    def _take(self, count: int) -> int | None:
        """The first run of so many free blobs, now in use; None if no page can be added."""
        blob = self._editable()
        for page in range(self._fits.get(count, 0), MAX_PAGES):
            if page * PAGE_SIZE == len(blob):
                self._add_page()
            if page < _MAPPED_PAGES and blob[BLOB_SIZE + page] < count:
                continue
            used = self._used(page)
            runs = ~used & _ALL_BLOBS
            for _ in range(count - 1):
                runs &= runs >> 1
            if runs:
                first = (runs & -runs).bit_length() - 1
                self._set_used(page, used | ((1 << count) - 1) << first)
                self._fits[count] = page
                return page * BLOBS_A_PAGE + first
        return None

    def _add_page(self) -> None:
        blob = self._editable()
        page = len(blob) // PAGE_SIZE
        reserved = 1 if page else _FIRST_PAGE_BLOBS
        blob += bytes(PAGE_SIZE)
        start = page * PAGE_SIZE
        _PAGE_HEADER.pack_into(blob, start, 0, _TAG, BLOBS_A_PAGE - reserved, bytes(8))
        if not page:
            blob[BLOB_SIZE : BLOB_SIZE + _MAPPED_PAGES] = bytes([BLOBS_A_PAGE]) * _MAPPED_PAGES
        self._set_used(page, (1 << reserved) - 1)
        _COUNT.pack_into(blob, 0, page + 1)

    def _used(self, page: int) -> int:
        """The blobs in use: bit n of byte m of the bitmap is blob 8 m + n."""
        start = page * PAGE_SIZE + _BITMAP_OFFSET
        return int.from_bytes(self._blob[start : start + 8], "little")

    def _set_used(self, page: int, used: int) -> None:
        blob = self._editable()
        start = page * PAGE_SIZE + _BITMAP_OFFSET
        blob[start : start + 8] = used.to_bytes(8, "little")
        if page < _MAPPED_PAGES:
            blob[BLOB_SIZE + page] = BLOBS_A_PAGE - used.bit_count()

    # Comparing

    def diff(self, new: Directory) -> set[bytes]:
        """Names that appeared, vanished, or stand for another file in `new`.

        Only pages whose bytes differ are looked at: a change touches few of them.
        """
        before = self._changed_fids(new)
        after = new._changed_fids(self)
        changed = {name for name, fid in before.items() if after.get(name) != fid}
        changed.update(after.keys() - before.keys())
        return changed

    def _changed_fids(self, other: Directory) -> dict[bytes, tuple[int, int]]:
        """The entries on the pages that are not byte for byte the same in `other`."""
        mine, theirs = memoryview(self._blob), memoryview(other._blob)
        found: dict[bytes, tuple[int, int]] = {}
        for start in range(0, len(mine), PAGE_SIZE):
            if mine[start : start + PAGE_SIZE] == theirs[start : start + PAGE_SIZE]:
                continue
            end_slot = (start + PAGE_SIZE) // BLOB_SIZE
            for entry in self.entries_from(start // BLOB_SIZE):
                if entry.slot >= end_slot:
                    break
                found[entry.name] = (entry.vnode, entry.unique)
        return found


def _count_pages(blob: bytes) -> int:
    """Check the frame: size, page count, free counts. Return the number of pages."""
    size = len(blob)
    if not 0 < size <= MAX_SIZE or size % PAGE_SIZE:
        raise DataCorrupt(f"directory: {size} bytes are not 1 to {MAX_PAGES} pages")
    pages = size // PAGE_SIZE
    declared = _PAGE_HEADER.unpack_from(blob)[0]
    free_counts = blob[BLOB_SIZE : BLOB_SIZE + _MAPPED_PAGES]
    if declared == 0:  # written by a server of old: the map alone tells
        unused = free_counts.find(BLOBS_A_PAGE)
        declared = _MAPPED_PAGES if unused < 0 else unused
    if declared != pages:
        raise DataCorrupt(f"directory: {pages} pages came, its header says {declared}")
    if free_counts[pages:].strip(bytes([BLOBS_A_PAGE])):
        raise DataCorrupt("directory: pages behind the end are said to be in use")
    return pages


def _parse_page(blob: bytes, page: int, index: dict[bytes, int], slots: array[int]) -> None:
    """Check one page and add its entries to `index` and `slots`."""
    start = page * PAGE_SIZE
    _, tag, _, bitmap = _PAGE_HEADER.unpack_from(blob, start)
    if tag != _TAG:
        raise DataCorrupt(f"directory: page {page} has the tag {tag}")
    used = int.from_bytes(bitmap, "little")  # bit n of byte m is blob 8 m + n
    if page < _MAPPED_PAGES and blob[BLOB_SIZE + page] != BLOBS_A_PAGE - used.bit_count():
        raise DataCorrupt(f"directory: page {page} has another number of free blobs than the map")
    slot = 1 if page else _FIRST_PAGE_BLOBS
    reserved = (1 << slot) - 1
    if used & reserved != reserved:
        raise DataCorrupt(f"directory: the header of page {page} is not marked as in use")
    used >>= slot
    base = page * BLOBS_A_PAGE
    while used:
        gap = (used & -used).bit_length() - 1
        used >>= gap
        slot += gap
        run = (~used & (used + 1)).bit_length() - 1  # blobs in use up to the next gap
        offset = start + slot * BLOB_SIZE
        names = _SHORT_ENTRY.findall(blob, offset, offset + run * BLOB_SIZE)
        if len(names) == run:  # so the matches touch each other: one entry in each blob
            numbers = range(base + slot, base + slot + run)
            index.update(zip(names, numbers, strict=True))
            slots.extend(numbers)
        else:
            _parse_run(blob, base + slot, run, index, slots)
        slot += run
        used >>= run


def _parse_run(
    blob: bytes, slot: int, blobs: int, index: dict[bytes, int], slots: array[int]
) -> None:
    """Check neighbouring blobs that hold entries of any length, one after the other."""
    end = slot + blobs
    while slot < end:
        offset = slot * BLOB_SIZE
        name_at = offset + _NAME_OFFSET
        length = blob.find(0, name_at, end * BLOB_SIZE) - name_at
        if (
            not 0 < length <= MAX_NAME
            or slot + (needed := 1 + ((length + 16) >> 5)) > end  # Source: afs_dir_NameBlobs
            or blob[offset] != _IN_USE
            or blob.startswith(_NO_VNODE, offset + 4)
            or blob.find(b"/", name_at, name_at + length) >= 0
        ):
            page, inside = divmod(slot, BLOBS_A_PAGE)
            raise DataCorrupt(f"directory: the entry in blob {inside} of page {page} is damaged")
        index[blob[name_at : name_at + length]] = slot
        slots.append(slot)
        slot += needed
