"""A daemon that dies at any moment leaves a cache that gives right bytes or none."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from afsfuse.cache.disk.folder import measure
from tests.mount.harness import ROOT
from tests.unit.afsfuse.cache.disk.desk import CHUNK, Desk, contents

LIMIT = 16 << 20
FOLDERS = 64 << 10
"""Bytes that folders take."""
VNODES = st.sampled_from(range(2, 26, 2))
LENGTHS = {vnode: random.Random(vnode).choice((77, CHUNK, 6 * CHUNK + 1, 9 << 20))
           for vnode in range(2, 26, 2)}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Fifty rounds each: `python -m …crashing FOLDER SEED ROUNDS` does more."""
    print(f"seed {seed}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.afsfuse.cache.disk.crashing", tmp_path, str(seed), "50"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("all right\n"), done.stdout + done.stderr


class Crashes(RuleBasedStateMachine):
    """Puts, reads, restarts and crashes, against what files hold.

    A crash is a copy of the folder while the writer rests between two jobs, with the last
    transaction still open.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._top = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-")))
        self._number = 0
        self.desk = Desk(self._top / "0", LIMIT)
        self.sure: set[int] = set()
        """Files that were written whole, and for good, and have not left since."""

    @rule(vnode=VNODES, first=st.integers(0, 300), count=st.integers(1, 300))
    def put(self, vnode: int, first: int, count: int) -> None:
        chunks = -(-LENGTHS[vnode] // CHUNK)
        first = min(first, chunks - 1)
        self.desk.put(vnode, LENGTHS[vnode], first, min(count, chunks - first))

    @rule(vnode=VNODES)
    def put_whole(self, vnode: int) -> None:
        self.desk.put(vnode, LENGTHS[vnode])
        self.desk.settle(committed=False)

    @rule(vnode=VNODES, start=st.floats(0, 1), size=st.integers(1, 1 << 20))
    def read(self, vnode: int, start: float, size: int) -> None:
        length = LENGTHS[vnode]
        offset = min(int(start * length), length - 1)
        end = min(length, offset + size)
        read = self.desk.get(vnode, length, offset, end)
        assert read in (None, contents(vnode, 1, length)[offset:end])

    @rule()
    def settle(self) -> None:
        self.desk.settle()
        self.sure = {v for v, length in LENGTHS.items() if self.desk.get(v, length) is not None}
        self._evicted = self.desk.cache.statistics().evicted

    @rule()
    def crash(self) -> None:
        with self.desk.held():
            self._number += 1
            there = self._top / str(self._number)
            source = self._top / str(self._number - 1)  # with its holes: blocks are counted
            subprocess.run(["cp", "-a", "--sparse=always", source, there], check=True)
            evicted = self.desk.cache.statistics().evicted
        self.desk.close()
        shutil.rmtree(self._top / str(self._number - 1))
        self._begin_again(there, evicted)

    @rule()
    def restart(self) -> None:
        self.desk.settle()
        evicted = self.desk.cache.statistics().evicted
        counted = self.desk.cache.budget.parts
        self.desk.close()
        self._begin_again(self._top / str(self._number), evicted)
        assert self.desk.cache.budget.parts == counted

    def _begin_again(self, there: Path, evicted: int) -> None:
        self.desk = Desk(there, LIMIT)
        if self.sure and evicted == self._evicted:
            for vnode in self.sure:
                assert self.desk.get(vnode, LENGTHS[vnode]) is not None, "it was there for good"
        self.sure = set()
        assert not self.desk.cache.statistics().damaged

    @invariant()
    def within_the_limit(self) -> None:
        with self.desk.held():
            assert measure(self._top / str(self._number)) <= LIMIT
            budget = self.desk.cache.budget
            assert measure(self.desk.room.parts) <= budget.parts + FOLDERS

    def teardown(self) -> None:
        self.desk.close()
        self._stack.close()


Crashes.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_crashes = Crashes.TestCase
