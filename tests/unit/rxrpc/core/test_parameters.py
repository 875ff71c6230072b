"""The parameters fit together."""

import ast
import inspect
import math
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxrpc.core import parameters
from rxrpc.core.parameters import Parameters, Value
from rxrpc.errors import LocalError
from rxrpc.security.base import SecurityLevel
from rxrpc.wire.ack import MAX_ACKS
from rxrpc.wire.packet import HEADER_SIZE


def test_every_field_is_explained() -> None:
    tree = ast.parse(inspect.getsource(parameters))
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    explained = [
        first.target.id
        for first, second in zip(cls.body, cls.body[1:], strict=False)
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    ]
    assert explained == [field.name for field in fields(Parameters)]


def test_defaults_are_consistent() -> None:
    default = Parameters()
    assert default.receive_window <= MAX_ACKS
    assert default.max_send_window <= MAX_ACKS, "an ACK could not describe more"
    assert default.read_ahead < default.receive_window
    assert HEADER_SIZE < default.min_mtu <= default.send_mtu
    assert default.quiet_ack_delay < default.soft_ack_delay < default.min_rto
    assert default.ping_interval < default.dead_time
    assert default.max_unproven_calls < default.max_server_calls
    assert len(default.version) <= 64
    assert default.receive_mtu <= 1444, "no more than every link takes in one piece"


@pytest.mark.parametrize(
    "changes",
    [
        {"receive_window": 256},
        {"receive_window": 0},
        {"receive_window": 10},  # less than `read_ahead`
        {"receive_window": 20.0, "read_ahead": 4},
        {"dead_time": 0},
        {"dead_time": -1.0},
        {"dead_time": math.nan},
        {"dead_time": None},
        {"idle_time": "never"},
        {"check_reach": 1},
        {"batch": True},
        {"version": b"x" * 65},
        {"version": "text"},
        {"min_mtu": 28},
        {"min_mtu": 1500},
        {"min_security_level": 2},
        {"no_such_thing": 1},
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Value]) -> None:
    before = Parameters()
    with pytest.raises(LocalError, match=next(iter(changes))):
        before.changed(**changes)
    assert before == Parameters()


def test_what_works_is_taken() -> None:
    changed = Parameters().changed(
        idle_time=None,
        hard_time=3,
        nat_time=math.inf,
        max_server_calls=0,
        min_security_level=SecurityLevel.CRYPT,
    )
    assert (changed.hard_time, changed.idle_time, changed.nat_time) == (3, None, math.inf)
    assert changed.min_security_level is SecurityLevel.CRYPT
    assert changed.dead_time == Parameters().dead_time


@given(
    name=st.sampled_from([field.name for field in fields(Parameters)]),
    value=st.integers() | st.floats() | st.none() | st.booleans() | st.binary(),
)
def test_any_value_is_taken_or_refused(name: str, value: Value) -> None:
    """Nothing but `LocalError`, and what is taken is there."""
    try:
        changed = Parameters().changed(**{name: value})
    except LocalError:
        return
    assert asdict(changed) == {**asdict(Parameters()), name: value}
