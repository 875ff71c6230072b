"""The kinds of fields: how each one looks on the wire, and how generated code handles it."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from rxrpc.errors import LocalError, ParseError

T = TypeVar("T")

Data = bytes | bytearray | memoryview
Read = Callable[[Data, int], tuple[Any, int]]  # data, offset -> value, offset behind it
Write = Callable[[Any], bytes]

WORD_SIZE = 4
COUNT = struct.Struct("!I")


class Names(dict[str, object]):
    """The globals of a generated function; objects get names as they are needed."""

    def bind(self, value: object) -> str:
        """A name under which the generated code finds `value`."""
        name = f"n{len(self)}"
        self[name] = value
        return name


class Fixed(ABC):
    """A field whose size does not depend on its value, so it can be fused with its neighbours.

    Loading and dumping may use different `struct` formats of the same size: a reader is lenient
    about the upper bytes of a `char`, a writer extends its sign.
    """

    load_format: str
    dump_format: str
    slots: int = 1  # how many values of the unpacked tuple the field takes

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return struct.calcsize("!" + self.load_format)

    @abstractmethod
    def load(self, names: Names, at: int) -> str:
        """Source of an expression that builds the value from `t[at]` and what follows."""

    @abstractmethod
    def dump(self, names: Names, value: str) -> str:
        """Source of the `Struct.pack` arguments for the value of the expression `value`."""


class Variable:
    """A field whose size is known only from the data.

    `read` gives the value at an offset and the offset behind it; it raises `ParseError`, or
    `struct.error` when the data ends. `write` gives the bytes of a value.
    """

    def __init__(self, read: Read, write: Write) -> None:
        self.read = read
        self.write = write


class Word(Fixed):
    """A number that `struct` knows as it stands."""

    def __init__(self, load: str, dump: str | None = None) -> None:
        self.load_format = load
        self.dump_format = dump or load

    def load(self, names: Names, at: int) -> str:
        """The unpacked number itself."""
        return f"t[{at}]"

    def dump(self, names: Names, value: str) -> str:
        """The number itself."""
        return value


class Flag(Word):
    """`bool`: any word but 0 is true."""

    def load(self, names: Names, at: int) -> str:
        """True or false."""
        return f"t[{at}] != 0"


class Converted(Fixed, Generic[T]):
    """Fixed bytes with a Python function for each direction."""

    def __init__(self, size: int) -> None:
        self.load_format = self.dump_format = f"{size}s"

    def load(self, names: Names, at: int) -> str:
        """Convert the bytes."""
        return f"{names.bind(self.from_bytes)}(t[{at}])"

    def dump(self, names: Names, value: str) -> str:
        """Convert the value."""
        return f"{names.bind(self.to_bytes)}({value})"

    @abstractmethod
    def from_bytes(self, raw: bytes) -> T:
        """The value of exactly `size` bytes."""

    @abstractmethod
    def to_bytes(self, value: T) -> bytes:
        """Exactly `size` bytes."""


class CharVector(Converted[bytes]):
    """`char name[n]`: RXGEN spends a whole word on each character. The value ends at its NUL."""

    def __init__(self, length: int) -> None:
        super().__init__(length * WORD_SIZE)
        self.length = length
        self._signs = struct.Struct(f"!{length}i")
        self._bytes = struct.Struct(f"{length}b")

    def from_bytes(self, raw: bytes) -> bytes:
        """The low bytes of the words, up to the first NUL."""
        return raw[3::4].partition(b"\0")[0]

    def to_bytes(self, value: bytes) -> bytes:
        """One word for each byte; a `char` is signed where OpenAFS runs, so its sign fills it."""
        if len(value) > self.length or 0 in value:
            raise LocalError(f"{value[:80]!r} does not fit into char[{self.length}]")
        return self._signs.pack(*self._bytes.unpack(value.ljust(self.length, b"\0")))


class AfsUuid(Converted[UUID]):
    """`afsUUID`: 16 bytes spread over 11 words, as its C structure has 11 members."""

    _WORDS = struct.Struct("!3I8i")
    _PLAIN = struct.Struct("!IHH8b")

    def __init__(self) -> None:
        super().__init__(self._WORDS.size)

    def from_bytes(self, raw: bytes) -> UUID:
        """A word, two halves of words, eight low bytes of words."""
        return UUID(bytes=raw[0:4] + raw[6:8] + raw[10:12] + raw[15::4])

    def to_bytes(self, value: UUID) -> bytes:
        """The same spread out, the eight `char` with their signs extended."""
        return self._WORDS.pack(*self._PLAIN.unpack(value.bytes))


class Opaque(Variable):
    """Bytes with a length in front and padding to a word behind; at most `max` of them."""

    def __init__(self, max: int) -> None:
        super().__init__(self._read, self._write)
        self.max = max

    def _read(self, data: Data, offset: int) -> tuple[bytes, int]:
        (length,) = COUNT.unpack_from(data, offset)
        if length > self.max:
            raise ParseError(f"{length} bytes where at most {self.max} are allowed")
        start = offset + WORD_SIZE
        end = start + (length + 3 & ~3)
        if end > len(data):
            raise ParseError(f"{length} bytes announced, {len(data) - start} are there")
        return bytes(data[start : start + length]), end

    def _write(self, value: bytes) -> bytes:
        length = len(value)
        if length > self.max:
            raise LocalError(f"{length} bytes where at most {self.max} are allowed")
        return COUNT.pack(length) + value + bytes(-length & 3)


class String(Opaque):
    """A string as bytes, of at most `max`; a NUL inside is an error, as it is for OpenAFS."""

    def _read(self, data: Data, offset: int) -> tuple[bytes, int]:
        value, end = super()._read(data, offset)
        if 0 in value:
            raise ParseError(f"NUL byte inside a string: {value[:80]!r}")
        return value, end

    def _write(self, value: bytes) -> bytes:
        if 0 in value:
            raise LocalError(f"NUL byte inside a string: {value[:80]!r}")
        return super()._write(value)


class Array:
    """`T name<max>`: a count, then so many elements. Annotates a ``tuple[T, ...]``."""

    def __init__(self, max: int) -> None:
        self.max = max


class Vector:
    """`T name[length]`: so many elements, no count. Annotates a ``tuple[T, ...]``."""

    def __init__(self, length: int) -> None:
        self.length = length


class VectorField(Fixed):
    """A vector whose element is known."""

    def __init__(self, length: int, element: Fixed) -> None:
        self._length, self._element = length, element
        self.load_format = element.load_format * length
        self.dump_format = element.dump_format * length
        self.slots = element.slots * length

    def load(self, names: Names, at: int) -> str:
        """A slice of the unpacked numbers, or each element loaded for itself."""
        if type(self._element) is Word:
            return f"t[{at}:{at + self.slots}]"
        step = self._element.slots
        parts = (self._element.load(names, at + i * step) for i in range(self._length))
        return f"({', '.join(parts)},)"

    def dump(self, names: Names, value: str) -> str:
        """All elements in one starred argument."""
        checked = f"{names.bind(self._check)}({value})"
        inner = self._element.dump(names, "e")
        return f"*{checked}" if inner == "e" else f"*(p for e in {checked} for p in ({inner},))"

    def _check(self, value: Sequence[object]) -> Sequence[object]:
        if len(value) != self._length:
            raise LocalError(f"{len(value)} elements where exactly {self._length} are needed")
        return value


class StructField(Fixed):
    """A structure of fixed fields only."""

    def __init__(self, cls: type, fields: Sequence[Fixed]) -> None:
        self.cls = cls
        self._fields = fields
        self.load_format = "".join(field.load_format for field in fields)
        self.dump_format = "".join(field.dump_format for field in fields)
        self.slots = sum(field.slots for field in fields)
        self.flat = bool(fields) and all(type(field) is Word for field in fields)

    def load(self, names: Names, at: int) -> str:
        """An instance made from a slice of the unpacked numbers, or from each field's value."""
        new = f"{names.bind(tuple.__new__)}({names.bind(self.cls)}, "
        if self.flat:
            return f"{new}t[{at}:{at + self.slots}])"
        parts = []
        for field in self._fields:
            parts.append(field.load(names, at) + ",")
            at += field.slots
        return f"{new}({' '.join(parts)}))"

    def dump(self, names: Names, value: str) -> str:
        """The fields, one after the other."""
        if self.flat:
            return f"*{value}"
        return ", ".join(f.dump(names, f"{value}[{i}]") for i, f in enumerate(self._fields))


class ArrayField(Variable):
    """An array whose element is known, with the functions that read and write one of them."""

    def __init__(self, max: int, element: Fixed | Variable, one: tuple[Read, Write]) -> None:
        super().__init__(self._read, self._write)
        self._max = max
        self._read_one, self._write_one = one
        # No element is smaller than a word, so a count is checked before anything is built.
        self._least = element.size if isinstance(element, Fixed) else WORD_SIZE
        if not self._least:
            raise TypeError("an array of elements without a size has no bound")
        self._read_all = _fast_reader(element)

    def _read(self, data: Data, offset: int) -> tuple[tuple[Any, ...], int]:
        (count,) = COUNT.unpack_from(data, offset)
        if count > self._max:
            raise ParseError(f"{count} elements where at most {self._max} are allowed")
        offset += WORD_SIZE
        end = offset + count * self._least
        if end > len(data):
            raise ParseError(f"{count} elements announced, {len(data) - offset} bytes are there")
        if self._read_all is not None:
            return self._read_all(memoryview(data)[offset:end]), end
        values = []
        for _ in range(count):
            value, offset = self._read_one(data, offset)
            values.append(value)
        return tuple(values), offset

    def _write(self, value: Sequence[object]) -> bytes:
        if len(value) > self._max:
            raise LocalError(f"{len(value)} elements where at most {self._max} are allowed")
        return COUNT.pack(len(value)) + b"".join(map(self._write_one, value))


def _fast_reader(element: Fixed | Variable) -> Callable[[memoryview], tuple[Any, ...]] | None:
    """A reader of back-to-back elements that loops in C; None where elements need code of ours."""
    if type(element) is Word:
        code, size = element.load_format, element.size
        return lambda view: struct.unpack("!" + code * (len(view) // size), view)
    if isinstance(element, StructField) and element.flat:
        iterate = struct.Struct("!" + element.load_format).iter_unpack
        make = partial(tuple.__new__, element.cls)
        return lambda view: tuple(map(make, iterate(view)))
    return None
