from ipaddress import IPv4Address

import pytest

from afsfuse.cell.addresses import refusal


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"]
)
def test_addresses_that_no_server_has(address: str) -> None:
    assert refusal(IPv4Address(address)) is not None


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "192.0.2.1", "8.8.8.8"])
def test_addresses_that_a_server_may_have(address: str) -> None:
    assert refusal(IPv4Address(address)) is None


def test_loopback_is_for_those_who_ask_for_it() -> None:
    assert refusal(IPv4Address("127.0.0.1"), loopback_allowed=True) is None
