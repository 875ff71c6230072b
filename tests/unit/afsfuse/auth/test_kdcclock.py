"""What a KDC is asked, and what is read out of its refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.auth.kdcclock import question, time_of
from rxrpc.errors import ParseError
from rxrpc.security.der import SEQUENCE, STRING, Der, application, build, build_integer, field
from rxrpc.security.der import build_time as time_field

NOW = 1_700_000_000


def refusal(*, with_ours: bool = False, kind: int = 30) -> bytes:
    """A KRB-ERROR, with as much of it as is read."""
    fields = [build(field(0), build_integer(5)), build(field(1), build_integer(kind))]
    if with_ours:
        fields += [build(field(2), time_field(1)), build(field(3), build_integer(2))]
    fields += [build(field(4), time_field(NOW)), build(field(5), build_integer(0))]
    fields += [build(field(6), build_integer(6)), build(field(9), build(STRING, b"EXAMPLE.ORG"))]
    return build(application(30), build(SEQUENCE, *fields))


@pytest.mark.parametrize("with_ours", [False, True])
def test_the_time_in_a_refusal(with_ours: bool) -> None:
    assert time_of(refusal(with_ours=with_ours)) == NOW


def test_the_question_is_one() -> None:
    fields = Der(question("EXAMPLE.ORG", 77)).inside(application(10), SEQUENCE)
    assert (fields.integer(1), fields.integer(2)) == (5, 10)
    body = fields.inside(field(4), SEQUENCE)
    body.skip(0)
    assert b"afsfuse-check" in body.value(1, SEQUENCE)
    assert body.value(2, STRING) == b"EXAMPLE.ORG"
    assert b"krbtgt" in body.value(3, SEQUENCE)


@given(st.binary(max_size=60) | st.integers(0, len(refusal()) - 1).map(lambda n: refusal()[:n]))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        time_of(data)


def test_another_answer_is_no_refusal() -> None:
    with pytest.raises(ParseError):
        time_of(refusal(kind=11))
