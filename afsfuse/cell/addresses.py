"""Which addresses we are willing to send to when somebody else names them."""

from ipaddress import IPv4Address

MAX_SERVERS = 16
"""Database servers of one cell that are used; OpenAFS allows 8 in its files."""


def refusal(address: IPv4Address, *, loopback_allowed: bool = False) -> str | None:
    """Why an address is not to be used; None if it may be."""
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_loopback:
        return None if loopback_allowed else "a loopback address"
    if address.is_reserved:  # 240.0.0.0/4, the broadcast address among them
        return "a reserved address"
    return None
