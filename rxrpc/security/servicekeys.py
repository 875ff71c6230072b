"""The keys of a service, with which it opens the tickets that clients bring."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from rxrpc.errors import ParseError
from rxrpc.security.deskeys import DES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VERSION: Final = b"\x05\x02"  # of keytab files; the one before is a machine's own byte order
_HALF: Final = struct.Struct("!H")
_WORD: Final = struct.Struct("!i")
_KVNO: Final = struct.Struct("!I")


class ServiceKeys:
    """Keys by version and type. Nothing that prints it shows one."""

    def __init__(self, keys: Mapping[tuple[int, int], bytes] | None = None) -> None:
        """``keys``: by key version and Kerberos encryption type.

        With a DES key, tickets of Kerberos 4 form are taken, which anybody with some patience can
        forge; without one they are not.
        """
        self._keys = {which: bytearray(key) for which, key in (keys or {}).items()}

    @classmethod
    def from_keytab(
        cls, data: bytes, principal: str | None = None, *, des: bool = False
    ) -> ServiceKeys:
        """The keys of a principal (``afs/cell@REALM``), or all, in the bytes of a keytab file.

        DES keys are left out unless ``des`` asks for them. `ParseError` when it is no keytab.
        """
        found = {}
        for name, kvno, enctype, key in read_keytab(data):
            if principal in (name, None) and (des or enctype not in DES):
                found[kvno, enctype] = key
        return cls(found)

    def __repr__(self) -> str:
        """Which keys there are."""
        return f"<ServiceKeys {self.names}>"

    @property
    def names(self) -> list[tuple[int, int]]:
        """Version and type of each key."""
        return sorted(self._keys)

    def find(self, kvno: int, enctype: int) -> bytes | None:
        """A key, if it is here."""
        key = self._keys.get((kvno, enctype))
        return None if key is None else bytes(key)

    def find_des(self, kvno: int) -> bytes | None:
        """A DES key of any of its types, if one is here."""
        return next((key for each in DES if (key := self.find(kvno, each))), None)

    def latest(self, enctypes: tuple[int, ...]) -> tuple[int, int, bytes] | None:
        """Version, type and key of the newest key of the first of these types that has one."""
        for enctype in enctypes:
            versions = [kvno for kvno, each in self._keys if each == enctype]
            if versions:
                return max(versions), enctype, bytes(self._keys[max(versions), enctype])
        return None

    def wipe(self) -> None:
        """Forget them all."""
        for key in self._keys.values():
            key[:] = bytes(len(key))
        self._keys.clear()


def read_keytab(data: bytes) -> Iterator[tuple[str, int, int, bytes]]:
    """Principal, key version, type and key of each entry. `ParseError` when it is no keytab.

    Source: MIT Kerberos, doc/formats/keytab_file_format.
    """
    if data[:2] != _VERSION:
        raise ParseError("no keytab of version 2")
    at = 2
    while at < len(data):
        (size,) = _unpack(_WORD, data, at)
        at += 4
        if size > 0:  # less: the place of an entry that was removed
            yield _read_entry(_slice(data, at, size))
        at += abs(size)


def _read_entry(entry: bytes) -> tuple[str, int, int, bytes]:
    (count,) = _unpack(_HALF, entry, 0)
    at = 2
    parts = []
    for _ in range(count + 1):
        part, at = _read_counted(entry, at)
        parts.append(part.decode(errors="replace"))
    at += 4 + 4  # type of the name, time of the entry
    kvno = _slice(entry, at, 1)[0]
    (enctype,) = _unpack(_HALF, entry, at + 1)
    key, at = _read_counted(entry, at + 3)
    if len(entry) - at >= _KVNO.size:
        (full,) = _KVNO.unpack_from(entry, at)
        kvno = full or kvno
    return f"{'/'.join(parts[1:])}@{parts[0]}", kvno, enctype, key


def _read_counted(entry: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _unpack(_HALF, entry, at)
    return _slice(entry, at + 2, size), at + 2 + size


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ParseError("a keytab that ends in the middle")
    return data[at : at + size]


def _unpack(form: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    return form.unpack(_slice(data, at, form.size))
