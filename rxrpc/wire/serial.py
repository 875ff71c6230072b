"""Order of 32-bit numbers that wrap: serial numbers of packets, sequence numbers of a call.

A number is before another when it takes fewer than 2^31 steps upwards from it to the other, as in
RFC 1982. The hot paths write ``(a - b) & MASK`` out; these names are for all other places.
"""

from __future__ import annotations

MASK = 0xFFFF_FFFF
HALF = 0x8000_0000


def add(number: int, steps: int) -> int:
    """The number that stands ``steps`` after (or before, when negative) ``number``."""
    return (number + steps) & MASK


def before(first: int, second: int) -> bool:
    """Whether ``first`` comes before ``second``; a number is not before itself."""
    return ((first - second) & MASK) >= HALF


def following(serial: int) -> int:
    """The serial number after ``serial``; 0 is left out, since it means "none" in an ACK."""
    return (serial + 1) & MASK or 1
