"""Read-ahead over the small files of a directory."""

import random

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.vfs.neighbours import AHEAD, Sequence
from tests.unit.afsfuse.vfs.world import World

NAMES = [b"f%03d" % number for number in range(100)]


def test_two_files_in_a_row_make_a_sequence() -> None:
    sequence = Sequence(NAMES)
    asked = []
    for name in NAMES[:5]:
        sequence.opened(name)
        asked.append(sequence.wanted())
    assert asked == [[], [], NAMES[3 : 3 + AHEAD], [], []]


def test_names_are_asked_for_once_and_several_at_a_time() -> None:
    sequence = Sequence(NAMES)
    asked: list[bytes] = []
    for name in NAMES:
        sequence.opened(name)
        wanted = sequence.wanted()
        assert not wanted or len(wanted) >= AHEAD // 2 or wanted[-1] == NAMES[-1]
        asked += wanted
    assert asked == NAMES[3:][: len(asked)]
    assert len(asked) > len(NAMES) - AHEAD


def test_a_few_names_may_be_left_out() -> None:
    sequence = Sequence(NAMES)
    for name in NAMES[0:9:3]:
        sequence.opened(name)
    assert sequence.wanted()[0] == NAMES[7]


@pytest.mark.parametrize("seed", range(5))
def test_random_order_is_no_sequence(seed: int) -> None:
    names = list(NAMES)
    random.Random(seed).shuffle(names)
    sequence = Sequence(sorted(names))
    asked = 0
    for name in names:
        sequence.opened(name)
        asked += len(sequence.wanted())
    assert asked <= AHEAD


def test_unknown_names_and_going_back_end_a_sequence() -> None:
    sequence = Sequence(NAMES)
    for name in (*NAMES[:3], b"unknown"):
        sequence.opened(name)
    assert sequence.wanted() == []
    for name in (*NAMES[10:13], NAMES[3]):
        sequence.opened(name)
    assert sequence.wanted() == []


async def test_files_opened_one_after_the_other_are_fetched_before_they_are_opened(
    autojump_clock: MockClock,
) -> None:
    world = World()
    folder = world.home.directory(b"d")
    for name in NAMES:
        world.home.file(name, b"content of " + name, at=folder)
    async with world.mounted(source="#root.cell.") as m:
        parent = await m.walk(b"d")
        inodes = [(await m.look_up(parent, name, ANONYMOUS)).inode for name in NAMES]
        world.client.calls.clear()
        for inode in inodes[:3]:
            opened = await m.fs.open(inode, 0, ANONYMOUS)
            await m.fs.read(opened.handle, 0, 100)
            m.fs.release(opened.handle)
        await trio.sleep(1)
        fetched = world.client.calls["fetch_data"]
        assert fetched == 3 + AHEAD
        opened = await m.fs.open(inodes[3], 0, ANONYMOUS)
        assert bytes(await m.fs.read(opened.handle, 0, 100)) == b"content of " + NAMES[3]
        m.fs.release(opened.handle)
        assert world.client.calls["fetch_data"] == fetched
