"""What holds for every table: round trips, strictness, recorded bytes."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afsfuse.interfaces import callback, common, fileserver, kauth, protection, vldb
from rxrpc.errors import ParseError
from rxrpc.rpc import Rpc
from rxrpc.xdr import decode, encode
from tests.fuzz.xdr_strategies import values
from tests.vectors.recorded import MESSAGES, recorded

MODULES = (common, fileserver, callback, vldb, protection, kauth)
INTERFACES = (fileserver.RXAFS, callback.RXAFSCB, vldb.VL, protection.PR, kauth.KAA, kauth.KAT)
RPCS: list[Rpc[Any, Any]] = [rpc for interface in INTERFACES for rpc in interface.rpcs]
STRUCTURES: list[type] = sorted(
    {cls for rpc in RPCS for cls in (rpc.args, rpc.reply)}, key=lambda cls: cls.__name__
)


def structure(name: str) -> type:
    found: type = next(getattr(module, name) for module in MODULES if hasattr(module, name))
    return found


@pytest.mark.parametrize("cls", STRUCTURES, ids=lambda cls: cls.__name__)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_message_survives_its_encoding(cls: type, data: st.DataObject) -> None:
    value = data.draw(values(cls))
    raw = encode(value)
    assert decode(cls, raw) == value
    with pytest.raises(ParseError):
        decode(cls, raw + b"\0")
    if raw:
        with pytest.raises(ParseError):
            decode(cls, raw[: data.draw(st.integers(0, len(raw) - 1))])
        mutated = bytearray(raw)
        mutated[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        with contextlib.suppress(ParseError):
            encode(decode(cls, mutated))


@pytest.mark.parametrize("name", MESSAGES)
def test_recorded_messages_are_read_and_written_alike(name: str) -> None:
    raw = recorded(name)
    cls = structure(MESSAGES[name]["class"])
    assert encode(decode(cls, raw)) == raw


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
def test_procedures_are_in_the_order_of_their_numbers(interface: Any) -> None:
    opcodes = [rpc.opcode for rpc in interface.rpcs]
    assert opcodes == sorted(opcodes)
    assert interface.service_id in (1, 52, 73, 731, 732)


def test_only_procedures_that_change_nothing_more_the_second_time_may_be_sent_again() -> None:
    assert {rpc.name for rpc in RPCS if not rpc.idempotent} == {
        *("StoreData", "StoreData64", "CreateFile", "MakeDir", "Symlink", "Link"),
        *("RemoveFile", "RemoveDir", "Rename", "SetLock", "ReleaseLock"),
    }
