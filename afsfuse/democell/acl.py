"""Access lists: who may do what in a directory, and who may not whatever else is said.

The text is what `FetchACL` and `StoreACL` carry: the number of positive and of negative entries, a
line each, then a line for each entry: name, tab, rights in decimal.
Source: src/libacl/aclprocs.c of OpenAFS.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from afsfuse.democell.refusal import Refused
from afsfuse.model import Rights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from afsfuse.democell.people import People

MAX_ENTRIES = 20  # ACL_MAXENTRIES
ALL_RIGHTS = int(
    Rights.READ | Rights.WRITE | Rights.INSERT | Rights.LOOKUP
    | Rights.DELETE | Rights.LOCK | Rights.ADMINISTER
)  # fmt: skip
READ_RIGHTS = int(Rights.READ | Rights.LOOKUP)

_COUNTS = re.compile(rb"\s*(\d+)\s+(\d+)")
_ENTRY = re.compile(rb"\s*([^\s\0]{1,63})\s+(-?\d{1,10})[^\n]*\n")


@dataclass(frozen=True)
class AccessList:
    """Rights by number of a user or group, in the order of the numbers."""

    positive: Mapping[int, int] = field(default_factory=dict)
    negative: Mapping[int, int] = field(default_factory=dict)

    def rights(self, groups: Collection[int]) -> int:
        """What somebody may do who is all of these."""
        granted = denied = 0
        for who, rights in self.positive.items():
            if who in groups:
                granted |= rights
        for who, rights in self.negative.items():
            if who in groups:
                denied |= rights
        return granted & ~denied

    def text(self, people: People) -> bytes:
        """As it is sent, with the NUL at the end."""
        lines = [b"%d" % len(self.positive), b"%d" % len(self.negative)]
        for entries in (self.positive, self.negative):
            lines += [
                b"%s\t%d" % (people.name_of(who), _signed(entries[who])) for who in sorted(entries)
            ]
        return b"\n".join(lines) + b"\n\0"

    @classmethod
    def parse(cls, text: bytes, people: People) -> AccessList:
        """The list that a text stands for; refuses (EINVAL) one that makes no sense, or names
        somebody whom nobody knows.
        """
        text, nul, _ = text.partition(b"\0")
        counts = _COUNTS.match(text)
        if not nul or counts is None:
            raise Refused(errno.EINVAL, "no access list")
        numbers = [int(counts[1]), int(counts[2])]
        if sum(numbers) > MAX_ENTRIES:
            raise Refused(errno.EINVAL, f"an access list has {MAX_ENTRIES} entries at most")
        at = text.find(b"\n", counts.end()) + 1 or len(text)
        lists: list[dict[int, int]] = []
        for count in numbers:
            entries: dict[int, int] = {}
            for _ in range(count):
                entry = _ENTRY.match(text, at)
                who = None if entry is None else people.id_of(entry[1])
                if entry is None or who is None:
                    raise Refused(errno.EINVAL, "an entry of an access list makes no sense")
                entries[who] = int(entry[2]) & 0xFFFFFFFF
                at = entry.end()
            lists.append(entries)
        return cls(*lists)


def _signed(rights: int) -> int:
    """As `printf` shows it: the highest right is the sign."""
    return rights - 2**32 if rights >= 2**31 else rights
