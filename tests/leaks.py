"""Looks for secrets in what must not have them, whatever they were written as."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def forms(secret: bytes) -> set[bytes]:
    """How a key may stand in a text or a file; of base64 also as a part of something longer."""
    plain = repr(secret)[2:-1].encode()
    found = {secret, plain, plain.replace(b"\\", b"\\\\"), str(list(secret)).encode()[1:-1]}
    for text in (secret.hex(), secret.hex(":"), secret.hex(" "), secret.hex(" ", 4)):
        found |= {text.encode(), text.upper().encode()}
    for order in ("big", "little"):
        number = int.from_bytes(secret, order)
        found |= {str(number).encode(), b"%x" % number}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret)
        first, behind = (4 if before else 0), (before + len(secret)) % 3
        part = whole[first : -4 if behind else None]
        found |= {part, part.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form for form in found if len(form) >= min(len(secret), 6)}


def found_in(texts: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Which secret stands where."""
    return {
        (where, name)
        for name, secret in secrets.items()
        for form in forms(secret)
        for where, text in texts.items()
        if form in text
    }


def pieces(ticket: bytes) -> dict[str, bytes]:
    """Parts of a ticket, of which a log might show one; its beginning is the same in all."""
    return {f"ticket[{at}:]": ticket[at : at + 16] for at in range(32, len(ticket) - 16, 32)}


def named(values: Iterable[object]) -> dict[str, bytes]:
    """What is printed of values, in all the ways there are."""
    return {type(one).__name__: f"{one!r} {one} {one!s:.9999}".encode() for one in values}
