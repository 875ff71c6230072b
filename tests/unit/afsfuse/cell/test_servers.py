from ipaddress import IPv4Address
from uuid import UUID

from afsfuse.cell.servers import ServerRegistry, uuid_of_address

ONE = UUID(int=1)


def test_one_object_for_each_server_of_a_cell() -> None:
    registry = ServerRegistry()
    first = registry.update("a.example", ONE, 1, [("192.0.2.1", 7000)])
    assert registry.update("a.example", ONE, 1, [("192.0.2.1", 7000)]) is first
    assert registry.get("a.example", ONE) is first
    other = registry.update("b.example", ONE, 1, [("198.51.100.1", 7000)])
    assert other is not first  # another cell cannot redirect the server of this one
    assert first.addresses == (("192.0.2.1", 7000),)
    assert list(registry) == [first, other]
    assert "192.0.2.1" in repr(first)


def test_new_addresses_give_a_server_another_chance() -> None:
    registry = ServerRegistry()
    server = registry.update("a.example", ONE, 1, [("192.0.2.1", 7000)])
    server.down_until, server.last_seen = 99.0, 42.0
    registry.update("a.example", ONE, 1, [("192.0.2.1", 7000)])
    assert (server.down_until, server.last_seen) == (99.0, 42.0)
    registry.update("a.example", ONE, 2, [("192.0.2.2", 7000)])
    assert server.down_until < 0
    assert server.last_seen < 0  # which of them answers is asked first
    assert (server.unique, server.addresses) == (2, (("192.0.2.2", 7000),))


def test_an_address_stands_for_a_uuid() -> None:
    assert uuid_of_address(IPv4Address("10.0.0.5")).bytes[:4] == bytes((10, 0, 0, 5))
