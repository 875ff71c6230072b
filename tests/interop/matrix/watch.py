"""A daemon, looked at while loads meet a fault: its memory, and what waits in the kernel."""

from __future__ import annotations

import os
import re
import statistics
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mount.fusectl import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.mounts import RealMount

SAMPLE_SECONDS = 5.0
_SAMPLES_MIN = 40
_RSS_ANON = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


def waiting(mount: RealMount) -> int:
    """Requests of the kernel that have no answer."""
    return number_of(str(os.minor(os.stat(mount.point).st_dev)), "waiting")


def memory(mount: RealMount) -> int:
    """What the daemon has for itself, in bytes."""
    text = Path(f"/proc/{mount.daemon.pid}/status").read_text()
    found = _RSS_ANON.search(text)
    assert found, text
    return int(found[1]) << 10


class Samples(list[int]):
    """Of a daemon's memory, in bytes, one each `SAMPLE_SECONDS`."""

    @property
    def growth(self) -> int | None:
        """How much more the last quarter of the time saw than the second one; None for a time that
        is too short to say so. In the first quarter whatever is kept is filled.
        """
        if len(self) < _SAMPLES_MIN:
            return None
        quarter = len(self) // 4
        return int(
            statistics.median(self[-quarter:]) - statistics.median(self[quarter : 2 * quarter])
        )


@contextmanager
def sampled(mount: RealMount) -> Iterator[Samples]:
    """Have the memory of a mount's daemon looked at in a thread."""
    samples, over = Samples(), threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_SECONDS):
            samples.append(memory(mount))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
