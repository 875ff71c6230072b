"""What was seen, as text and as the table in docs/reliability.md."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from tests.interop.matrix.faults import FAULTS
from tests.interop.matrix.loads import LOADS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.interop.matrix.faults import Fault
    from tests.interop.matrix.play import Outcome

_MARKED = re.compile(r"(<!-- made from the matrix -->\n).*?(<!-- end -->)", re.DOTALL)


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for each load."""
    return [
        f"{outcome.fault:10} {outcome.load:9} {cell(outcome)}, {outcome.operations} operations"
        f"{'; ' if outcome.problems else ''}{'; '.join(outcome.problems[:5])}"
        for outcome in outcomes
    ]


def cell(outcome: Outcome) -> str:
    """Seconds until it went on, the longest wait, and the errors it saw."""
    if outcome.recovered is None:
        return "not"
    errors = "".join(
        f", {count} {errno.errorcode[number]}" for number, count in sorted(outcome.errors.items())
    )
    return f"{outcome.recovered:.1f} ({outcome.longest:.1f}){errors}"


def row(fault: Fault, outcomes: Sequence[Outcome]) -> str:
    """One line of the table."""
    good = sum(not outcome.problems for outcome in outcomes)
    cells = " | ".join(cell(outcome) for outcome in outcomes)
    seconds = f"{fault.seconds:.0f}" if fault.seconds else "-"
    return f"| {fault.title} | {seconds} | {cells} | {good} of {len(outcomes)} |"


def table(rows: Mapping[str, str]) -> str:
    """Faults by loads, of rows by the names of their faults."""
    head = f"| fault | s | {' | '.join(LOADS)} | survived |"
    lines = [rows[fault.name] for fault in FAULTS if fault.name in rows]
    return "\n".join([head, f"|---|---|{'---|' * len(LOADS)}---|", *lines])


def rows_of(page: str) -> dict[str, str]:
    """The rows that a page has, by the names of their faults."""
    return {
        fault.name: line
        for fault in FAULTS
        for line in page.splitlines()
        if line.startswith(f"| {fault.title} | ")
    }


def renew(page: str, rows: Mapping[str, str]) -> str:
    """The page with these rows; those of other faults stay."""
    everything = {**rows_of(page), **rows}
    return _MARKED.sub(lambda found: f"{found[1]}{table(everything)}\n{found[2]}", page)
