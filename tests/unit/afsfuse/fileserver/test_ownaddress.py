"""Which changes of our own address are noticed, and that others are not taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import trio

from afsfuse.cell.servers import FileServer
from afsfuse.fileserver.ownaddress import OwnAddresses

if TYPE_CHECKING:
    from trio.testing import MockClock

ONE = FileServer("test.afs", UUID(int=1), 1, [("192.0.2.1", 7000)])
TWO = FileServer("test.afs", UUID(int=2), 1, [("198.51.100.1", 7000), ("198.51.100.2", 7000)])
LOST = FileServer("test.afs", UUID(int=3), 1, [])


class Network:
    """Our address towards each host."""

    def __init__(self) -> None:
        self.ours: dict[str, str | None] = {"192.0.2.1": "10.0.0.5", "198.51.100.1": "10.0.0.5"}
        self.changes: list[list[FileServer]] = []
        self.watch = OwnAddresses(
            lambda: [ONE, TWO, LOST], self.changes.append, lambda target: self.ours[target[0]]
        )


async def test_another_address_is_noticed_within_seconds(autojump_clock: MockClock) -> None:
    network = Network()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.watch.run)
        await trio.sleep(100)
        assert not network.changes
        network.ours["192.0.2.1"] = "172.16.0.9"  # a VPN for some
        await trio.sleep(5)
        assert network.changes == [[ONE]]
        network.ours = dict.fromkeys(network.ours, "10.9.9.9")
        await trio.sleep(100)
        assert network.changes[1:] == [[ONE, TWO]]
        nursery.cancel_scope.cancel()


def test_a_network_that_was_away_is_a_change() -> None:
    """Whatever was told meanwhile was told in vain."""
    network = Network()
    network.watch.look()
    network.ours["192.0.2.1"] = None
    network.watch.look()
    network.watch.look()
    assert not network.changes
    network.ours["192.0.2.1"] = "10.0.0.5"
    network.watch.look()
    network.watch.look()
    assert network.changes == [[ONE]]


def test_servers_that_are_not_watched_any_more_are_forgotten() -> None:
    network = Network()
    servers = [ONE, TWO]
    watch = OwnAddresses(lambda: servers, network.changes.append, lambda target: "10.0.0.5")
    watch.look()
    assert len(watch._known) == 2
    servers.remove(TWO)
    watch.look()
    assert [*watch._known] == [ONE]
