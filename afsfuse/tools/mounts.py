"""`afsfuse mounts`: the trees of all mounts, what keeps each, and what it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from afsfuse.control.places import ask_each
from afsfuse.errors import printable
from afsfuse.tools.common import EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEADER = ("TREE", "VOLUME", "CELL", "TYPE", "SERVER", "IDLE", "HELD", "KEPT BY")
_TYPES = {"read-write": "RW", "read-only": "RO", "backup": "backup"}
_KEEPS_SHOWN = 3
_STATUSES = """\
exit status:
  0   done
  1   wrong command line
  4   a bug of afsfuse
  8   interrupted by the user
  32  no daemon is running, or it did not answer
"""


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "mounts",
        "Show the trees of AFS mounts: each volume that was entered, at each place. A tree that "
        "nothing keeps goes when it was idle for one to two times the period of -o expire=SECONDS.",
        _STATUSES,
    )
    known.add_argument("--json", action="store_true", help="for programs: sizes in bytes, times "
                       "in seconds")  # fmt: skip
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    answers = ask_each("trees")
    trees = [
        {"mount": answer["directory"], "expire": answer["expire"], **tree}
        for answer in answers
        for tree in answer["trees"]
    ]
    if given.json:
        print(json.dumps({"trees": trees}, indent=2))
        return EXIT_OK
    print(table([_HEADER, *map(row, trees)]))
    return EXIT_OK


def row(tree: dict[str, Any]) -> tuple[str, ...]:
    """What is shown of one tree."""
    return (
        printable(tree["path"]),
        tree["volume"],
        tree["cell"],
        _TYPES.get(tree["type"], tree["type"]),
        tree["server"] or "-",
        duration(tree["idle"]),
        size(tree["memory"] + tree["data"]),
        keepers(tree["kept_by"], tree["kept"]),
    )


def keepers(keeps: list[dict[str, str]], count: int) -> str:
    """What keeps a tree, in a few words; these are the first of so many."""
    if not keeps:
        return "-"
    shown = [printable(f"{keep['what']} {keep['who']}".rstrip()) for keep in keeps[:_KEEPS_SHOWN]]
    if count > len(shown):
        shown.append(f"{count - len(shown)} more")
    return ", ".join(shown)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number: int) -> str:
    """Bytes as people say them."""
    return f"{number / 1024:.0f} KiB" if number < 1 << 20 else f"{number / (1 << 20):.1f} MiB"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Lines of which the columns stand below each other."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
