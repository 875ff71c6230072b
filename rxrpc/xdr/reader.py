"""A bounded reader for the places where no single structure covers the bytes."""

import struct
from typing import TypeVar, cast

from rxrpc.errors import ParseError
from rxrpc.xdr.fields import COUNT, WORD_SIZE, Data, Opaque, Read, String
from rxrpc.xdr.structs import reader_of

T = TypeVar("T")


class Reader:
    """Reads values one after the other from untrusted bytes; raises `ParseError` only."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: Data) -> None:
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._offset

    def u32(self) -> int:
        """One unsigned word."""
        if self.remaining < WORD_SIZE:
            raise ParseError(f"a word expected, {self.remaining} bytes are left")
        (value,) = COUNT.unpack_from(self._data, self._offset)
        self._offset += WORD_SIZE
        return cast("int", value)

    def i32(self) -> int:
        """One signed word."""
        value = self.u32()
        return value - (1 << 32) if value >> 31 else value

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes as they stand, without padding."""
        if not 0 <= count <= self.remaining:
            raise ParseError(f"{count} bytes expected, {self.remaining} are left")
        start = self._offset
        self._offset = start + count
        return bytes(self._data[start : self._offset])

    def opaque(self, max: int) -> bytes:
        """Bytes with a length in front, of at most `max`."""
        return cast("bytes", self._read(Opaque(max).read, "opaque"))

    def string(self, max: int) -> bytes:
        """A string of at most `max` bytes, without NUL."""
        return cast("bytes", self._read(String(max).read, "string"))

    def struct(self, cls: type[T]) -> T:
        """A value of an `@xdr_struct` class."""
        return cast("T", self._read(reader_of(cls), cls.__name__))

    def check_end(self) -> None:
        """Insist that nothing is left."""
        if self.remaining:
            raise ParseError(f"{self.remaining} bytes too many")

    def _read(self, read: Read, what: str) -> object:
        try:
            value, self._offset = read(self._data, self._offset)
        except struct.error:
            raise ParseError(f"{what} expected, {self.remaining} bytes are left") from None
        return value
