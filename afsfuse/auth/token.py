"""A token: the Kerberos ticket and session key with which a user is known to one cell.

The key is a `Secret`: nothing prints it, nothing pickles it, and its bytes are overwritten when it
is discarded. That is as far as it goes in Python, whose runtime may have copied the bytes before;
the daemon therefore is not dumpable either (`afsfuse.auth.hardening`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass, field
from typing import NoReturn

from afsfuse.errors import TokenMalformed

KERBEROS_V5 = 256
"""What stands in place of a key version for a whole Kerberos 5 ticket. Source: rxkad.h, where it
is RXKAD_TKT_TYPE_KERBEROS_V5."""

TICKET_MAX = 12_000
"""Bytes of a ticket; no server takes more. Source: MAXKTCTICKETLEN in auth.h"""
KEY_MAX = 64
ENCODED_MAX = 20_000
"""Bytes of an encoded token."""
_NAME_MAX = 1024
_FORMAT = 1  # of `encode`
_FIELDS = {
    "format": int,
    "cell": str,
    "client": str,
    "kvno": int,
    "enctype": int,
    "ticket": str,
    "key": str,
    "start": int,
    "end": int,
}


class Secret:
    """Bytes that are not shown, and that are overwritten at the end of their use."""

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._bytes = bytearray(value)

    def reveal(self) -> bytes:
        """The bytes, for those who encrypt with them."""
        if not self._bytes:
            raise ValueError("this secret was wiped")
        return bytes(self._bytes)

    def wipe(self) -> None:
        """Overwrite the bytes; what was revealed before is up to those who asked."""
        for index in range(len(self._bytes)):
            self._bytes[index] = 0
        self._bytes.clear()

    def __del__(self) -> None:
        self.wipe()

    def __len__(self) -> int:
        return len(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._bytes, other._bytes)

    __hash__ = None  # type: ignore[assignment]  # it changes when it is wiped

    def __repr__(self) -> str:
        return f"<secret of {len(self._bytes)} bytes>" if self._bytes else "<wiped secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be pickled or copied")


@dataclass(frozen=True, slots=True)
class Token:
    """One identity's rights in one cell. Times are seconds since 1970, of the wall clock."""

    cell: str
    client: str
    """The Kerberos principal that it is for, with its realm."""
    enctype: int
    """Encryption type of the session key, as Kerberos numbers them."""
    key: Secret
    ticket: bytes = field(repr=False)
    start: int
    end: int
    kvno: int = KERBEROS_V5
    service: str | None = None
    """The principal of the cell's service; None: it is of the realm that is called as the cell."""
    viceid: int | None = field(default=None, compare=False)
    """The number of `client` in the cell's protection database, where somebody asked for it."""

    def expired(self, now: float) -> bool:
        """Whether servers refuse it by now."""
        return now >= self.end

    @property
    def user(self) -> str:
        """What `client` is called in the protection database.

        Who is of another realm than the cell's service is there with his realm. Source: aklog.c
        and h_FindClient_r in viced/host.c of OpenAFS, which make the same of principals.
        """
        name, _, realm = self.client.rpartition("@")
        home = self.service.rpartition("@")[2] if self.service else self.cell
        user = name if realm.lower() == home.lower() else f"{name}@{realm}"
        return user.replace("/", ".").lower()

    def encode(self) -> str:
        """One line of text, with the key in it."""
        return json.dumps(
            {
                "format": _FORMAT,
                "cell": self.cell,
                "client": self.client,
                "service": self.service,
                "viceid": self.viceid,
                "kvno": self.kvno,
                "enctype": self.enctype,
                "ticket": base64.b64encode(self.ticket).decode(),
                "key": base64.b64encode(self.key.reveal()).decode(),
                "start": self.start,
                "end": self.end,
            }
        )

    @classmethod
    def decode(cls, text: str | bytes) -> Token:
        """The inverse of `encode`. Raises `TokenMalformed`, which says nothing of the contents."""
        if len(text) > ENCODED_MAX:
            raise TokenMalformed("the token is too long")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise TokenMalformed("the token cannot be read") from None
        return cls._checked(values)

    @classmethod
    def _checked(cls, values: object) -> Token:
        if not isinstance(values, dict):
            raise TokenMalformed("the token cannot be read")
        for name, kind in _FIELDS.items():
            if type(values.get(name)) is not kind:
                raise TokenMalformed(f"the token has no proper {name}")
        if values["format"] != _FORMAT:
            raise TokenMalformed("the token is of another version")
        viceid = values.get("viceid")
        if viceid is not None and type(viceid) is not int:
            raise TokenMalformed("the token has no proper viceid")
        numbers = (*(values[n] for n in ("kvno", "enctype", "start", "end")), viceid or 0)
        if not all(-(2**31) <= number < 2**40 for number in numbers):
            raise TokenMalformed("a number of the token cannot be")
        if not 0 <= values["kvno"] < 2**32:  # it goes into a word of a packet as it is
            raise TokenMalformed("a key version of the token cannot be")
        service = values.get("service")
        if service is not None and not (type(service) is str and _is_name(service)):
            raise TokenMalformed("the token has no proper service")
        for name in ("cell", "client"):
            if not _is_name(values[name]):
                raise TokenMalformed(f"the token has no proper {name}")
        return cls(
            cell=values["cell"],
            client=values["client"],
            enctype=values["enctype"],
            key=Secret(_bytes(values["key"], KEY_MAX)),
            ticket=_bytes(values["ticket"], TICKET_MAX),
            start=values["start"],
            end=values["end"],
            kvno=values["kvno"],
            service=service,
            viceid=viceid,
        )


def _is_name(text: str) -> bool:
    """Something to print: principals are whatever their realm allows, but no control characters."""
    return 0 < len(text) <= _NAME_MAX and text.isprintable()


def _bytes(text: str, most: int) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise TokenMalformed("the token cannot be read") from None
    if not 0 < len(value) <= most:
        raise TokenMalformed("the ticket or the key has a length that cannot be")
    return value
