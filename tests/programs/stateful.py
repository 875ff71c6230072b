"""Does the same to a folder on mounts and to a local one: `stateful FOLDER… LOCAL SEED OPERATIONS`.

Hypothesis chooses the operations, and finds the shortest list of them that shows a difference.
With one FOLDER files stay open and mapped while other things are done to them. With several, which
are one folder in the eyes of several clients, each operation is done by one of them, and ends with
its close: a moment later the others see it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import random
import shutil
import stat
import sys
import time
from typing import TYPE_CHECKING, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 60  # of one example
KEPT = 4  # handles, and mappings
LONGEST = 1 << 20
PREFIX = ".__afs"
MOMENT = 10.0
"""Seconds in which others see a change. It is one on a quiet machine."""
_FOLDERS = ("", "one", "two", "two/three")
_NAMES = ("a", "b", "c", "d")

folders = st.sampled_from(_FOLDERS[1:])
paths = st.builds(os.path.join, st.sampled_from(_FOLDERS), st.sampled_from(_NAMES))
sizes = st.sampled_from((0, 1, 100, 4095, 4096, 4097, 30_000, 70_000, 300_000))
seeds = st.integers(0, 255)
places = st.integers(0, 400_000)


def data_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Handle:
    """One file, open on both sides, and perhaps mapped."""

    def __init__(self, files: tuple[int, int]) -> None:
        self.files = files
        self.maps: list[mmap.mmap] = []

    @property
    def length(self) -> int:
        return os.fstat(self.files[1]).st_size

    def map(self) -> None:
        self.maps = [mmap.mmap(file, self.length) for file in self.files]

    def unmap(self) -> None:
        for mapped in self.maps:
            mapped.close()
        self.maps = []

    def close(self) -> None:
        self.unmap()
        for file in self.files:
            os.close(file)


class Twins(RuleBasedStateMachine):
    """The folders, and what is done to them."""

    tops: ClassVar[tuple[str, ...]]
    local: ClassVar[str]
    count: ClassVar[int] = 0
    examples = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.name = str(next(self.examples))
        self.handles: list[Handle] = []
        self.turn = random.Random(0)

    @initialize()
    def begin(self) -> None:
        os.mkdir(os.path.join(self.tops[0], self.name))
        os.mkdir(os.path.join(self.local, self.name))
        for folder in _FOLDERS[1:]:
            self.both(folder, os.mkdir)

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()
        self.handles = []
        try:
            for top in self.tops:
                deadline = time.monotonic() + (MOMENT if len(self.tops) > 1 else 0.0)
                while self.tree(top) != self.tree(self.local):
                    assert time.monotonic() < deadline, f"{top}: not the same in the end"
                    time.sleep(0.1)
        finally:
            for top in (self.tops[0], self.local):
                shutil.rmtree(os.path.join(top, self.name), ignore_errors=True)

    # Ways

    def both(self, path: str, do: Callable[[str], object], *, changes: bool = True) -> object:
        """Do it on both sides; the result, or the errno, must be the same.

        What only looks may look again for a moment, if another client may have done something.
        """
        type(self).count += 1

        def outcome(top: str) -> object:
            try:
                return do(os.path.join(top, self.name, path))
            except OSError as exc:
                return errno.errorcode[exc.errno or 0]

        top = self.turn.choice(self.tops)
        result, wanted = outcome(top), outcome(self.local)
        deadline = time.monotonic() + (MOMENT if len(self.tops) > 1 and not changes else 0.0)
        while result != wanted:
            assert time.monotonic() < deadline, f"{result!r:.200} instead of {wanted!r:.200}"
            time.sleep(0.002)
            result = outcome(top)
        if len(self.tops) > 1 and changes:
            self.settle()
        return wanted

    def settle(self) -> None:
        """Wait until each client sees what there is."""
        wanted = self.outline(self.local)
        deadline = time.monotonic() + MOMENT
        for top in self.tops:
            while (seen := self.outline(top)) != wanted:
                assert time.monotonic() < deadline, f"{top}: {seen} instead of {wanted}"
                time.sleep(0.002)

    def outline(self, top: str) -> list[tuple[str, int, int] | None]:
        """Kind, length and number of names of whatever can be there."""
        told: list[tuple[str, int, int] | None] = []
        for path in (*_FOLDERS[1:], *map("/".join, itertools.product(_FOLDERS, _NAMES))):
            try:
                found = os.lstat(os.path.join(top, self.name, path.lstrip("/")))
            except OSError:
                told.append(None)
                continue
            kind = stat.filemode(found.st_mode)[0]
            told.append((kind, 0, 0) if kind == "d" else (kind, found.st_size, found.st_nlink))
        return told

    def each(self, handle: Handle, do: Callable[[int], object]) -> None:
        """The same with open files."""
        type(self).count += 1
        results = [do(file) for file in handle.files]
        assert results[0] == results[1], f"{results[0]!r:.200} instead of {results[1]!r:.200}"

    def tree(self, top: str) -> dict[str, object]:
        """All that is there. A file that is kept for whoever has it open is not there."""
        found: dict[str, object] = {}
        top = os.path.join(top, self.name)
        for where, below, files in os.walk(top):
            below.sort()
            for name in below + files:
                path = os.path.join(where, name)
                if name.startswith(PREFIX):
                    continue
                if os.path.islink(path):
                    found[path[len(top) :]] = os.readlink(path)
                elif name in files:
                    with open(path, "rb") as file:
                        found[path[len(top) :]] = (os.stat(path).st_nlink, file.read())
                else:
                    found[path[len(top) :]] = None
        return found

    def is_kept_in(self, path: str) -> bool:
        """Whether a folder has a file that only those see who have it open: servers let nobody
        remove the folder then.
        """
        with contextlib.suppress(OSError):
            return any(
                name.startswith(PREFIX)
                for name in os.listdir(os.path.join(self.tops[0], self.name, path))
            )
        return False

    # Names

    @rule(path=paths)
    def create(self, path: str) -> None:
        self.both(path, lambda at: os.close(os.open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both(path, os.unlink)

    @rule(path=folders)
    def mkdir(self, path: str) -> None:
        self.both(path, os.mkdir)

    @rule(path=folders)
    def rmdir(self, path: str) -> None:
        if not self.is_kept_in(path):
            self.both(path, os.rmdir)

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        with contextlib.suppress(OSError):
            many = os.lstat(os.path.join(self.local, self.name, old)).st_nlink > 1
            if many and os.path.dirname(old) != os.path.dirname(new):
                return  # EXDEV: a file has one access list
        self.both(old, lambda at: os.rename(at, at[: len(at) - len(old)] + new))

    @rule(old=folders, new=folders)
    def rename_folder(self, old: str, new: str) -> None:
        if not self.is_kept_in(new):
            self.both(old, lambda at: os.rename(at, at[: len(at) - len(old)] + new))

    @rule(path=paths, name=st.sampled_from(_NAMES))
    def link(self, path: str, name: str) -> None:
        if not os.path.islink(os.path.join(self.local, self.name, path)):
            self.both(path, lambda at: os.link(at, os.path.join(os.path.dirname(at), name)))

    @rule(path=paths, body=paths)
    def symlink(self, path: str, body: str) -> None:
        self.both(path, lambda at: os.symlink(body, at))

    @rule(path=st.sampled_from(_FOLDERS))
    def listdir(self, path: str) -> None:
        def names(at: str) -> list[str]:
            return sorted(name for name in os.listdir(at) if not name.startswith(PREFIX))

        self.both(path, names, changes=False)

    @rule(path=paths)
    def stat(self, path: str) -> None:
        def told(at: str) -> tuple[int, int]:
            found = os.stat(at)
            return found.st_size, found.st_nlink

        self.both(path, told, changes=False)

    # Contents, by path

    @rule(path=paths, seed=seeds, size=sizes)
    def rewrite(self, path: str, seed: int, size: int) -> None:
        def write(at: str) -> None:
            with open(at, "wb") as file:
                file.write(data_of(seed, size))

        self.both(path, write)

    @rule(path=paths, seed=seeds, size=sizes)
    def append(self, path: str, seed: int, size: int) -> None:
        def write(at: str) -> None:
            with open(at, "ab", buffering=0) as file:
                file.write(data_of(seed, size))

        self.both(path, write)

    @rule(path=paths, length=places)
    def truncate(self, path: str, length: int) -> None:
        self.both(path, lambda at: os.truncate(at, length))

    @rule(path=paths)
    def read(self, path: str) -> None:
        def whole(at: str) -> bytes:
            with open(at, "rb") as file:
                return file.read()

        self.both(path, whole, changes=False)

    # Contents, of what is open

    @precondition(lambda self: len(self.tops) == 1)
    @rule(path=paths, truncate=st.booleans())
    def open(self, path: str, truncate: bool) -> None:
        files: list[int] = []
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC * truncate

        def remember(at: str) -> None:
            files.append(os.open(at, flags))

        self.both(path, remember)
        if files:
            self.handles.append(Handle((files[0], files[1])))
            if len(self.handles) > KEPT:
                self.handles.pop(0).close()

    def handle(self, which: int) -> Handle:
        return self.handles[which % len(self.handles)]

    @precondition(lambda self: self.handles)
    @rule(which=seeds)
    def close(self, which: int) -> None:
        handle = self.handle(which)
        self.handles.remove(handle)
        handle.close()

    @precondition(lambda self: self.handles)
    @rule(which=seeds, place=places, seed=seeds, size=sizes)
    def pwrite(self, which: int, place: int, seed: int, size: int) -> None:
        self.each(self.handle(which), lambda file: os.pwrite(file, data_of(seed, size), place))

    @precondition(lambda self: self.handles)
    @rule(which=seeds, place=places, size=sizes)
    def pread(self, which: int, place: int, size: int) -> None:
        self.each(self.handle(which), lambda file: os.pread(file, size, place))

    @precondition(lambda self: self.handles)
    @rule(which=seeds, length=places)
    def ftruncate(self, which: int, length: int) -> None:
        self.each(self.handle(which), lambda file: os.ftruncate(file, length))

    @precondition(lambda self: self.handles)
    @rule(which=seeds)
    def fsync(self, which: int) -> None:
        self.each(self.handle(which), os.fsync)

    @precondition(lambda self: self.handles)
    @rule(which=seeds)
    def fstat(self, which: int) -> None:
        def told(file: int) -> tuple[int, int]:
            found = os.fstat(file)
            return found.st_size, found.st_nlink

        self.each(self.handle(which), told)

    @precondition(lambda self: self.handles)
    @rule(which=seeds)
    def map(self, which: int) -> None:
        handle = self.handle(which)
        handle.unmap()
        if handle.length:
            handle.map()

    @precondition(lambda self: any(handle.maps for handle in self.handles))
    @rule(which=seeds, place=places, seed=seeds, size=sizes, flush=st.booleans())
    def change_mapped(self, which: int, place: int, seed: int, size: int, flush: bool) -> None:
        """Within what the file has still: beyond it is SIGBUS."""
        mapped = [handle for handle in self.handles if handle.maps]
        handle = mapped[which % len(mapped)]
        end = min(handle.length, len(handle.maps[0]))
        start = min(place, end)
        data = data_of(seed, size)[: end - start]
        type(self).count += 1
        for one in handle.maps:
            one[start : start + len(data)] = data
            if flush:
                one.flush()
        assert handle.maps[0][:end] == handle.maps[1][:end]


def main(*arguments: str) -> None:
    *tops, Twins.local, seed, operations = arguments
    Twins.tops = tuple(tops)
    number = int(seed)
    while Twins.count < int(operations):
        settings = hypothesis.settings(
            max_examples=max(1, min(50, (int(operations) - Twins.count) // STEPS)),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        )
        print(f"seed {number}", flush=True)
        run_state_machine_as_test(hypothesis.seed(number)(Twins), settings=settings)
        number += 1
    print(f"{Twins.count} operations")


if __name__ == "__main__":
    main(*sys.argv[1:])
