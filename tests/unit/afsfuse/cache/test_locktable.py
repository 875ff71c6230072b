"""The lock table against a model that has a list of bytes, and against the kernel's own locks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afsfuse.cache.locktable import END, LockKind, LockRequest, LockTable, Owner
from afsfuse.interfaces.fileserver import LockType
from tests.mount.harness import Children
from tests.mount.lockers import Locker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 12  # bytes; one more stands for all that are behind
OWNERS = [Owner(LockKind.POSIX, number) for number in range(3)]
READ, WRITE = LockType.READ, LockType.WRITE

ranges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(
    lambda pair: (pair[0], END if pair[1] <= pair[0] else pair[1])
)
steps = st.lists(
    st.tuples(st.sampled_from(OWNERS), st.sampled_from([READ, WRITE, None]), ranges), max_size=25
)


class Model:
    """What each owner has of each byte."""

    def __init__(self) -> None:
        self.bytes: dict[Owner, list[LockType | None]] = {o: [None] * (SIZE + 1) for o in OWNERS}

    @staticmethod
    def places(start: int, end: int) -> range:
        return range(start, SIZE + 1 if end == END else end)

    def blocked(self, owner: Owner, type: LockType, start: int, end: int) -> bool:
        return any(
            held is not None and WRITE in (held, type)
            for other in OWNERS
            if other != owner
            for held in (self.bytes[other][place] for place in self.places(start, end))
        )

    def set(self, owner: Owner, type: LockType | None, start: int, end: int) -> None:
        for place in self.places(start, end):
            self.bytes[owner][place] = type


def shown(table: LockTable, owner: Owner) -> list[LockType | None]:
    """What an owner has of each byte; its spans are sorted, and as few as can be."""
    spans = table.spans(owner)
    for one, next in itertools.pairwise(spans):
        assert one.end < next.start or (one.end == next.start and one.type != next.type)
    found: list[LockType | None] = [None] * (SIZE + 1)
    for span in spans:
        for place in Model.places(span.start, span.end):
            found[place] = span.type
    return found


@given(steps)
def test_it_is_the_model(steps: list[tuple[Owner, LockType | None, tuple[int, int]]]) -> None:
    table, model = LockTable(), Model()
    for owner, type, (start, end) in steps:
        if type is None:
            table.unlock(owner, start, end)
            model.set(owner, None, start, end)
        else:
            request = LockRequest(owner, type, start, end)
            blockers = table.blockers(request)
            assert bool(blockers) == model.blocked(owner, type, start, end)
            assert owner not in {blocker for blocker, _ in blockers}
            starts = [span.start for _, span in blockers]
            assert starts == sorted(starts)
            if not blockers:
                table.lock(request)
                model.set(owner, type, start, end)
        for each in OWNERS:
            assert shown(table, each) == model.bytes[each]
    assert bool(table) == any(any(b is not None for b in bs) for bs in model.bytes.values())


@pytest.fixture(scope="module")
def lockers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Locker, int]]]:
    """Three processes that have one file of this machine open."""
    path: Path = tmp_path_factory.mktemp("locks") / "file"
    path.write_bytes(b"content")
    children = Children()
    processes = [Locker(children) for _ in OWNERS]
    yield [(process, process("open", str(path), "w")) for process in processes]
    children.end()


@settings(max_examples=30)
@given(steps=steps)
def test_it_is_the_kernel(
    lockers: list[tuple[Locker, int]],
    steps: list[tuple[Owner, LockType | None, tuple[int, int]]],
) -> None:
    table = LockTable()
    for process, descriptor in lockers:
        assert process("lock", descriptor, "u") is None
    for owner, type, (start, end) in steps:
        process, descriptor = lockers[owner.number]
        length = 0 if end == END else end - start
        if type is None:
            assert process("lock", descriptor, "u", start, length) is None
            table.unlock(owner, start, end)
            continue
        request = LockRequest(owner, type, start, end)
        free = not table.blockers(request)
        letter = "rw"[type]
        assert (process("test", descriptor, letter, start, length) == ("u",)) == free
        assert process("lock", descriptor, letter, start, length) == (None if free else "EAGAIN")
        if free:
            table.lock(request)


def test_the_kinds_do_not_see_each_other() -> None:
    table = LockTable()
    file = Owner(LockKind.FLOCK, 0)
    table.lock(LockRequest(file, WRITE))
    table.lock(LockRequest(OWNERS[0], WRITE))
    assert table.blockers(LockRequest(Owner(LockKind.FLOCK, 1), READ))
    assert table.blockers(LockRequest(OWNERS[1], READ, 5, 6))
    table.unlock(file)
    assert not table.blockers(LockRequest(Owner(LockKind.FLOCK, 1), WRITE))
    assert table.blockers(LockRequest(OWNERS[1], READ, 5, 6))


def test_who_locked_through_a_handle() -> None:
    table = LockTable()
    table.lock(LockRequest(OWNERS[0], READ, 0, 5, handle=7))
    table.lock(LockRequest(OWNERS[0], READ, 7, 9, handle=8))
    table.lock(LockRequest(OWNERS[1], READ, handle=8))
    assert table.locked_through(7) == [OWNERS[0]]
    assert table.locked_through(8) == OWNERS[:2]
    table.unlock(OWNERS[0], 0, 6)
    assert table.locked_through(7) == [OWNERS[0]]  # too many rather than too few: he has one still
    table.unlock(OWNERS[0])
    assert table.locked_through(7) == []
