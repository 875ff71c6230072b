"""The order of servers: rules first, then round trips, and nobody moves for little."""

from __future__ import annotations

from ipaddress import IPv4Network
from uuid import UUID

import pytest

from afsfuse.cell.servers import FileServer
from afsfuse.errors import ControlRefused
from afsfuse.fileserver.preferences import DEFAULT_RANK, RULES_MAX, Preferences


def server(number: int, rtt: float | None = None, host: str | None = None) -> FileServer:
    address = (host or f"192.0.2.{number}", 7000)
    made = FileServer("test.afs", UUID(int=number), 1, [address])
    made.rtt = rtt
    return made


def order(
    preferences: Preferences,
    servers: list[FileServer],
    chosen: FileServer | None = None,
    down: FileServer | None = None,
) -> list[FileServer]:
    return preferences.order(servers, chosen, lambda one: one is down)


def test_the_nearest_is_first_and_one_not_measured_is_thought_far() -> None:
    far, unknown, near = servers = [server(1, 0.1), server(2), server(3, 0.001)]
    assert order(Preferences(), servers) == [near, unknown, far]


def test_rules_count_more_than_nearness() -> None:
    near, far = servers = [server(1, 0.001), server(2, 0.2, "198.51.100.7")]
    preferences = Preferences([(IPv4Network("198.51.100.0/24"), 100)])
    assert order(preferences, servers) == [far, near]
    preferences.set(IPv4Network("198.51.100.7"), 50_000)  # the narrower rule decides
    assert order(preferences, servers) == [near, far]
    preferences.set(IPv4Network("198.51.100.7"), None)
    assert order(preferences, servers) == [far, near]
    assert preferences.rules == [(IPv4Network("198.51.100.0/24"), 100)]
    assert preferences.rank(("192.0.2.1", 7000)) == DEFAULT_RANK


@pytest.mark.parametrize(
    ("kept", "other", "moves"),
    [
        (0.010, 0.009, False),  # equal ones do not flap
        (0.010, 0.006, False),
        (0.010, 0.005, True),
        (0.0020, 0.0005, False),  # noise
        (0.200, 0.090, True),
    ],
)
def test_nobody_moves_for_little(kept: float, other: float, moves: bool) -> None:
    chosen, another = servers = [server(1, kept), server(2, other)]
    assert order(Preferences(), servers, chosen)[0] is (another if moves else chosen)


def test_who_is_down_comes_last_and_is_returned_to() -> None:
    preferred, other = servers = [server(1, 0.001), server(2, 0.050)]
    assert order(Preferences(), servers, preferred, down=preferred) == [other, preferred]
    assert order(Preferences(), servers, other) == [preferred, other]


def test_a_choice_of_another_volume_means_nothing() -> None:
    servers = [server(1, 0.001), server(2, 0.050)]
    assert order(Preferences(), servers, server(3, 0.0001)) == servers


def test_the_number_of_rules_is_bounded() -> None:
    preferences = Preferences()
    for number in range(RULES_MAX):
        preferences.set(IPv4Network(number), number)
    with pytest.raises(ControlRefused, match="255 rules"):
        preferences.set(IPv4Network("192.0.2.1"), 1)
    preferences.set(IPv4Network(0), 7)


def test_an_old_replica_is_left_during_a_release() -> None:
    old, new, down = servers = [server(1, 0.001), server(2, 0.5), server(3, 0.0001)]
    preferences = Preferences()
    assert preferences.order(servers, old, lambda one: one is down, {old}) == [new, old, down]
    assert preferences.order(servers, old, lambda one: one is down, {new}) == [old, new, down]


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    preferences = Preferences()
    for number in range(20_000):
        preferences.rank((f"10.1.{number >> 8}.{number & 255}", 7000))
    assert len(preferences._ranks) <= 4096
