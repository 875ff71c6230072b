"""The time of day as AFS has it."""

from __future__ import annotations

import time

_WORD = 0xFFFFFFFF


def seconds() -> int:
    """Seconds since 1970, in the 32 bits that the wire has for them: in 2106 they begin anew."""
    return int(time.time()) & _WORD
