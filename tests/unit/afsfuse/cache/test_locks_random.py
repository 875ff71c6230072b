"""Many processes of several machines at random: nobody has what another one excludes."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache.locks import END, LockMode
from afsfuse.errors import AfsError
from tests.unit.afsfuse.cache.lockworld import FID, READ, WRITE, LockServer, Machine, machine

if TYPE_CHECKING:
    from trio.testing import MockClock

    from afsfuse.interfaces.fileserver import LockType

MACHINES, PROCESSES, TURNS = 3, 4, 40


@dataclass(eq=False)
class Held:
    """What a process knows that it has."""

    machine: int
    kind: str
    owner: int
    type: LockType
    start: int
    end: int


class Crowd:
    """Who has what, according to those who have it."""

    def __init__(self, mode: LockMode, rng: random.Random) -> None:
        self.held: list[Held] = []
        self.mode = mode
        self.rng = rng
        self.grants = 0

    def excludes(self, one: Held, other: Held) -> bool:
        if (one.machine, one.kind, one.owner) == (other.machine, other.kind, other.owner):
            return False
        if WRITE not in (one.type, other.type):
            return False
        if one.machine == other.machine:
            return one.kind == other.kind and one.start < other.end and other.start < one.end
        whole = all((held.start, held.end) == (0, END) for held in (one, other))
        return whole or self.mode is not LockMode.OPENAFS

    def got(self, new: Held) -> None:
        self.grants += 1
        assert not [other for other in self.held if self.excludes(new, other)], new
        self.held.append(new)

    async def process(self, machines: list[Machine], number: int, owner: int) -> None:
        rng, machine = self.rng, machines[number]
        for _ in range(TURNS):
            await trio.sleep(rng.choice((0, 0.001, 0.1, 1)))
            kind = rng.choice(("flock", "fcntl"))
            start, end = (0, END) if kind == "flock" or rng.random() < 0.5 else (owner, owner + 2)
            wanted = Held(number, kind, owner, rng.choice((READ, READ, WRITE)), start, end)
            if await self.take(machine, wanted, wait=rng.random() < 0.6):
                await trio.sleep(rng.choice((0, 0.01, 1, 10)))
                if rng.random() < 0.2 and start == 0:  # in place: stronger, or weaker
                    again = Held(number, kind, owner, rng.choice((READ, WRITE)), start, end)
                    if kind == "flock":
                        self.held.remove(wanted)  # it may go, whatever comes of it
                        await self.take(machine, again, wait=rng.random() < 0.5)
                    elif await self.take(machine, again, wait=False):
                        self.held.remove(wanted)
                    await trio.sleep(rng.choice((0, 1)))
            await self.let_go(machine, wanted)

    async def take(self, machine: Machine, wanted: Held, *, wait: bool) -> bool:
        """Lock, with a patience that may end."""
        with trio.move_on_after(self.rng.choice((0.005, 1, 30))):
            try:
                if wanted.kind == "flock":
                    await machine.flock(wanted.owner, wanted.type, wait=wait)
                else:
                    await machine.fcntl(
                        wanted.owner, wanted.type, wanted.start, wanted.end, wait=wait
                    )
            except AfsError:
                return False
            self.got(wanted)
            return True
        return False

    async def let_go(self, machine: Machine, wanted: Held) -> None:
        self.held = [
            held
            for held in self.held
            if (held.machine, held.kind, held.owner) != (wanted.machine, wanted.kind, wanted.owner)
        ]
        if wanted.kind == "flock":
            if self.rng.random() < 0.5:
                machine.locks.released(machine.volume, FID, wanted.owner)
            else:
                await machine.flock(wanted.owner, None)
        else:
            await machine.fcntl(wanted.owner, None)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", [LockMode.OPENAFS, LockMode.STRICT, LockMode.WRITE])
async def test_nobody_has_what_another_one_excludes(
    autojump_clock: MockClock, mode: LockMode, seed: int
) -> None:
    server = LockServer()
    crowd = Crowd(mode, random.Random(seed))
    async with AsyncExitStack() as stack:
        machines = [await stack.enter_async_context(machine(server, mode)) for _ in range(MACHINES)]
        with trio.fail_after(100_000):
            async with trio.open_nursery() as nursery:
                for number in range(MACHINES):
                    for owner in range(1, PROCESSES + 1):
                        nursery.start_soon(crowd.process, machines, number, owner)
        await trio.sleep(400)  # what was asked for and given up comes back, or expires
        assert server.count == 0
        assert [each.locks.files for each in machines] == [0] * MACHINES
        assert not any(each.locks.posix for each in machines)
    assert crowd.grants > 100
