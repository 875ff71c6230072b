"""One load, in a process of its own: `python worker.py KIND FOLDER LOG FACTS`, FACTS as JSON.

It works in FOLDER until its input says `stop`, and writes to LOG what happened, a line each: `TIME
done`, `TIME error ERRNO`, `TIME wrong WHAT`, `TIME missing COUNT`, `TIME sure NAME DIGEST`. TIME is
CLOCK_MONOTONIC; `sure` is what a server has confirmed. Nothing of the project is imported: this is
a user's program.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 1 << 20
WRITTEN_BLOCKS = 16
PAUSE = 0.02  # seconds between two operations: five loads and a cell share a machine


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Orders:
    """What the input says, looked at without waiting."""

    def __init__(self) -> None:
        self._text = b""

    def lines(self, wait: float = 0.0) -> list[str]:
        """All lines so far."""
        while select.select([0], [], [], wait)[0]:
            more = os.read(0, 4096)
            self._text += more or b"stop\n"  # our parent is gone
            if not more:
                break
        return self._text.decode().splitlines()

    def go_on(self, pause: float = PAUSE) -> bool:
        """Whether to do one more thing, after a moment."""
        return "stop" not in self.lines(pause)


class Log:
    """What happened."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "w", buffering=1)  # noqa: SIM115 - closed with the process

    def note(self, *words: object) -> None:
        print(f"{time.monotonic():.6f}", *words, file=self._file)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """One operation: done, or failed with an errno."""
        try:
            yield
        except OSError as exc:
            self.note("error", exc.errno)
        else:
            self.note("done")


def uncached(descriptor: int) -> int:
    """Have the kernel forget a file's pages, so that the daemon is asked for them."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def idle(orders: Orders, log: Log, facts: dict[str, Any]) -> None:
    """Hold a file open; when told so, see what another client wrote to it."""
    with open("held", "rb", buffering=0) as file:
        log.note("done" if file.read() else "wrong empty")
        while "stop" not in (lines := orders.lines(PAUSE)):
            wanted = [line.split()[1] for line in lines if line.startswith("look ")]
            if not wanted:
                continue
            try:
                found = digest(os.pread(uncached(file.fileno()), BLOCK, 0))
            except OSError as exc:
                log.note("error", exc.errno)
                continue
            if found == wanted[-1]:
                log.note("done")
                break
        while orders.go_on():
            pass


def reading(orders: Orders, log: Log, facts: dict[str, Any]) -> None:
    """Read a big file again and again, larger than the cache."""
    with open(facts["copy"], "rb", buffering=0) as file:
        for number in itertools.cycle(range(len(facts["digests"]))):
            if not orders.go_on():
                return
            with log.attempt():
                data = os.pread(uncached(file.fileno()), BLOCK, number * BLOCK)
                if digest(data) != facts["digests"][number]:
                    log.note("wrong", f"block {number}")


def writing(orders: Orders, log: Log, facts: dict[str, Any]) -> None:
    """Write a big file again and again, a block after the other, each to the server's disk."""
    with open("big", "r+b", buffering=0) as file:
        for number in itertools.count():
            block = number % WRITTEN_BLOCKS
            data = hashlib.shake_128(b"%d" % number).digest(BLOCK)
            stored = False
            while not stored:
                if not orders.go_on():
                    return
                with log.attempt():
                    os.pwrite(file.fileno(), data, block * BLOCK)
                    os.fsync(file.fileno())
                    stored = True
            log.note("sure", block, digest(data))


def walking(orders: Orders, log: Log, facts: dict[str, Any]) -> None:
    """Walk over a tree and read each file, whose content is its path."""
    while orders.go_on():
        found = 0
        troubles: list[OSError] = []
        for folder, _, names in os.walk("tree", onerror=troubles.append):
            for name in names:
                path = os.path.join(folder, name)
                with log.attempt(), open(path, "rb", buffering=0) as file:
                    uncached(file.fileno())
                    if file.read().decode() != path:
                        log.note("wrong", path)
                    found += 1
        for exc in troubles:
            log.note("error", exc.errno)
        if not troubles and found > facts["files"]:
            log.note("wrong", f"{found} files")
        elif not troubles and found < facts["files"]:
            log.note("missing", facts["files"] - found)


def creating(orders: Orders, log: Log, facts: dict[str, Any]) -> None:
    """Make small files, never two of one name."""
    for number in itertools.count():
        if not orders.go_on(facts.get("pause", PAUSE)):
            return
        name = f"f{number:05d}"
        data = f"content of {name}\n".encode() * 50
        with log.attempt():
            with open(f"new/{name}", "xb", buffering=0) as file:
                file.write(data)
            log.note("sure", name, digest(data))


LOADS: dict[str, Callable[[Orders, Log, dict[str, Any]], None]] = {
    load.__name__: load for load in (idle, reading, writing, walking, creating)
}

if __name__ == "__main__":
    os.chdir(sys.argv[2])
    LOADS[sys.argv[1]](Orders(), Log(sys.argv[3]), json.loads(sys.argv[4]))
