"""Processes and their parents, as the kernel tells of them in /proc.

A process number alone names nobody for long: it is used again. With the time of the process's
start it does, since no number comes round within one tick of the kernel's clock.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 500
"""Generations that are looked at: deeper than any sane tree, and an end to every walk."""
NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Why a file cannot be opened that says nothing of the file."""
_ATTEMPTS = 8  # at a tree that changes while it is read


class Process(NamedTuple):
    """A process or thread that is, or was."""

    pid: int
    start: int
    """When it started: clock ticks since the machine did."""


class Kin(NamedTuple):
    """A process and the number of its parent; 0 if that is out of sight."""

    process: Process
    parent: int


class Unclear(Exception):
    """The tree could not be read: the process is gone, hidden, or its parents change for ever."""


class NoRoom(Unclear):
    """The system has no descriptor to look with: it says nothing of the process."""


class TooDeep(Unclear):
    """There are more generations than are looked at."""

    def __init__(self, line: list[Process]) -> None:
        super().__init__()
        self.line = line
        """Those that were, the youngest first."""


def kin(pid: int) -> Kin:
    """A process or thread, and its parent. Raises `Unclear`.

    The parent is the real one: a debugger does not become it. Source: proc_pid_stat(5), where the
    parent is field 4 and the start field 22, counted from behind the name's closing parenthesis,
    for a name may hold anything.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise NoRoom if exc.errno in NO_ROOM else Unclear from None
    try:
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    except OSError:  # it ended in this very moment
        raise Unclear from None
    finally:
        os.close(descriptor)
    return Kin(Process(pid, int(fields[19])), int(fields[1]))


def leader(tid: int) -> int:
    """The number of the process that a thread belongs to. Raises `Unclear`."""
    try:
        with open(f"/proc/{tid}/status", "rb") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(b"Tgid:"))
    except (OSError, StopIteration):
        raise Unclear from None


def _not_known(_: Process) -> bool:
    return False


def lineage(tid: int, is_known: Callable[[Process], bool] = _not_known) -> list[Process]:
    """A thread, its process, and the ancestors of that; the last is the first process of all, or
    else the first ancestor that `is_known`.

    Raises `Unclear`. It is the state of one moment: parents are read twice, and nobody is older
    than a parent. So a number that was used again between two looks is not taken for an ancestor.
    """
    before: list[Kin] | None = None
    for _ in range(_ATTEMPTS):
        try:
            line = _line(tid, is_known)
        except Unclear:
            kin(tid)  # raises if it is the process itself that is gone
            continue
        if line == before:
            processes = [member.process for member in line]
            if line[-1].parent and len(line) == DEEPEST and not is_known(processes[-1]):
                raise TooDeep(processes)
            return processes
        before = line
    raise Unclear


def _line(tid: int, is_known: Callable[[Process], bool]) -> list[Kin]:
    """As it is at a look; no more than are looked at."""
    line = [kin(tid)]
    if (pid := leader(tid)) != tid:
        line[0] = Kin(line[0].process, pid)
    while (parent := line[-1].parent) != 0 and len(line) < DEEPEST:
        line.append(kin(parent))
        if line[-1].process.start > line[-2].process.start:
            raise Unclear
        if is_known(line[-1].process):
            break
    return line


def alive(process: Process) -> bool:
    """Whether this very process still exists (or waits to be reaped), as far as can be seen."""
    try:
        return kin(process.pid).process == process
    except NoRoom:
        return True
    except Unclear:
        return False


def process_of(thread: int) -> int:
    """The process of a thread, by number; 0 if it is gone or out of sight."""
    try:
        with open(f"/proc/{thread}/status", "rb") as status:
            lines = status.read().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(b"Tgid:")), 0)
