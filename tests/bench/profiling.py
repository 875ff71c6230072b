"""Where a cold read spends its time, by room of the architecture."""

from __future__ import annotations

import pstats
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def room(file: str, function: str) -> str:
    """The room that a profiled function belongs to; system calls count by their own names."""
    if file == "~":
        if "socket" in function:
            return f"system calls: {function.strip('<>{}').split()[1]}"
        if "select.epoll" in function:
            return "waiting for something to do"
        return "built-in functions of Python"
    path = Path(file)
    if path.is_relative_to(ROOT):
        inside = path.relative_to(ROOT).parts
        if inside[0] in ("rxrpc", "afsfuse"):
            return "/".join(inside[:2]).removesuffix(".py")
    for library in ("trio", "pyfuse3", "outcome"):
        if library in path.parts or library in path.name:
            return library
    return "the rest of Python"


def by_room(profile: Path) -> list[tuple[str, float]]:
    """Seconds spent in the functions of each room themselves, most first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    statistics: dict[tuple[str, int, str], tuple[int, int, float, float, object]]
    statistics = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, own, _, _) in statistics.items():
        seconds[room(file, function)] += own
    return sorted(seconds.items(), key=lambda row: row[1], reverse=True)


def as_table(profile: Path) -> str:
    """A Markdown table of `by_room`, shares without the waiting."""
    rows = by_room(profile)
    busy = sum(seconds for name, seconds in rows if not name.startswith("waiting"))
    lines = ["| where | seconds | share |", "|---|---:|---:|"]
    for name, seconds in rows:
        if seconds >= 0.005:
            share = "" if name.startswith("waiting") else f"{seconds / busy:.0%}"
            lines.append(f"| {name} | {seconds:.2f} | {share} |")
    return "\n".join(lines)
