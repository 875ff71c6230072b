"""The table of reads with a token, and what counts as a processor's time."""

from __future__ import annotations

import os
import threading

from tests.bench import secured
from tests.bench.__main__ import reached
from tests.bench.secured import Figures, as_table, cpu_seconds


def figures(share: float) -> list[Figures]:
    return [
        Figures("clear", [100.0, 120.0, 110.0], [0.5, 0.6, 0.7], [0.7, 0.8, 0.9], [0.9, 0.9, 0.9]),
        Figures("crypt", [50.0], [0.5], [share], [0.4], [33.0]),
    ]


def test_the_table_has_medians() -> None:
    clear, crypt = as_table(figures(1.1)).splitlines()[2:]
    assert clear == "| crypt=clear | 100 MiB/s | 110 MiB/s | 120 MiB/s | 60% | 80% | 90% | - |"
    assert "| 50 MiB/s | 50% | 110% | 40% | 33 MiB/s |" in crypt


def test_a_file_server_that_is_idle_is_a_target_missed() -> None:
    assert reached(figures(secured.SHARE_TO_REACH)) == 0
    assert reached(figures(secured.SHARE_TO_REACH - 0.01)) == 1


def test_the_time_of_all_threads_counts() -> None:
    before, _waited = cpu_seconds(os.getpid())
    release = threading.Event()
    ready = threading.Event()

    def work() -> None:
        sum(range(3_000_000))
        ready.set()
        release.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    used = cpu_seconds(os.getpid())[0] - before
    release.set()
    thread.join()
    assert used > 0.001
