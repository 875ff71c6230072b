"""The loads as the one who plays a fault sees them: started, told, and read."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.interop.matrix import worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LOADS = tuple(worker.LOADS)
END_SECONDS = 120.0


@dataclass(frozen=True)
class Event:
    """One line of a load's log; see `worker`."""

    time: float
    kind: str
    rest: tuple[str, ...]


class Load:
    """One load at work."""

    def __init__(self, kind: str, folder: Path, log: Path, facts: Mapping[str, Any]) -> None:
        self.kind = kind
        self._log = log
        log.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-S", worker.__file__, kind, str(folder), str(log), json.dumps(facts)],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def events(self, kind: str | None = None) -> Iterator[Event]:
        """What has happened so far, of one kind or all."""
        for line in self._log.read_text().splitlines(keepends=True):
            words = line.split()
            if line.endswith("\n") and kind in (None, words[1]):
                yield Event(float(words[0]), words[1], tuple(words[2:]))

    def first_done(self, since: float) -> float | None:
        """When it first did something after a moment."""
        return next((event.time for event in self.events("done") if event.time >= since), None)

    def longest_wait(self, begin: float, end: float) -> float:
        """The longest time without anything done, between two moments."""
        times = [event.time for event in self.events("done") if begin <= event.time <= end]
        steps = [begin, *times, end]
        return max(after - before for before, after in itertools.pairwise(steps))

    def sure(self) -> dict[str, str]:
        """What was confirmed: the last digest by name."""
        return {event.rest[0]: event.rest[1] for event in self.events("sure")}

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def end(self) -> str:
        """Have it end. -> what it complained of, if it ended by itself or with an error"""
        if self._process.poll() is None:
            self.say("stop")
        _, complaint = self._process.communicate(timeout=END_SECONDS)
        return complaint.decode(errors="replace")

    def kill(self) -> None:
        """Whatever happened, leave no process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
