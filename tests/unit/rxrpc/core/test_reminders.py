"""When an ACK is said again, in numbers."""

import pytest

from rxrpc.core.context import Context
from rxrpc.core.parameters import Parameters
from rxrpc.core.reminders import Reminders

PARAMETERS = Parameters(
    ack_repeats=3,
    min_repeat_delay=0.005,
    lossy_ack_repeats=8,
    lossy_repeat_delay=0.002,
    lossy_repeat_limit=0.05,
    min_report_delay=0.001,
)


def told(rtt: float, behind: int, *, lossy: bool) -> list[tuple[float, int]]:
    """All reminders of one ACK: after how long each comes, and how many ACKs it is."""
    reminders = Reminders(Context(PARAMETERS))
    seen = []
    while (delay := reminders.delay(rtt, behind, lossy=lossy)) is not None:
        reminders.due(behind)
        seen.append((round(delay, 4), reminders.copies))
    return seen


def test_an_ack_after_which_nothing_comes() -> None:
    assert told(0.01, 0, lossy=False) == [(0.02, 1), (0.04, 1), (0.08, 1)]
    assert told(0.0001, 0, lossy=False) == [(0.005, 1), (0.01, 1), (0.02, 1)]


def test_where_packets_are_lost_it_is_repeated_past_the_timeout_of_the_peer() -> None:
    assert [delay for delay, _ in told(0.0001, 0, lossy=True)] == [
        0.002, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05,
    ]  # fmt: skip
    assert {delay for delay, _ in told(0.1, 0, lossy=True)} == {0.2}, "not before it is of use"


@pytest.mark.parametrize(
    ("behind", "copies"),
    [(1, [2, 3, 3, 3, 1, 1, 1, 1]), (2, [1, 2, 2, 2, 1, 1, 1, 1]), (3, [1] * 8), (200, [1] * 8)],
)
def test_a_hole_is_told_of_until_the_peer_has_heard_it_three_times(
    behind: int, copies: list[int]
) -> None:
    """The packets behind it count, and at first the ACK that went before."""
    assert [number for _, number in told(0.001, behind, lossy=True)] == copies


def test_a_packet_may_be_overtaken() -> None:
    reminders = Reminders(Context(PARAMETERS))
    delays = []
    for _ in range(4):
        delays.append(reminders.delay(0.04, 1, lossy=True))
        reminders.overtaken()
    assert delays == pytest.approx([0.01, 0.02, 0.04, 0.04])
    assert reminders.delay(0.04, 3, lossy=True) == pytest.approx(0.08)
