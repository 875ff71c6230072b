"""Parts: files of the cache that hold some MiB of one version of an AFS file.

A part is sparse: each chunk lies where it lies in the file. What is there is known by `state`, one
byte a chunk, and is checked against a checksum when it is read for the first time, and once more
when it has left the kernel's memory. The event loop
reads parts and one thread writes them, without locks: that thread publishes a chunk by setting its
state after its bytes and its checksum are in place, and whoever reads holds a descriptor that
stays open, and means the same bytes, whatever becomes of the part meanwhile.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afsfuse.cache.disk.files import DiskFile
    from afsfuse.cache.journal import Buffer

PART_SHIFT = 23
PART_SIZE = 1 << PART_SHIFT
"""Bytes of a file in one part: what is evicted together."""
ABSENT, WRITTEN, CHECKED = 0, 1, 2
"""States of a chunk."""
_PAGE = 4096
_FOLDER_SHIFT = 10  # parts of neighbouring numbers share a folder
_SEED = struct.Struct("<QI")
_OVERHEAD = 1024  # bytes of a part beside its blocks: inode, name
# Bytes for which zlib.crc32 does not let other threads in. Each time it does, the thread that
# writes and the event loop change places, which costs both of them more than the checksum.
# Source: zlib_crc32_impl in CPython's zlibmodule.c
_HELD = 5 * 1024
_LARGE, _LARGE_OVERHEAD = 128 << 10, 4096  # ... and a block of extents


class Damaged(Exception):
    """A part does not hold what the index says."""

    def __init__(self, part: Part, index: int | None, why: str) -> None:
        """`index`: which chunk of the part is concerned; None: all."""
        super().__init__(why)
        self.part = part
        self.index = index


class Descriptor:
    """An open file. It is closed when nobody refers to it any more, in whatever thread."""

    __slots__ = ("number",)

    def __init__(self, path: str, flags: int) -> None:
        """Raises `OSError`."""
        self.number = -1
        self.number = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class Part:
    """One part. `number` names its file; 0: it has none yet."""

    __slots__ = ("dead", "file", "length", "number", "place", "size", "state", "sums", "used")

    def __init__(self, file: DiskFile, place: int, number: int = 0) -> None:
        """Part `place` of a file. One with a number is in the index, to be loaded from there."""
        self.file = file
        self.place = place
        self.number = number
        self.length = min(PART_SIZE, file.key.length - (place << PART_SHIFT))
        self.size = 0  # bytes of disk
        self.used = 0  # logical time
        self.dead = False  # evicted or lost
        chunks = ((self.length - 1) >> file.cache.shift) + 1
        self.state: bytearray | None = None if number else bytearray(chunks)
        self.sums = memoryview(bytearray(4 * chunks)).cast("I")

    def load(self, size: int, used: int, sums: bytes) -> None:
        """Take over what the index says. Nothing of it has been checked."""
        self.size, self.used = size, used
        if len(sums) == self.sums.nbytes:
            self.sums = memoryview(bytearray(sums)).cast("I")
        self.state = bytearray(WRITTEN if known else ABSENT for known in self.sums)

    def overhead(self) -> int:
        """Bytes of disk that the part takes beside its blocks."""
        return _OVERHEAD + (_LARGE_OVERHEAD if self.length > _LARGE else 0)

    def twin(self, file: DiskFile) -> Part:
        """The same part, of a version of the file in which its bytes are the same."""
        twin = Part(file, self.place, self.number)
        twin.size, twin.used = self.size, self.used
        assert self.state is not None
        twin.state = bytearray(self.state)  # before the sums, which are set before it
        twin.sums = memoryview(bytearray(self.sums)).cast("I")
        return twin

    def doubt(self, first: int = 0, last: int | None = None) -> bool:
        """Have chunks checked once more, since they may have come from the disk: of writing that
        fails later nobody is told. Whether there were any that had been checked.
        """
        state = self.state
        assert state is not None
        found = False
        for index in range(first, len(state) if last is None else last):
            if state[index] == CHECKED and self.sums[index]:
                state[index] = WRITTEN
                found = True
        return found

    @staticmethod
    def plausible(size: int, blocks: int) -> int:
        """The bytes to count for a part of which the index says `size`, when it has this many
        blocks of 512 bytes. A killed process may have written more than it wrote into the index.
        """
        real = blocks * 512
        most = real + _OVERHEAD + _LARGE_OVERHEAD
        return size if real <= size <= most else most

    def forget(self) -> None:
        """Nothing of it counts any more."""
        self.dead = True
        self.state = bytearray(len(self.sums))

    def sum_of(self, index: int, data: Buffer) -> int:
        """The checksum of a chunk, never 0. Bytes of another chunk or part have another one."""
        view = memoryview(data)
        total = zlib.crc32(_SEED.pack(self.number, index))
        for start in range(0, len(view), _HELD):
            total = zlib.crc32(view[start : start + _HELD], total)
        return total or 1

    def read(self, descriptor: Descriptor, start: int, stop: int, flags: int) -> memoryview:
        """Bytes of the part, from chunks that are there.

        Raises `Damaged` if they are not what was written, and `BlockingIOError` if `flags` forbid
        to wait for the disk.
        """
        shift = self.file.cache.shift
        first, last = start >> shift, ((stop - 1) >> shift) + 1
        state = self.state
        assert state is not None
        checked = state.count(CHECKED, first, last) == last - first
        begin, end = start, stop
        if not checked:  # whole chunks have checksums
            begin, end = first << shift, min(last << shift, self.length)
        buffer = bytearray(end - begin)
        count = os.preadv(descriptor.number, [buffer], begin, flags)
        if count != end - begin:
            if flags:
                raise BlockingIOError  # the rest is not in memory, or not there at all
            raise Damaged(self, None, f"it ends after {begin + count} bytes")
        if checked and _may_have_holes(buffer, begin) and self.doubt(first, last):
            return self.read(descriptor, start, stop, flags)
        view = memoryview(buffer)
        if not checked:
            for index in range(first, last):
                if state[index] != CHECKED:
                    chunk = view[(index << shift) - begin : ((index + 1) << shift) - begin]
                    if self.sum_of(index, chunk) != self.sums[index]:
                        raise Damaged(self, index, "a checksum is wrong")
                    if state[index]:
                        state[index] = CHECKED
        return view[start - begin : stop - begin]


def _may_have_holes(buffer: bytearray, begin: int) -> bool:
    """Whether some page of a part, of which these are bytes from `begin` on, may be all zeros: so
    it is read, without waiting, when it never reached the disk.
    """
    return not buffer[0] or 0 in buffer[-begin % _PAGE :: _PAGE]


def path_of(root: str, number: int) -> str:
    """The file of a part."""
    return f"{root}/{number >> _FOLDER_SHIFT:x}/{number:x}"


def existing(root: Path) -> Iterator[tuple[str, int]]:
    """Path and number of each file in the folder of parts; -1: a name that means nothing."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            try:
                number = int(name, 16)
            except ValueError:
                number = -1
            yield path, number if path == path_of(str(root), number) else -1
