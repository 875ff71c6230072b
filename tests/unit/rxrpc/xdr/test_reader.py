import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.errors import ParseError
from rxrpc.xdr import Reader, i32, u32, xdr_struct


@xdr_struct
class Pair:
    first: u32
    second: i32


def test_reads_one_value_after_the_other() -> None:
    reader = Reader(b"\0\0\0\7\xff\xff\xff\xfe\0\0\0\3abc\0\0\0\0\1x\0\0\0\0\0\0\1\0\0\0\2yz")
    assert reader.u32() == 7
    assert reader.i32() == -2
    assert reader.opaque(3) == b"abc"
    assert reader.string(8) == b"x"
    assert reader.struct(Pair) == Pair(1, 2)
    assert reader.remaining == 2
    with pytest.raises(ParseError, match="2 bytes too many"):
        reader.check_end()
    assert reader.take(2) == b"yz"
    reader.check_end()


def test_positive_signed_words_stay_positive() -> None:
    assert Reader(b"\x7f\xff\xff\xff").i32() == 2**31 - 1


@pytest.mark.parametrize("count", [-1, 3, 2**40])
def test_takes_no_more_than_there_is(count: int) -> None:
    with pytest.raises(ParseError):
        Reader(b"ab").take(count)


@given(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from(
            [
                Reader.u32,
                Reader.i32,
                lambda reader: reader.opaque(9),
                lambda reader: reader.string(9),
                lambda reader: reader.struct(Pair),
                lambda reader: reader.take(5),
                Reader.check_end,
            ]
        ),
        max_size=8,
    ),
)
def test_raises_parse_errors_only(data: bytes, steps: list[object]) -> None:
    reader = Reader(data)
    try:
        for step in steps:
            step(reader)  # type: ignore[operator]
    except ParseError:
        pass
    assert 0 <= reader.remaining <= len(data)
