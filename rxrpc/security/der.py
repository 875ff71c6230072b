"""The few forms of DER that a Kerberos ticket is made of. Strict, without recursion.

`Der` reads what others have sent, so it raises `ParseError` only; the functions below it write.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from rxrpc.errors import ParseError

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTETS: Final = 0x04
STRING: Final = 0x1B  # GeneralString
TIME: Final = 0x18  # GeneralizedTime
SEQUENCE: Final = 0x30
_FIELD: Final = 0xA0  # context-specific, constructed: a numbered field of a sequence
_APPLICATION: Final = 0x60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_LENGTH_BYTES: Final = 3
_MAX_INTEGER_BYTES: Final = 5  # 32 bits without a sign need one more byte


def field(number: int) -> int:
    """The tag of a numbered field."""
    return _FIELD | number


def application(number: int) -> int:
    """The tag of a whole structure."""
    return _APPLICATION | number


class Der:
    """A cursor over the elements of one value."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self._at == len(self._data)

    def check_end(self) -> None:
        """Raise `ParseError` when something follows."""
        if not self.at_end:
            raise ParseError("bytes behind a value")

    def follows(self, tag: int) -> bool:
        """Whether the next element has this tag."""
        return not self.at_end and self._data[self._at] == tag

    def take(self, tag: int) -> bytes:
        """The content of the next element, which must have this tag."""
        data, start = self._data, self._at + 2
        if len(data) < start or data[self._at] != tag:
            raise ParseError(f"no element with the tag {tag:#04x}")
        length = data[start - 1]
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[start : start + count], "big")
            if (
                not 1 <= count <= _MAX_LENGTH_BYTES
                or length < 0x80
                or data[start : start + 1] == b"\0"
            ):
                raise ParseError("a length that is not in its shortest form")
            start += count
        if start + length > len(data):
            raise ParseError("an element that is longer than what holds it")
        self._at = start + length
        return data[start : self._at]

    def inside(self, *tags: int) -> Der:
        """A cursor over what the next element has inside of these tags, outermost first.

        Between two of the tags nothing may stand behind the inner one.
        """
        content = self.take(tags[0])
        for tag in tags[1:]:
            outer = Der(content)
            content = outer.take(tag)
            outer.check_end()
        return Der(content)

    def value(self, number: int, tag: int) -> bytes:
        """The content of a numbered field with one element in it."""
        return self.inside(field(number), tag)._data

    def integer(self, number: int) -> int:
        """The integer in a numbered field."""
        content = self.value(number, INTEGER)
        if not 1 <= len(content) <= _MAX_INTEGER_BYTES:
            raise ParseError("an integer of a strange size")
        return int.from_bytes(content, "big", signed=True)

    def time(self, number: int) -> int:
        """The time in a numbered field, in seconds since 1970."""
        return parse_time(self.value(number, TIME))

    def skip(self, number: int) -> None:
        """Pass over a numbered field, if it is there."""
        if self.follows(field(number)):
            self.take(field(number))


def parse_time(content: bytes) -> int:
    """Seconds since 1970 of a time as Kerberos writes it: YYYYMMDDHHMMSSZ."""
    if len(content) != 15 or not content[:14].isdigit() or content[14:] != b"Z":
        raise ParseError("a time of another form")
    digits = content.decode()
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    try:
        when = datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as exc:
        raise ParseError(f"no time: {exc}") from None
    return int((when - _EPOCH).total_seconds())


def build(tag: int, *contents: bytes) -> bytes:
    """An element around these contents."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def build_integer(value: int) -> bytes:
    """An integer."""
    return build(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def build_time(seconds: int) -> bytes:
    """A time."""
    return build(TIME, (_EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%SZ").encode())
