"""One fault is played: five loads at once, what each of them saw, and whether it survived."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.interop.matrix.faults import Scene
from tests.interop.matrix.loads import LOADS, Load
from tests.interop.matrix.watch import sampled, waiting
from tests.interop.matrix.worker import BLOCK, digest
from tests.interop.mounts import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.matrix.faults import Fault
    from tests.interop.matrix.stage import Place, Stage

START_SECONDS = 60.0
BOUND = 90.0
"""Seconds within which each load has to go on after the fault is over."""
LONG = 300.0
"""Seconds: a fault of such a length has the load that creates files take its time, as what is known
of each of them takes room, and the daemon's memory is judged.
"""
UNHURRIED = 1.0
GROWTH_MAX = 4 << 20
"""Bytes."""
AFTER = b"after, by another client\n"


@dataclass(frozen=True)
class Outcome:
    """What one load saw of one fault. Times are seconds."""

    fault: str
    load: str
    operations: int
    recovered: float | None
    """From the end of the fault to the first thing done; None: not within the bound."""
    longest: float
    """Without anything done, from the begin of the fault on."""
    errors: Counter[int]
    """By errno."""
    problems: list[str]
    """Why it did not survive: wrong bytes, what was confirmed and is gone, unexpected errors."""


def play(stage: Stage, fault: Fault, seconds: float, folder: Path) -> list[Outcome]:
    """Play a fault that lasts about so long (if it has no length of its own)."""
    folder.mkdir()
    loads: list[Load] = []
    facts = {**stage.facts, "pause": UNHURRIED} if seconds >= LONG else stage.facts
    with stage.place(fault.name) as place, sampled(stage.here) as samples:
        try:
            for kind in LOADS:
                loads.append(Load(kind, place.here, folder / kind, facts))
            for load in loads:
                assert eventually(lambda: load.first_done(0.0) is not None, START_SECONDS), (  # noqa: B023
                    f"{load.kind} did not begin: {load.end()}"
                )
            begin = time.monotonic()
            with fault.happens(Scene(stage.cell, place.volume, seconds)):
                over = time.monotonic()
                _change(place)
                loads[0].say(f"look {digest(AFTER)}")
                recovered = _wait_for_all(loads, over)
                end = time.monotonic()
                complaints = {load.kind: load.end() for load in loads}
                kept = eventually(lambda: not stage.unstored(), BOUND)
                lost = _lost(place, loads)
                answered = eventually(lambda: not waiting(stage.here), BOUND)
        finally:
            for load in loads:
                load.kill()
    if samples.growth is not None:
        print(
            f"{fault.name}: the daemon grew by {samples.growth / (1 << 20):.1f} MiB "
            f"to {samples[-1] / (1 << 20):.0f} MiB"
        )
        if seconds >= LONG and samples.growth > GROWTH_MAX:
            lost["idle"].append("the daemon's memory grows")
    if not answered:
        lost["idle"].append("the kernel still waits for something")
    if not kept:
        lost["writing"].append("data that was never stored")
    outcomes = []
    for load in loads:
        errors = Counter(int(event.rest[0]) for event in load.events("error"))
        problems = [f"wrong: {' '.join(event.rest)}" for event in load.events("wrong")]
        problems += [f"missing: {event.rest}" for event in load.events("missing")]
        problems += lost[load.kind]
        problems += filter(None, [complaints[load.kind]])
        problems += [
            f"errno {number}" for number in errors if number not in fault.allowed(load.kind)
        ]
        if recovered[load.kind] is None:
            problems.append(f"nothing done within {BOUND:.0f} s")
        outcomes.append(
            Outcome(
                fault.name, load.kind, sum(1 for _ in load.events("done")),
                recovered[load.kind], load.longest_wait(begin, end), errors, problems,
            )
        )  # fmt: skip
    return outcomes


def _change(place: Place) -> None:
    """Another client writes to the file that the idle load has open."""
    (place.there / "held").write_bytes(AFTER)


def _wait_for_all(loads: list[Load], over: float) -> dict[str, float | None]:
    """How long after the end of the fault each load did something."""
    eventually(lambda: all(load.first_done(over) is not None for load in loads), BOUND)
    first = {load.kind: load.first_done(over) for load in loads}
    return {kind: None if done is None else done - over for kind, done in first.items()}


def _lost(place: Place, loads: list[Load]) -> dict[str, list[str]]:
    """What was confirmed to a load and is not there for another client."""
    lost: dict[str, list[str]] = {load.kind: [] for load in loads}
    for load in loads:
        if load.kind == "writing":
            with (place.there / "big").open("rb", buffering=0) as file:
                for block, wanted in load.sure().items():
                    file.seek(int(block) * BLOCK)
                    if digest(file.read(BLOCK)) != wanted:
                        lost["writing"].append(f"block {block} is not what was confirmed")
        if load.kind == "creating":
            for name, wanted in load.sure().items():
                path = place.there / "new" / name
                if not path.exists() or digest(path.read_bytes()) != wanted:
                    lost["creating"].append(f"{name} is not what was confirmed")
    return lost
