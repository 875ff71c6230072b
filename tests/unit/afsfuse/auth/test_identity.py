"""Who is asking: PAGs before uids, what is remembered, and what fails closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import (
    ANONYMOUS,
    NOBODY,
    Caller,
    Identities,
    Identity,
)
from afsfuse.auth.processes import DEEPEST, Process, TooDeep, Unclear

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = "00000000000000a1"
TWO = "00000000000000a2"


class Tree:
    """Processes as a test has them: number -> (start, parent)."""

    def __init__(self) -> None:
        self.members: dict[int, tuple[int, int]] = {1: (0, 0), 10: (5, 1), 20: (6, 10)}
        self.walks = 0
        self.reads = 0
        self.steps = 0

    def read(self, pid: int) -> tuple[Process, int]:
        self.reads += 1
        if pid not in self.members:
            raise Unclear
        start, parent = self.members[pid]
        return Process(pid, start), parent

    def ancestors(self, pid: int, is_known: Callable[[Process], bool]) -> list[Process]:
        self.walks += 1
        line: list[Process] = []
        while pid:
            if pid not in self.members:
                raise Unclear
            if len(line) == DEEPEST:
                raise TooDeep(line)
            self.steps += 1
            start, parent = self.members[pid]
            line.append(Process(pid, start))
            if len(line) > 1 and is_known(line[-1]):
                break
            pid = parent
        return line

    def deepen(self, first: int, count: int) -> int:
        """Let a process have a child, that another one, and so on; the last one."""
        for number in range(first + 1, first + 1 + count):
            self.members[number] = (9, number - 1)
        return first + count


def identities(tree: Tree, roots: dict[Process, str]) -> Identities:
    return Identities(roots, read=tree.read, ancestors=tree.ancestors)


def asking(tid: int, uid: int = 1000) -> Caller:
    return Caller(uid, uid, tid)


def test_nobody_waits_behind_the_constants() -> None:
    assert ANONYMOUS.tid == 0


def test_without_a_pag_it_is_the_uid_and_nothing_is_read() -> None:
    tree = Tree()
    found = identities(tree, {})
    assert found.of(asking(20)) == Identity(uid=1000)
    assert found.of(asking(666, uid=0)) == Identity(uid=0)
    assert tree.reads == tree.walks == 0


def test_descendants_of_a_root_are_in_its_pag_whatever_their_uid() -> None:
    tree = Tree()
    tree.members |= {30: (7, 20), 40: (8, 1)}
    found = identities(tree, {Process(10, 5): ONE})
    for tid in (10, 20, 30):
        assert found.of(asking(tid)) == Identity(pag=ONE)
        assert found.of(asking(tid, uid=0)) == Identity(pag=ONE)
    assert found.of(asking(40)) == Identity(uid=1000)


def test_the_nearest_root_counts() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 5): ONE, Process(20, 6): TWO})
    assert found.of(asking(20)) == Identity(pag=TWO)
    assert found.of(asking(10)) == Identity(pag=ONE)


def test_a_thread_is_looked_up_once() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 5): ONE})
    for _ in range(5):
        assert found.of(asking(20)) == Identity(pag=ONE)
    assert tree.walks == 1
    assert tree.reads == 5  # its start each time: the number may be another's by now


def test_a_number_that_is_used_again_is_somebody_else() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 5): ONE})
    assert found.of(asking(20)) == Identity(pag=ONE)
    tree.members[20] = (99, 1)
    assert found.of(asking(20)) == Identity(uid=1000)
    tree.members[20] = (120, 10)
    assert found.of(asking(20)) == Identity(pag=ONE)


def test_the_number_of_a_dead_root_is_no_root() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 4): ONE})
    assert found.of(asking(20)) == Identity(uid=1000)


def test_pags_that_begin_and_end_are_noticed() -> None:
    tree = Tree()
    roots: dict[Process, str] = {Process(20, 6): ONE}
    found = identities(tree, roots)
    assert found.of(asking(10)) == Identity(uid=1000)
    roots[Process(10, 5)] = TWO
    found.changed()
    assert found.of(asking(10)) == Identity(pag=TWO)
    del roots[Process(10, 5)]
    found.changed()
    assert found.of(asking(10)) == Identity(uid=1000)


def test_who_is_gone_or_unclear_is_nobody() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 5): ONE})
    assert found.of(asking(77)) == NOBODY
    tree.members[50] = (3, 49)  # its parent cannot be read
    assert found.of(asking(50)) == NOBODY


def test_who_is_out_of_sight_is_in_no_pag() -> None:
    assert identities(Tree(), {Process(10, 5): ONE}).of(asking(0)) == Identity(uid=1000)


def test_what_is_remembered_is_bounded() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 5): ONE})
    for tid in range(100, 10_000):
        tree.members[tid] = (9, 10)
        assert found.of(asking(tid)).pag == ONE
    assert len(found._known) <= 1 << 15


def test_children_of_what_is_known_cost_one_look() -> None:
    """All users wait while a line is looked at; this one has 400, or a root in it."""
    tree = Tree()
    tree.members[1000] = (8, 20)
    deep = tree.deepen(1000, 400)
    for roots in ({Process(10, 5): ONE}, {Process(1200, 9): ONE}, {Process(999, 9): ONE}):
        found = identities(tree, roots)
        first = found.of(asking(deep))
        tree.steps = 0
        for tid in range(5000, 5100):
            tree.members[tid] = (9, deep)
            assert found.of(asking(tid)) == first
        assert tree.steps <= 200


def test_too_deep_is_looked_at_once() -> None:
    tree = Tree()
    tree.members[1000] = (8, 20)
    deep = tree.deepen(1000, 3 * DEEPEST)
    found = identities(tree, {Process(10, 5): ONE})
    assert found.of(asking(deep)) == NOBODY
    tree.steps = 0
    assert found.of(asking(deep)) == NOBODY
    for tid in range(5000, 5100):
        tree.members[tid] = (9, deep - tid % 2)
        assert found.of(asking(tid)) == NOBODY
    assert tree.steps <= 200
    assert found.of(asking(1000)) == Identity(pag=ONE)  # which is the root of that tree


def test_a_root_in_sight_counts_however_deep_it_is() -> None:
    tree = Tree()
    tree.members[1000] = (8, 20)
    deep = tree.deepen(1000, 3 * DEEPEST)
    found = identities(tree, {Process(deep - 5, 9): TWO})
    assert found.of(asking(deep)) == Identity(pag=TWO)


def test_an_ancestor_whose_number_is_used_again_is_looked_at_anew() -> None:
    tree = Tree()
    found = identities(tree, {Process(10, 5): ONE})
    assert found.of(asking(20)) == Identity(pag=ONE)
    tree.members |= {20: (50, 1), 30: (60, 20)}
    assert found.of(asking(30)) == Identity(uid=1000)


@pytest.mark.parametrize(
    "identity", [Identity(uid=0), Identity(uid=1000), Identity(uid=4294967295), Identity(pag=ONE)]
)
def test_an_identity_and_its_text(identity: Identity) -> None:
    assert Identity.parse(identity.text) == identity
    assert str(identity) == identity.text


@pytest.mark.parametrize(
    "text", ["", "nobody", "uid-", "uid-01", "uid--1", "pag-1", "pag-" + "G" * 16, "uid-1\n"]
)
def test_text_that_is_no_identity(text: str) -> None:
    assert Identity.parse(text) is None
