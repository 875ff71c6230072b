"""What was found."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.Enum):
    """How something is."""

    WELL = "well"
    NOTE = "note"  # it works without; whoever wants it is told what to do
    WRONG = "wrong"


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: State
    text: str
    advice: str = ""


def well(what: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(what, State.WELL, text)


def note(what: str, text: str, advice: str = "") -> Finding:
    """Something to know."""
    return Finding(what, State.NOTE, text, advice)


def wrong(what: str, text: str, advice: str) -> Finding:
    """Something that keeps AFS from working, or from working well."""
    return Finding(what, State.WRONG, text, advice)
