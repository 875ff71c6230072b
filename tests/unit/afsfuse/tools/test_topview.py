"""The live view: what it makes of pictures, in terminals of all sizes."""

from __future__ import annotations

from typing import Any

import pytest

from afsfuse.tools.topview import Plot, View, sparkline
from tests.unit.afsfuse.tools.test_status import MOUNT


def picture(uptime: float, **cache: int) -> dict[str, Any]:
    requests: dict[str, Any] = {**MOUNT["requests"], "answered": 25 + int(uptime)}  # type: ignore[dict-item]
    return {
        **MOUNT,
        "uptime": uptime,
        "requests": requests,
        "cache": {**MOUNT["cache"], **cache},  # type: ignore[dict-item]
    }


def view(pictures: int = 3) -> View:
    made = View()
    for number in range(pictures):
        made.add(
            picture(100.0 + 2 * number, read_bytes=4096 + (number << 20), chunk_hits=8 + 3 * number)
        )
    return made


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 10), (20, 3), (1, 1)])
def test_it_fits_whatever_terminal_there_is(width: int, height: int) -> None:
    lines = view().lines(width, height, more=1)
    assert len(lines) == height
    assert all(len(line.text) <= width for line in lines)
    assert lines[-1].text == "q: quit   n: next of 2 mounts"[:width]


def test_what_is_seen_in_80_by_24() -> None:
    text = "\n".join(line.text for line in view().lines(80, 24))
    assert "2 requests wait, 1 operations under way" in text
    assert "512 KiB/s" in text
    assert "100 %" in text
    assert "192.0.2.1" in text
    assert "does not answer" in text
    assert "FetchStatus" in text


def test_rates_are_of_the_time_in_between() -> None:
    made = view()
    assert list(made.read.points) == [1 << 19, 1 << 19]
    assert list(made.memory.points) == [1.0, 1.0]
    assert list(made.calls.points) == [None, None], "no call ended, so there is no latency"
    made.add(picture(1.0))
    assert len(made.read.points) == 2, "another daemon has taken its place"


def test_many_servers_leave_room_for_calls() -> None:
    made = View()
    servers = [{**MOUNT["servers"][0], "used": f"192.0.2.{n}"} for n in range(40)]  # type: ignore[index]
    calls = [{**MOUNT["calls"][0], "name": f"Call{n}"} for n in range(40)]  # type: ignore[index]
    made.add({**MOUNT, "servers": servers, "calls": calls})
    text = [line.text for line in made.lines(80, 24)]
    assert sum("192.0.2." in line for line in text) >= 3
    assert sum(line.startswith("Call") for line in text) >= 3
    assert sum("more" in line for line in text) == 2


def test_bars() -> None:
    assert sparkline([0.0, None, 4.0, 8.0], 8.0) == "▁ ▄█"
    assert sparkline([0.0, None], 0.0) == "▁ "
    plot = Plot("x", "", "s")
    assert plot.written() == "-"
    plot.points.append(0.0042)
    assert plot.written() == "4.2 ms"
