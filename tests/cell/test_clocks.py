"""Years in which 32 bits are full, or clocks are simply wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.vfs.entry import Attributes, seconds
from tests.unit.afsfuse.vfs.naming import naming_desk

if TYPE_CHECKING:
    from trio.testing import MockClock

ROOT = Path(__file__).parent.parent.parent
DATES = {
    "2019": 1_551_398_400,
    "2021-01-14, when connection ids of OpenAFS ran over": 1_610_612_700,
    "2038, when a signed word is full": 2**31 - 1,
    "2106, when an unsigned one is": 2**32 + 5,
}
YEARS = 365 * 86_400
JUMPS = (10 * YEARS, -10 * YEARS, 3600, -3600)


def set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(time, "time", lambda: now)


@pytest.mark.parametrize("date", DATES)
async def test_files_are_made_and_shown(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    set_clock(monkeypatch, DATES[date])
    async with naming_desk() as desk:
        await desk.walk.mkdir("one/new")
        await desk.walk.create("one/new/file")
        entry = await desk.walk.entry("one/new/file", writable=True)
        assert entry.mtime == DATES[date] % 2**32
        for told in (0, 2**31, 2**32 - 1):
            attributes = Attributes(mtime=seconds(told * 10**9))
            await desk.vfs.setattr(entry.inode, attributes, None, ANONYMOUS)
            shown = await desk.walk.entry("one/new/file", writable=True)
            assert shown.mtime == told


async def test_jumps_of_the_clock_neither_end_nor_prolong_promises(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = time.time()
    async with naming_desk() as desk:
        await desk.walk.create("one/file")
        before = await desk.walk.entry("one/file", writable=True)
        calls = desk.calls()
        for jump in JUMPS:
            set_clock(monkeypatch, begin + jump)
            assert await desk.walk.entry("one/file", writable=True) == before
        assert desk.calls() == calls, "promises ended"
        autojump_clock.jump(6 * 3600)  # longer than any promise
        await desk.walk.entry("one/file", writable=True)
        assert desk.calls() != calls, "a promise was believed beyond its end"


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
@pytest.mark.parametrize("date", ["2019-03-01", "2038-01-20", "2106-03-01"])
def test_tokens_and_all_else_under_that_date(date: str) -> None:
    """A file of this suite in processes that believe in it."""
    words = ["-q", "-p", "no:cacheprovider", "tests/cell/test_access.py", "-k", "democell-crypt"]
    done = subprocess.run(
        ["faketime", "-f", f"@{date} 08:25:00", sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env={**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
