"""Reading a mount table, `/proc/PID/mountinfo`. Source: proc_pid_mountinfo(5).

Whoever may mount, and with `fusermount3` that is everybody, chooses a path in the table that all
others read. The kernel writes blanks, tabs, line feeds and backslashes in it as `\\040` and so on,
and nothing else. So lines end at a line feed and words at a blank, and at nothing else that might
be taken for white space, of which Unicode has much.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Line(NamedTuple):
    """One mount."""

    number: int
    parent: int
    """The number of the mount on which it stands."""
    device: str
    """`major:minor` of the mounted file system."""
    root: bytes
    """The directory of the file system that is shown."""
    point: bytes
    """Where, as a path from the root of whoever reads the table."""
    type: str
    source: bytes
    options: str
    """The file system's own ones, such as `user_id=0`."""


def parse(table: bytes) -> list[Line]:
    """The mounts of a table, oldest first; lines that are none are left out."""
    lines = []
    for text in table.split(b"\n"):
        before, separator, after = text.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if separator and len(left) >= 6 and len(right) >= 2:
            number, parent, device, root, point = left[:5]
            kind, source, *options = right
            lines.append(
                Line(
                    int(number), int(parent), device.decode(), _plain(root), _plain(point),
                    kind.decode(errors="replace"), _plain(source),
                    options[0].decode(errors="replace") if options else "",
                )
            )  # fmt: skip
    return lines


def _plain(field: bytes) -> bytes:
    """A field without its escapes."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
