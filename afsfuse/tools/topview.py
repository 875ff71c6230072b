"""What `afsfuse top` shows, as lines of text of a given size; knows no terminal.

A *view* is made of the pictures that a daemon's `watch` sends: what happened in between is the
difference of two.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from afsfuse.errors import printable
from afsfuse.tools.figures import lookups, seconds, share
from afsfuse.tools.mounts import duration, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    Shown = dict[str, Any]

KEPT = 240
"""Points of a plot that are kept: more than any terminal is wide."""
_BARS = " ▁▂▃▄▅▆▇█"
_LABEL = 11
_VALUE = 24
_LEAST_PLOT = 8


class Line(NamedTuple):
    """One line of the screen."""

    text: str
    style: str = ""
    """As rich names it; means nothing to the plain view."""


class Plot:
    """One figure as it went."""

    def __init__(self, label: str, style: str, unit: str) -> None:
        self.label = label
        self.style = style
        self.unit = unit
        """`B/s`, `/s`, `s`, `%` or `B`: how values are written."""
        self.points: deque[float | None] = deque(maxlen=KEPT)
        """None where there was nothing to measure."""

    def written(self) -> str:
        """The last value."""
        value = self.points[-1] if self.points else None
        if value is None:
            return "-"
        match self.unit:
            case "s":
                return seconds(value)
            case "%":
                return share(value, 1.0)
            case "/s":
                return f"{value:.0f} /s"
            case "B/s":
                return f"{size(round(value))}/s"
            case _:
                return size(round(value))

    def line(self, width: int) -> Line:
        """Label, bars and the last value."""
        room = max(_LEAST_PLOT, width - _LABEL - _VALUE)
        top = 1.0 if self.unit == "%" else max((p for p in self.points if p), default=0.0)
        bars = sparkline(list(self.points)[-room:], top).rjust(room)
        return Line(f"{self.label:<{_LABEL}}{bars} {self.written():<{_VALUE - 1}}", self.style)


def sparkline(points: Sequence[float | None], top: float) -> str:
    """A bar of an eighth to a whole cell for each point; nothing where nothing was measured."""
    if not top:
        return "".join(_BARS[0] if point is None else _BARS[1] for point in points)
    steps = len(_BARS) - 1
    return "".join(
        _BARS[0] if point is None else _BARS[max(1, min(steps, round(steps * point / top)))]
        for point in points
    )


class View:
    """The figures of one mount, as they go."""

    def __init__(self) -> None:
        self.latest: Shown | None = None
        self.requests = Plot("requests", "cyan", "/s")
        self.latency = Plot("latency", "magenta", "s")
        self.calls = Plot("calls", "magenta", "s")
        self.read = Plot("read", "green", "B/s")
        self.fetched = Plot("fetched", "green", "B/s")
        self.written = Plot("written", "yellow", "B/s")
        self.stored = Plot("stored", "yellow", "B/s")
        self.memory = Plot("memory hits", "blue", "%")
        self.disk = Plot("disk hits", "blue", "%")
        self.dirty = Plot("not stored", "red", "B")
        self.plots = (
            self.requests, self.latency, self.calls, self.read, self.fetched, self.written,
            self.stored, self.memory, self.disk, self.dirty,
        )  # fmt: skip

    def add(self, shown: Shown) -> None:
        """Another picture came."""
        before, self.latest = self.latest, shown
        self.dirty.points.append(shown["cache"]["dirty_bytes"])
        if before is None:
            return
        passed = shown["uptime"] - before["uptime"]
        if passed <= 0:  # another daemon in its place
            return
        old, new = before["cache"], shown["cache"]
        for plot, figure in (
            (self.read, "read_bytes"),
            (self.fetched, "fetched_bytes"),
            (self.written, "written_bytes"),
            (self.stored, "stored_bytes"),
        ):
            plot.points.append((new[figure] - old[figure]) / passed)
        wanted = lookups(new) - lookups(old)
        self.memory.points.append(_ratio(new["chunk_hits"] - old["chunk_hits"], wanted))
        self.disk.points.append(_ratio(new["disk_hits"] - old["disk_hits"], wanted))
        asked, answered = before["requests"], shown["requests"]
        slow = answered["answered"] - asked["answered"]
        self.requests.points.append((slow + answered["at_once"] - asked["at_once"]) / passed)
        self.latency.points.append(_ratio(answered["seconds"] - asked["seconds"], slow))
        done, count = _all_calls(shown)
        done_before, count_before = _all_calls(before)
        self.calls.points.append(_ratio(done - done_before, count - count_before))

    def lines(self, width: int, height: int, *, more: int = 0) -> list[Line]:
        """The whole screen; `more` mounts can be switched to."""
        shown = self.latest
        if shown is None:
            return [Line("waiting for the daemon …")]
        lines = [_head(shown)]
        lines += [plot.line(width) for plot in self.plots]
        servers = _server_lines(shown)
        calls = _call_lines(shown)
        room = height - len(lines) - 1  # the last line tells the keys
        shown_calls = min(len(calls), max(room // 2, room - len(servers)))
        lines += _cut(servers, room - shown_calls)
        lines += _cut(calls, shown_calls)
        keys = "q: quit" + (f"   n: next of {more + 1} mounts" if more else "")
        lines = lines[: max(height - 1, 0)]
        lines += [Line("")] * (height - 1 - len(lines))
        return [Line(line.text[:width], line.style) for line in [*lines, Line(keys, "dim")]]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _all_calls(shown: Shown) -> tuple[float, int]:
    """Seconds and number of all operations that are over."""
    operations = shown["operations"]
    return sum(one["seconds"] for one in operations), sum(one["count"] for one in operations)


def _head(shown: Shown) -> Line:
    requests = shown["requests"]
    text = (
        f"{requests['waiting']} requests wait, {shown['in_flight']} operations under way, "
        f"{shown['nodes']} nodes; {printable(shown['mount'])} for {duration(shown['uptime'])}"
    )
    return Line(text, "bold")


def _server_lines(shown: Shown) -> list[Line]:
    """The file servers, those in trouble first."""
    lines = [Line(f"{'SERVER':<18}{'CELL':<24}{'STATE':<17}{'RTT':>10}{'WAITING':>9}", "reverse")]
    for server in sorted(shown["servers"], key=lambda one: (one["up"], one["cell"], one["used"])):
        state = "answers" if server["up"] else "does not answer"
        text = (
            f"{server['used']:<18}{server['cell'][:23]:<24}{state:<17}"
            f"{seconds(server['rtt']):>10}{server['waiting']:>9}"
        )
        lines.append(Line(text, "" if server["up"] else "bold red"))
    return lines


def _call_lines(shown: Shown) -> list[Line]:
    """The operations under way, the oldest first."""
    lines = [Line(f"{'CALL':<18}{'VOLUME':<24}{'SERVER':<17}{'FOR':>10}  WHOSE", "reverse")]
    for call in shown["calls"]:
        text = (
            f"{call['name']:<18}{call['volume'][:23]:<24}{call['server'] or '-':<17}"
            f"{seconds(call['lasting']):>10}  {call['identity']}"
        )
        lines.append(Line(text, "bold red" if call["lasting"] > 3 else ""))
    return lines


def _cut(lines: list[Line], room: int) -> list[Line]:
    """As many as there is room for, and a word about the others."""
    if room < 2 or len(lines) <= room:
        return lines[: max(room, 0)]
    return [*lines[: room - 1], Line(f"… and {len(lines) - room + 1} more", "dim")]
