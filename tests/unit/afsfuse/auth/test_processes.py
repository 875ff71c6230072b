"""Processes and their parents, on those of the kernel; races are played with a fake /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth import processes
from afsfuse.auth.processes import DEEPEST, Kin, Process, TooDeep, Unclear, alive, kin, lineage

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_this_process_and_its_parent() -> None:
    me = kin(os.getpid())
    assert me.process.pid == os.getpid()
    assert me.parent == os.getppid()
    assert me.process.start > 0
    assert alive(me.process)


def test_the_lineage_ends_at_the_first_process() -> None:
    line = lineage(os.getpid())
    assert [one.pid for one in line[:2]] == [os.getpid(), os.getppid()]
    assert kin(line[-1].pid).parent == 0
    assert [one.start for one in line] == sorted((one.start for one in line), reverse=True)


def test_a_thread_belongs_to_its_process() -> None:
    told: list[list[Process]] = []

    def look() -> None:
        told.append([Process(threading.get_native_id(), 0), *lineage(threading.get_native_id())])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    (line,) = told
    assert line[0].pid == line[1].pid != os.getpid()
    assert line[2] == kin(os.getpid()).process


def test_a_name_may_hold_anything() -> None:
    code = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) R 1 (b c', 0, 0, 0);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert kin(child.pid).parent == os.getpid()
        child.communicate(b"")


def test_who_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        process = kin(child.pid).process
    assert not alive(process)
    with pytest.raises(Unclear):
        lineage(process.pid)


def test_another_process_of_this_number() -> None:
    me = kin(os.getpid()).process
    assert not alive(Process(me.pid, me.start + 1))


class Looks:
    """What each look at a process is to find, in order; the last one stays."""

    def __init__(self, **answers: Sequence[Kin | None]) -> None:
        self._answers = {int(name[1:]): list(them) for name, them in answers.items()}

    def __call__(self, pid: int) -> Kin:
        them = self._answers[pid]
        found = them.pop(0) if len(them) > 1 else them[0]
        if found is None:
            raise Unclear
        return found


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(processes, "leader", lambda tid: tid)
    return monkeypatch


def member(pid: int, start: int, parent: int) -> Kin:
    return Kin(Process(pid, start), parent)


INIT = [member(1, 0, 0)]


def test_a_reused_number_is_no_ancestor(proc: pytest.MonkeyPatch) -> None:
    """Its parent 7 died while we looked; 7 is a younger process of a PAG now."""
    looks = Looks(p9=[member(9, 50, 7), member(9, 50, 1)], p7=[member(7, 60, 3)], p3=INIT, p1=INIT)
    proc.setattr(processes, "kin", looks)
    assert lineage(9) == [Process(9, 50), Process(1, 0)]


def test_nor_is_one_that_is_as_old(proc: pytest.MonkeyPatch) -> None:
    """Within one tick of the clock the starts say nothing; the second look does."""
    looks = Looks(p9=[member(9, 50, 7), member(9, 50, 1)], p7=[member(7, 50, 1)], p1=INIT)
    proc.setattr(processes, "kin", looks)
    assert lineage(9) == [Process(9, 50), Process(1, 0)]


def test_a_tree_that_never_rests_is_unclear(proc: pytest.MonkeyPatch) -> None:
    restless: list[Kin | None] = [member(9, 50, 7 + number % 2) for number in range(100)]
    looks = Looks(p9=restless, p7=[member(7, 1, 1)], p8=[member(8, 1, 1)], p1=INIT)
    proc.setattr(processes, "kin", looks)
    with pytest.raises(Unclear):
        lineage(9)


def test_a_parent_that_ends_in_between(proc: pytest.MonkeyPatch) -> None:
    looks = Looks(p9=[member(9, 50, 7), member(9, 50, 1)], p7=[None], p1=INIT)
    proc.setattr(processes, "kin", looks)
    assert lineage(9) == [Process(9, 50), Process(1, 0)]


def test_a_loop_is_no_lineage(proc: pytest.MonkeyPatch) -> None:
    proc.setattr(processes, "kin", Looks(p9=[member(9, 5, 8)], p8=[member(8, 5, 9)]))
    with pytest.raises(Unclear):
        lineage(9)


def test_the_line_ends_at_who_is_known() -> None:
    me, parent = kin(os.getpid()).process, kin(os.getppid()).process
    assert lineage(os.getpid(), lambda one: one == parent) == [me, parent]


def test_generations_without_end_are_looked_at_twice_and_no_more(proc: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def endless(pid: int) -> Kin:
        looks.append(pid)
        return member(pid, 5, pid + 1)

    proc.setattr(processes, "kin", endless)
    with pytest.raises(TooDeep) as caught:
        lineage(9)
    assert caught.value.line == [Process(pid, 5) for pid in range(9, 9 + DEEPEST)]
    assert len(looks) == 2 * DEEPEST
    assert len(lineage(9, lambda one: one.pid == 8 + DEEPEST)) == DEEPEST
