"""Does the same to two files and compares what they become: `fsx FILE LOCAL SEED STEPS`.

FILE is on the mount that is tested, LOCAL on a file system that is known to be right. Both begin
empty. The name is that of the well-known exerciser of file systems, of which this is no copy.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 3 << 20
_BLOCK = 4096
_SIZES = (1, 7, 100, 4095, 4096, 4097, 20_000, 65_536, 131_072, 300_000, 1 << 20)


class Exerciser:
    """Two open files, and what can be done to both."""

    def __init__(self, paths: tuple[str, str], rng: random.Random) -> None:
        self.paths = paths
        self.rng = rng
        self.files = [os.open(path, os.O_RDWR | os.O_CREAT, 0o644) for path in paths]
        self.log: list[str] = []
        self.operations: tuple[Callable[[], None], ...] = (
            *(self.write,) * 6, *(self.read,) * 6, self.append, self.truncate, self.truncate,
            self.extend, self.map_shared, self.map_private, self.reopen, self.reopen_truncated,
            self.sync, self.write_directly, self.read_directly, self.copy, self.compare,
            self.truncate_by_path, self.write_by_another, self.punch, self.stat,
        )  # fmt: skip

    @property
    def length(self) -> int:
        return os.fstat(self.files[1]).st_size

    def note(self, *words: object) -> None:
        self.log.append(" ".join(map(str, words)))

    def data(self, size: int) -> bytes:
        return self.rng.randbytes(size)

    def size(self) -> int:
        return self.rng.choice(_SIZES)

    def place(self) -> int:
        """Where to do something: mostly inside the file, or just behind it."""
        return self.rng.randrange(min(LONGEST, self.length + 50_000) + 1)

    def both(self, do: Callable[[int], object]) -> None:
        """Do it to both files; the results, or the errors, must be the same."""
        results: list[object] = []
        for file in self.files:
            try:
                results.append(do(file))
            except OSError as exc:
                results.append(exc.errno)
        if results[0] != results[1]:
            self.fail(f"{results[0]!r:.80} instead of {results[1]!r:.80}")

    def fail(self, what: str) -> None:
        print("\n".join(self.log[-40:]))
        raise AssertionError(what)

    def write(self) -> None:
        offset, data = self.place(), self.data(self.size())
        self.note("write", offset, len(data))
        self.both(lambda file: os.pwrite(file, data, offset))

    def append(self) -> None:
        data = self.data(self.size())
        self.note("append", len(data))
        for path in self.paths:
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(file, data)
            os.close(file)

    def read(self) -> None:
        offset, size = self.place(), self.size()
        self.note("read", offset, size)
        self.both(lambda file: os.pread(file, size, offset))

    def truncate(self) -> None:
        length = self.rng.randrange(self.length + 1)
        self.note("ftruncate", length)
        self.both(lambda file: os.ftruncate(file, length))

    def extend(self) -> None:
        length = min(LONGEST, self.length + self.size())
        self.note("ftruncate", length)
        self.both(lambda file: os.ftruncate(file, length))

    def truncate_by_path(self) -> None:
        length = self.place()
        self.note("truncate", length)
        for path in self.paths:
            os.truncate(path, length)

    def _mapped(self, change: Callable[[mmap.mmap], object], flags: int) -> None:
        if not self.length:
            return
        for file in self.files:
            with mmap.mmap(file, self.length, flags=flags) as mapped:
                change(mapped)

    def map_shared(self) -> None:
        if not self.length:
            return
        offset = self.rng.randrange(self.length)
        data = self.data(min(self.size(), self.length - offset))
        self.note("map shared", offset, len(data))

        def change(mapped: mmap.mmap) -> None:
            mapped[offset : offset + len(data)] = data
            if flush:
                mapped.flush()

        flush = self.rng.random() < 0.5
        self._mapped(change, mmap.MAP_SHARED)

    def map_private(self) -> None:
        self.note("map private")
        self._mapped(
            lambda mapped: mapped.write(b"nobody sees this"[: self.length]), mmap.MAP_PRIVATE
        )

    def reopen(self) -> None:
        self.note("reopen")
        self._open(os.O_RDWR)

    def reopen_truncated(self) -> None:
        if self.rng.random() < 0.3:
            self.note("reopen with O_TRUNC")
            self._open(os.O_RDWR | os.O_TRUNC)

    def _open(self, flags: int) -> None:
        if self.rng.random() < 0.3:  # the next is open before the last is closed
            new = [os.open(path, flags) for path in self.paths]
            for file in self.files:
                os.close(file)
            self.files = new
        else:
            for file in self.files:
                os.close(file)
            self.files = [os.open(path, flags) for path in self.paths]

    def sync(self) -> None:
        self.note("fsync")
        self.both(self.rng.choice((os.fsync, os.fdatasync)))

    def _directly(self, do: Callable[[int], object]) -> None:
        """Past the page cache, in whole blocks. The other file is taken the usual way."""
        results = []
        for path, flags in zip(self.paths, (os.O_DIRECT, 0), strict=True):
            file = os.open(path, os.O_RDWR | flags)
            results.append(do(file))
            os.close(file)
        if results[0] != results[1]:
            self.fail("something else was read past the page cache")

    def write_directly(self) -> None:
        offset = self.place() // _BLOCK * _BLOCK
        size = self.rng.choice((1, 2, 40, 256)) * _BLOCK
        self.note("write directly", offset, size)
        with mmap.mmap(-1, size) as block:  # it begins at a page
            block[:] = self.data(size)
            self._directly(lambda file: os.pwritev(file, [block], offset))

    def read_directly(self) -> None:
        offset = self.place() // _BLOCK * _BLOCK
        self.note("read directly", offset)

        def read(file: int) -> bytes:
            with mmap.mmap(-1, 16 * _BLOCK) as block:
                return block[: os.preadv(file, [block], offset)]

        self._directly(read)

    def copy(self) -> None:
        source, target, size = self.place(), self.place(), self.size()
        if source >= self.length or abs(source - target) < size:
            return
        self.note("copy_file_range", source, target, size)
        for file in self.files:
            left, at = size, 0
            while left:
                done = os.copy_file_range(file, file, left, source + at, target + at)
                if not done:
                    break
                left, at = left - done, at + done

    def write_by_another(self) -> None:
        offset, data = self.place(), self.data(self.size())
        self.note("write by another handle", offset, len(data))
        for path in self.paths:
            with open(path, "r+b", buffering=0) as file:
                file.seek(offset)
                file.write(data)

    def punch(self) -> None:
        """What cannot be done is refused, and changes nothing."""
        with contextlib.suppress(OSError):
            os.posix_fallocate(self.files[0], 0, 1)
            os.posix_fallocate(self.files[1], 0, 1)

    def stat(self) -> None:
        self.both(lambda file: os.fstat(file).st_size)

    def compare(self) -> None:
        self.note("compare")
        contents = []
        for path in self.paths:
            with open(path, "rb") as file:
                contents.append(file.read())
        if contents[0] != contents[1]:
            place = next(
                (i for i, (a, b) in enumerate(zip(*contents, strict=False)) if a != b), None
            )
            self.fail(f"{len(contents[0])} and {len(contents[1])} bytes, different at {place}")

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.rng.choice(self.operations)()
        self.compare()
        for file in self.files:
            os.close(file)


if __name__ == "__main__":
    print(f"seed {sys.argv[3]}")
    Exerciser((sys.argv[1], sys.argv[2]), random.Random(int(sys.argv[3]))).run(int(sys.argv[4]))
