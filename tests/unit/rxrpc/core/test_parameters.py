"""The parameters fit together."""

import ast
import inspect
from dataclasses import fields

from rxrpc.core import parameters
from rxrpc.core.parameters import Parameters
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
