"""Correcting libfuse's answer to FUSE_INIT."""

from __future__ import annotations

import struct

import pytest

from afsfuse.fuse.handshake import Wishes, corrected
from afsfuse.fuse.mount import MountError

PARALLEL_DIROPS = 1 << 18
READDIRPLUS = 1 << 13
HANDLE_KILLPRIV_V2 = 1 << 28


def request(flags: int, opcode: int = 26) -> bytes:
    """What a kernel of protocol 7.44 sends: 40 bytes of header, 64 of body."""
    header = struct.pack("=IIQQIIIHH", 104, opcode, 2, 0, 0, 0, 0, 0, 0)
    return header + struct.pack("=IIIII44x", 7, 44, 131072, flags, 0)


def reply(flags: int, error: int = 0) -> bytes:
    """What libfuse answers: 16 bytes of header, 64 of body."""
    header = struct.pack("=IiQ", 80, error, 2)
    return header + struct.pack(
        "=IIIIHHIIHHI32x", 7, 38, 131072, flags, 12, 9, 1 << 20, 1, 256, 0, 5
    )


def test_parallel_lookups_are_asked_for_when_they_are_offered() -> None:
    answer = corrected(request(READDIRPLUS | PARALLEL_DIROPS), reply(READDIRPLUS), Wishes())
    assert struct.unpack_from("=I", answer, 28) == (READDIRPLUS | PARALLEL_DIROPS,)
    answer = corrected(request(READDIRPLUS), reply(READDIRPLUS), Wishes())
    assert struct.unpack_from("=I", answer, 28) == (READDIRPLUS,)


def test_the_kernel_need_not_ask_before_each_write() -> None:
    answer = corrected(request(HANDLE_KILLPRIV_V2), reply(0), Wishes())
    assert struct.unpack_from("=I", answer, 28) == (HANDLE_KILLPRIV_V2,)


@pytest.mark.parametrize(
    ("background", "told"), [(400, (400, 300)), (100_000, (65535, 49151)), (1, (1, 0))]
)
def test_the_background_is_what_was_wished_for(background: int, told: tuple[int, int]) -> None:
    answer = corrected(request(0), reply(0), Wishes(background=background))
    assert struct.unpack_from("=HH", answer, 32) == told


def test_everything_else_stays() -> None:
    before = reply(READDIRPLUS)
    after = corrected(request(PARALLEL_DIROPS), before, Wishes())
    assert len(after) == len(before)
    assert after[:28] == before[:28]
    assert after[36:] == before[36:]


@pytest.mark.parametrize("wrong", [b"", request(0)[:30], request(0, opcode=1)])
def test_a_kernel_that_begins_otherwise_is_refused(wrong: bytes) -> None:
    with pytest.raises(MountError, match="did not begin with FUSE_INIT") as caught:
        corrected(wrong, reply(0), Wishes())
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("wrong", [b"", reply(0)[:20], reply(0, error=-71)])
def test_a_libfuse_that_refuses_is_an_error(wrong: bytes) -> None:
    with pytest.raises(MountError, match="do not agree"):
        corrected(request(0), wrong, Wishes())
