"""Which instance of a volume the disk has, and that only what must be is kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.cache.disk.instances import Instance, Instances
from tests.unit.afsfuse.cache.disk.desk import CHUNK, VOLUME, Desk, chunk_of

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_entered_is_known_before_and_after_the_index_says_so() -> None:
    rows: dict[tuple[str, int], tuple[int, int]] = {}
    asked: list[int] = []

    def ask(cell: str, volume: int) -> tuple[int, int] | None:
        asked.append(volume)
        return rows.get((cell, volume))

    known = Instances(ask)
    assert known.find("a", 5) is None
    first, second = Instance(1, 1000), Instance(2, 2000)
    known.enter("a", 5, first)
    assert known.find("a", 5) is first
    known.enter("a", 5, second)
    known.settled("a", 5, first)
    assert known.find("a", 5) is second, "the index says what was so before"
    rows["a", 5] = second
    known.settled("a", 5, second)
    assert len(known) == 0
    asked.clear()
    assert [known.find("a", 5) for _ in range(3)] == [second] * 3
    assert asked == [5], "once"
    known.compact()
    assert len(known) == 0
    assert known.find("b", 5) is None


def test_not_all_that_were_asked_for_are_remembered() -> None:
    known = Instances(lambda cell, volume: (volume, 1000))
    for volume in range(1000):
        assert known.find("a", volume) == (volume, 1000)
    assert len(known) <= 256


def test_many_volumes_leave_nothing_in_memory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    volumes = [VOLUME._replace(number=number) for number in range(1, 600)]
    for volume in volumes:
        desk.file(4, CHUNK, volume=volume).put(0, [bytearray(chunk_of(4, 1, 0))])
    desk.settle()
    assert len(desk.cache.instances) == 0, "all are in the index"
    assert all(desk.file(4, CHUNK, volume=volume).has(0) for volume in volumes)
    desk.cache.compact()
    desk.settle()
    assert len(desk.cache.instances) == 0
    assert all(desk.file(4, CHUNK, volume=volume).has(0) for volume in volumes)
    desk.close()
