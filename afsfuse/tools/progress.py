"""How far a long piece of work is: a line at a terminal that is written over, elsewhere nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PAUSE_SECONDS = 0.1  # between two lines: nobody reads faster
_LOOK_SECONDS = 0.5


class Progress:
    """The line; it goes when this is left. Whoever prints something else clears it before."""

    def __init__(self) -> None:
        self.wanted = sys.stderr.isatty()
        """Whether anybody sees it."""
        self._next = 0.0
        self._there = False

    def __enter__(self) -> Self:
        return self

    def show(self, text: str) -> None:
        """Say how far it is. `text` is printable; what is too wide for the line is cut off."""
        now = time.monotonic()
        if not self.wanted or now < self._next:
            return
        self._next = now + _PAUSE_SECONDS
        self._there = True
        self._write(text[: _columns() - 1])

    def clear(self) -> None:
        """Take the line away."""
        if self._there:
            self._there = False
            self._write("")

    def __exit__(self, *_: object) -> None:
        self.clear()

    @staticmethod
    def _write(text: str) -> None:
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def following(text: Callable[[], str]) -> Iterator[None]:
    """Show at a terminal what `text` says, which is asked now and then while something else waits.

    It is called in a thread; an empty one is not shown.
    """
    import threading

    ended = threading.Event()
    with Progress() as progress:

        def follow() -> None:
            while not ended.wait(_LOOK_SECONDS):
                said = text()
                if said and not ended.is_set():
                    progress.show(said)

        thread = threading.Thread(target=follow, daemon=True)
        if progress.wanted:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if progress.wanted:
                thread.join(1.0)  # it may be asking somebody who does not answer


def _columns() -> int:
    """How wide the terminal is."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):  # it is none, or none of the system's
        return 80
