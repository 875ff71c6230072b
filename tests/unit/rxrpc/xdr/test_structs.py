import contextlib
import pickle
from typing import Annotated
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import LocalError, ParseError
from rxrpc.xdr import (
    AfsUuid,
    Array,
    Bool,
    CharVector,
    Opaque,
    String,
    Vector,
    decode,
    encode,
    i8,
    i16,
    i32,
    i64,
    u32,
    u64,
    xdr_struct,
)
from tests.fuzz.xdr_strategies import values


@xdr_struct
class Pair:
    first: u32
    second: i32


@xdr_struct
class Counted:
    pairs: Annotated[tuple[Pair, ...], Array(4)]
    words: Annotated[tuple[u32, ...], Array(4)]
    names: Annotated[tuple[Annotated[bytes, String(9)], ...], Array(4)]
    marks: Annotated[tuple[Annotated[bytes, CharVector(2)], ...], Array(4)]


@xdr_struct
class Fixed:
    """Fixed fields only, of every kind."""

    pair: Pair
    tiny: i8
    short: i16
    wide: i64
    wider: u64
    flag: Bool
    name: Annotated[bytes, CharVector(5)]
    id: Annotated[UUID, AfsUuid()]
    words: Annotated[tuple[i32, ...], Vector(3)]
    pairs: Annotated[tuple[Pair, ...], Vector(2)]
    ids: Annotated[tuple[Annotated[UUID, AfsUuid()], ...], Vector(2)]


@xdr_struct
class Mixed:
    """Fixed and variable fields by turns, structures inside structures."""

    start: u32
    opaque: Annotated[bytes, Opaque(7)]
    fixed: Fixed
    counted: Counted
    many: Annotated[tuple[Counted, ...], Array(2)]
    end: i16

    @property
    def size(self) -> int:
        return len(self.opaque)


@xdr_struct
class Empty:
    pass


@xdr_struct
class WithDefaults:
    number: u32
    text: Annotated[bytes, String(4)] = b"none"
    last: i32 = -1


CLASSES = [Pair, Counted, Fixed, Mixed, Empty, WithDefaults]


@given(st.sampled_from(CLASSES).flatmap(values))
def test_decode_is_the_inverse_of_encode(value: object) -> None:
    data = encode(value)
    assert len(data) % 4 == 0
    for form in (data, bytearray(data), memoryview(data)):
        again = decode(type(value), form)
        assert again == value
        assert type(again) is type(value)


@given(st.sampled_from(CLASSES).flatmap(values), st.data())
def test_anything_short_or_long_is_a_parse_error(value: object, data: st.DataObject) -> None:
    raw = encode(value)
    with pytest.raises(ParseError):
        decode(type(value), raw + b"\0\0\0\0")
    if raw:
        cut = data.draw(st.integers(0, len(raw) - 1))
        with pytest.raises(ParseError):
            decode(type(value), raw[:cut])


@given(st.sampled_from(CLASSES), st.binary(max_size=300))
def test_noise_is_a_value_or_a_parse_error(cls: type[object], noise: bytes) -> None:
    try:
        value = decode(cls, noise)
    except ParseError:
        return
    decode(cls, encode(value))


@given(values(Mixed), st.data())
def test_a_mutation_is_a_value_or_a_parse_error(value: Mixed, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ParseError):
        decode(Mixed, raw)


def test_the_bytes_are_those_of_the_standard() -> None:
    value = Mixed(
        start=1,
        opaque=b"abcde",
        fixed=Fixed(
            Pair(2, -1),
            -2,
            -3,
            -4,
            2**64 - 1,
            True,
            b"x\xff",
            UUID("00112233-4455-6677-8899-aabbccddeeff"),
            (1, 2, 3),
            (Pair(4, 5), Pair(6, 7)),
            (UUID(int=0), UUID(int=1)),
        ),
        counted=Counted((Pair(8, 9),), (10,), (b"a",), (b"b",)),
        many=(),
        end=-1,
    )
    assert encode(value).hex(" ", 4).split() == [
        "00000001",  # start
        *("00000005", "61626364", "65000000"),  # opaque with its padding
        *("00000002", "ffffffff"),  # pair
        *("fffffffe", "fffffffd"),  # char and short as words
        *("ffffffff", "fffffffc"),  # wide
        *("ffffffff", "ffffffff"),  # wider
        "00000001",  # flag
        *("00000078", "ffffffff", "00000000", "00000000", "00000000"),  # name, a word a char
        *("00112233", "00004455", "00006677", "ffffff88", "ffffff99"),  # id
        *("ffffffaa", "ffffffbb", "ffffffcc", "ffffffdd", "ffffffee", "ffffffff"),
        *("00000001", "00000002", "00000003"),  # words
        *("00000004", "00000005", "00000006", "00000007"),  # pairs
        *["00000000"] * 11,
        *["00000000"] * 10,
        "00000001",  # ids
        *("00000001", "00000008", "00000009"),  # counted.pairs
        *("00000001", "0000000a"),  # counted.words
        *("00000001", "00000001", "61000000"),  # counted.names
        *("00000001", "00000062", "00000000"),  # counted.marks
        "00000000",  # many
        "ffffffff",  # end
    ]


def test_small_numbers_are_read_from_the_low_bytes_only() -> None:
    raw = bytearray(encode(Fixed(
        Pair(0, 0), 5, 6, 0, 0, False, b"ab", UUID(int=0), (0, 0, 0), (Pair(0, 0),) * 2,
        (UUID(int=0),) * 2,
    )))  # fmt: skip
    raw[8:11] = b"\xff\xff\xff"  # tiny
    raw[12:14] = b"\xff\xff"  # short
    raw[32:36] = b"\0\0\1\0"  # flag: any word but 0
    raw[36:39] = b"\xff\xff\xff"  # first character of the name
    value = decode(Fixed, raw)
    assert (value.tiny, value.short, value.flag, value.name) == (5, 6, True, b"ab")


def test_padding_may_have_any_value() -> None:
    raw = bytearray(encode(WithDefaults(1, b"a")))
    raw[9:12] = b"\1\2\3"
    assert decode(WithDefaults, raw).text == b"a"


@pytest.mark.parametrize(
    ("cls", "raw", "message"),
    [
        (Counted, b"\0\0\0\5", "at most 4"),
        (Counted, b"\xff\xff\xff\xff", "at most 4"),
        (Counted, b"\0\0\0\2" + b"\0" * 8, "announced"),
        (WithDefaults, b"\0\0\0\0\0\0\0\5", "at most 4"),
        (WithDefaults, b"\0\0\0\0\0\0\0\3ab", "announced"),
        (WithDefaults, b"\0\0\0\0\0\0\0\3a\0b\0\0\0\0\0", "NUL"),
    ],
)
def test_lengths_are_checked_before_anything_is_built(cls: type, raw: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        decode(cls, raw)


@pytest.mark.parametrize(
    "value",
    [
        Pair(-1, 0),
        Pair(2**32, 0),
        Pair(0, 2**31),
        Pair("x", 0),  # type: ignore[arg-type]
        WithDefaults(1, b"abcde"),
        WithDefaults(1, b"a\0"),
        Counted((Pair(0, 0),) * 5, (), (), ()),
        Counted((), (), (), (b"abc",)),
        Counted((), (), (), (b"\0",)),
    ],
)
def test_what_does_not_fit_is_a_mistake_of_ours(value: object) -> None:
    with pytest.raises(LocalError):
        encode(value)


def test_vectors_have_their_length() -> None:
    zero = UUID(int=0)
    rest = (Pair(0, 0), 0, 0, 0, 0, False, b"", zero)
    with pytest.raises(LocalError, match="exactly 3"):
        encode(Fixed(*rest, (1, 2), (Pair(0, 0),) * 2, (zero, zero)))
    with pytest.raises(LocalError, match="exactly 2"):
        encode(Fixed(*rest, (1, 2, 3), (Pair(0, 0),), (zero, zero)))


def test_opaque_bytes_that_are_too_long_are_a_mistake_of_ours() -> None:
    @xdr_struct
    class Blob:
        data: Annotated[bytes, Opaque(3)]

    assert decode(Blob, encode(Blob(b"\0ab"))).data == b"\0ab"
    with pytest.raises(LocalError):
        encode(Blob(b"abcd"))


def test_values_are_immutable_hashable_and_named() -> None:
    pair = Pair(1, second=2)
    with pytest.raises(AttributeError):
        pair.first = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        pair.third = 3  # type: ignore[attr-defined]
    assert {pair: "x"}[Pair(1, 2)] == "x"
    assert repr(pair) == "Pair(first=1, second=2)"
    assert pickle.loads(pickle.dumps(pair)) == pair
    assert WithDefaults(7) == WithDefaults(7, b"none", -1)
    assert not hasattr(pair, "__dict__")


def test_methods_and_docstrings_survive() -> None:
    assert Fixed.__doc__ == "Fixed fields only, of every kind."
    mixed = decode(Mixed, b"\0" * len(encode(Mixed(
        0, b"", Fixed(
            Pair(0, 0), 0, 0, 0, 0, False, b"", UUID(int=0), (0, 0, 0), (Pair(0, 0),) * 2,
            (UUID(int=0),) * 2,
        ), Counted((), (), (), ()), (), 0,
    ))))  # fmt: skip
    assert mixed.size == 0


def test_a_field_without_an_encoding_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Bad\.what"):

        @xdr_struct
        class Bad:
            what: int

    with pytest.raises(TypeError, match=r"Worse\.what"):

        @xdr_struct
        class Worse:
            what: Annotated[tuple[Annotated[bytes, Opaque(1)], ...], Vector(2)]

    with pytest.raises(TypeError, match=r"Odd\.what"):

        @xdr_struct
        class Odd:
            what: Annotated[int, "a remark"]


def test_an_array_of_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="bound"):

        @xdr_struct
        class Endless:
            what: Annotated[tuple[Empty, ...], Array(2**31)]
