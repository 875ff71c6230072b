"""What of `docs/observing.md` is made from the source: `python -m tests.tools.observing`.

As `tests.tools.guide` does it for `docs/rxrpc.md`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.control.loglevels import ALL, PARTS
from afsfuse.control.metrics import Figures
from tests.tools.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parent.parent.parent / "docs" / "observing.md"
_MARKED = re.compile(r"(<!-- made from ([\w/. ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def parts() -> str:
    """What `afsfuse log` can be told of."""
    rows = ["| part | its loggers |", "|---|---|"]
    for part, names in PARTS.items():
        loggers = ", ".join(f"`{name}`" for name in names)
        rows.append(f"| `{part}` | {loggers}{', and all below' if part == ALL else ''} |")
    return "\n".join(rows)


def metrics() -> str:
    """Everything that Prometheus is told."""
    rows = ["| name | kind | labels | |", "|---|---|---|---|"]
    for family in Figures(picture).collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(rows)


MADE: dict[str, Callable[[], str]] = {
    "control/loglevels.py": parts,
    "control/metrics.py": metrics,
}


def renew(page: str) -> str:
    """The page with all that is made from the source as it is now."""
    return _MARKED.sub(lambda mark: f"{mark[1]}{MADE[mark[2]]()}\n{mark[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(renew(PAGE.read_text()))
