"""Ranks of servers' addresses, as people write them: ADDRESS[/BITS]=RANK. The lower the better."""

from ipaddress import IPv4Network

RANK_MAX = 65_534
"""Source: fs setserverprefs of OpenAFS."""


def parse_rule(text: str) -> tuple[IPv4Network, int]:
    """A rule as people write it, ADDRESS[/BITS]=RANK. Raises ValueError with what is expected."""
    network, _, rank = text.partition("=")
    return parse_network(network), parse_rank(rank)


def parse_network(text: str) -> IPv4Network:
    """An address, or a network of them. Raises ValueError with what is expected."""
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(
            "an IPv4 address, or a network such as 192.0.2.0/24, is expected"
        ) from None


def parse_rank(text: str) -> int:
    """A rank. Raises ValueError with what is expected."""
    if not (text.isascii() and text.isdigit() and int(text) <= RANK_MAX):
        raise ValueError(f"a rank from 0 (the best) to {RANK_MAX} is expected")
    return int(text)
