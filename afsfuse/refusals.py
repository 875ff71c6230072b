"""What servers and the DNS said and was not believed, counted for the whole process.

What was wrong with packets is counted by `rxrpc`; this is about what stands in them. The counters
are the process's own, as a log is: whoever finds that something cannot be has no other way to a
picture of the mount.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refused(enum.Enum):
    """Kinds of what is refused, in words for people."""

    REPLY = "replies that cannot be"  # each is a `DataCorrupt`
    ADDRESS = "addresses that no server has"
    EXCESS = "servers and addresses too many"


_counts: Counter[Refused] = Counter()


def note(what: Refused, times: int = 1) -> None:
    """Something was refused."""
    _counts[what] += times


def counted() -> Mapping[Refused, int]:
    """How often each kind was refused since the process began."""
    return {what: _counts[what] for what in Refused}
