from uuid import UUID

from afsfuse.interfaces import callback as cb
from rxrpc.xdr import decode, encode
from tests.vectors.recorded import recorded


def test_a_recorded_break_brings_no_callbacks() -> None:
    args = decode(cb.CallBackArgs, recorded("CallBack"))
    assert [str(fid) for fid in args.fids] == ["536870923.2.2"]
    assert args.callbacks == ()


def test_a_recorded_restart_names_the_server() -> None:
    args = decode(cb.UuidArgs, recorded("InitCallBackState3"))
    assert args.uuid == UUID("005b351a-8503-1b03-95b3-0100007faa77")


def test_the_sizes_are_those_of_the_c_structures() -> None:
    zeros = (0,) * cb.INTERFACES_MAX
    interfaces = cb.InterfaceAddresses(0, UUID(int=0), zeros, zeros, zeros)
    assert len(encode(interfaces)) == 4 * (1 + 11 + 3 * 32)
    assert len(encode(cb.Lock(b"afs_xvcache", cb.LockDescription()))) == 4 * (16 + 8)
    assert len(encode(cb.CacheConfig(*[0] * 9))) == 36
