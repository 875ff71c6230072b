"""How far a long piece of work is, at a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import termios
import threading
from typing import TYPE_CHECKING

import pytest

from afsfuse.tools import progress
from afsfuse.tools.progress import Progress, following

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def terminal(patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has standard error be a terminal of 20 columns; what it gives says what must come there."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 20))
    with open(reader, "rb", buffering=0), open(writer, "w", encoding="utf-8") as stream:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(progress, "_PAUSE_SECONDS", 0.0)
        patch.setattr(progress, "_LOOK_SECONDS", 0.001)

        def comes(text: str) -> None:
            there = ""
            while len(there) < len(text):  # it comes in pieces
                there += os.read(reader, 1 << 16).decode()
            assert there == text

        yield comes
        patch.undo()


def test_the_line_is_written_over_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as comes:
        with Progress() as line:
            line.show("one of two")
            line.show("two of two, of which the name is long")
            comes("\r\x1b[Kone of two\r\x1b[Ktwo of two, of whic")
            line.clear()
            line.clear()
            comes("\r\x1b[K")
            line.show("more")
        comes("\r\x1b[Kmore\r\x1b[K")


def test_what_waits_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = threading.Event()
    answers = iter(["", "7 are left"])

    def text() -> str:
        said = next(answers, None)
        if said is None:
            twice.set()
        return said or ""

    with terminal(monkeypatch) as comes:
        with following(text):
            assert twice.wait(30.0)
        comes("\r\x1b[K7 are left\r\x1b[K")


def test_elsewhere_it_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as line, following(lambda: pytest.fail("nobody sees it")):
        line.show("nobody sees this")
        line.clear()
    assert capsys.readouterr() == ("", "")
