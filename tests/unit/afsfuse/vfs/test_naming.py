"""Names in a cell behave as names in a local directory do, whatever is done to them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cell.twin import VERBS, Step, Twin
from tests.unit.afsfuse.vfs.naming import naming_desk

NAMES = ("a", "b", "c", "a-name-that-takes-more-than-one-blob-" + "x" * 40)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.builds(Step, st.sampled_from(VERBS), PATHS, PATHS, st.integers(0, 1)),
    min_size=1, max_size=80,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_names_are_those_of_a_local_directory(steps: list[Step]) -> None:
    async def compared(local: Path) -> None:
        async with naming_desk() as desk:
            twin = Twin(desk.walk, ["one", "two"], local)
            for step in steps:
                await twin.step(step)
            await twin.compare()
            assert desk.cache.changer.reloads == 0

    with tempfile.TemporaryDirectory() as local:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(compared, Path(local), clock=clock)
