import pytest

from rxrpc.rpc import Interface, Rpc, RxgenCode, Stream, Void
from rxrpc.xdr import decode, encode

FIRST = Rpc("First", 1, Void, Void)
SECOND = Rpc("Second", 2, Void, Void, idempotent=True, stream=Stream.FROM_SERVER)


def test_an_interface_finds_its_procedures_by_number() -> None:
    interface = Interface("TEST", service_id=9, rpcs=(FIRST, SECOND))
    assert interface.by_opcode[2] is SECOND
    assert 3 not in interface.by_opcode
    with pytest.raises(TypeError):
        interface.by_opcode[3] = FIRST  # type: ignore[index]


def test_a_number_stands_for_one_procedure() -> None:
    with pytest.raises(ValueError, match="TEST"):
        Interface("TEST", service_id=9, rpcs=(FIRST, Rpc("Other", 1, Void, Void)))


def test_procedures_are_told_apart_in_logs() -> None:
    assert str(SECOND) == "Second(2)"


def test_nothing_is_a_value() -> None:
    assert encode(Void()) == b""
    assert decode(Void, b"") == Void()
    assert Void()


def test_codes_are_those_of_rxgen() -> None:
    assert RxgenCode(-455) is RxgenCode.OPCODE
    assert RxgenCode(-454) is RxgenCode.DECODE
