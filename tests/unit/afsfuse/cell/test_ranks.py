"""Rules about servers, as people write them."""

from ipaddress import IPv4Network

import pytest

from afsfuse.cell.ranks import parse_rule


@pytest.mark.parametrize(
    ("text", "network", "rank"),
    [
        ("192.0.2.1=0", "192.0.2.1/32", 0),
        ("192.0.2.7/24=65534", "192.0.2.0/24", 65534),
        ("10.0.0.0/255.0.0.0=100", "10.0.0.0/8", 100),
    ],
)
def test_rules(text: str, network: str, rank: int) -> None:
    assert parse_rule(text) == (IPv4Network(network), rank)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "an IPv4 address"),
        ("fs1.example.org=1", "an IPv4 address"),
        ("2001:db8::1=1", "an IPv4 address"),
        ("192.0.2.1", "a rank from 0"),
        ("192.0.2.1=-1", "a rank from 0"),
        ("192.0.2.1=65535", "a rank from 0"),
    ],
)
def test_others_are_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_rule(text)
