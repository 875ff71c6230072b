"""The reader of volume dumps: what a server holds, seen with no client at all."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tests.realcell import dirpages

_BEGIN = b"\1\xb3\xa1\x13\x22"
_VNODE, _END, _FIRST_TAG = 3, 4, 21
# Sizes of a vnode's fields by tag. Source: dumpstuff.c, ReadVnodes.
_VNODE_FIELDS = {"t": 1, "l": 2, "v": 4, "m": 4, "a": 4, "o": 4, "g": 4, "b": 2, "p": 4, "s": 4}
_VOLUME_INTS = "ivupcqmdfaoCAUEBDZV"
_VOLUME_BYTES = "sbt"
_VOLUME_STRINGS = "nOM"
_ACL_BYTES = 192


@dataclass
class DumpedVnode:
    """One vnode: its fields by tag (t type, l links, v version, m time, b mode, p parent …)."""

    vnode: int
    unique: int
    fields: dict[str, int] = field(default_factory=dict)
    acl: bytes = field(default=b"", repr=False)
    data: bytes = field(default=b"", repr=False)

    def names(self) -> dict[bytes, tuple[int, int]]:
        """A directory's names."""
        return dirpages.parse(self.data)


class Dump:
    """A whole dump, in memory. `volume` has the volume header's numbers by tag."""

    def __init__(self, dump: bytes) -> None:
        self._dump = dump
        self._at = 0
        self.volume: dict[str, int | bytes] = {}
        self.vnodes: dict[int, DumpedVnode] = {}
        if not dump.startswith(_BEGIN):
            raise ValueError("no dump: the magic number is missing")
        self._at = dump.index(b"\2i")  # the dump header says nothing the volume header does not
        self._read_volume_header()
        while self._peek() == _VNODE:
            vnode = self._read_vnode()
            self.vnodes[vnode.vnode] = vnode
        if self._peek() != _END:
            raise ValueError(f"unexpected tag {self._peek()} at {self._at}")

    def lookup(self, *path: bytes) -> DumpedVnode:
        """The vnode at a path below the volume's root. Raises KeyError."""
        vnode = self.vnodes[1]
        for name in path:
            vnode = self.vnodes[vnode.names()[name][0]]
        return vnode

    def _peek(self) -> int:
        return self._dump[self._at]

    def _take(self, size: int) -> bytes:
        piece = self._dump[self._at : self._at + size]
        if len(piece) != size:
            raise ValueError("the dump ends early")
        self._at += size
        return piece

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _read_volume_header(self) -> None:
        self._take(1)
        while self._peek() >= _FIRST_TAG:
            tag = chr(self._number(1))
            if tag in _VOLUME_STRINGS:
                end = self._dump.index(b"\0", self._at)
                self.volume[tag] = self._take(end - self._at)
                self._take(1)
            elif tag == "W":
                self._take(4 * self._number(2))
            else:
                self.volume[tag] = self._number(1 if tag in _VOLUME_BYTES else 4)
                if tag not in _VOLUME_BYTES + _VOLUME_INTS:
                    raise ValueError(f"unknown tag {tag!r} in the volume header")

    def _read_vnode(self) -> DumpedVnode:
        self._take(1)
        vnode = DumpedVnode(*struct.unpack("!II", self._take(8)))
        while self._peek() >= _FIRST_TAG:
            tag = chr(self._number(1))
            if tag == "A":
                vnode.acl = self._take(_ACL_BYTES)
            elif tag in "fh":
                vnode.data = self._take(self._number(4 if tag == "f" else 8))
            else:
                vnode.fields[tag] = self._number(_VNODE_FIELDS[tag])
        return vnode
