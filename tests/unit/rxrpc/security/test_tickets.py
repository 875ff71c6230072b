"""Tickets: opened, made, refused."""

from __future__ import annotations

import random

import pytest

from rxrpc.errors import LocalError, SecurityError
from rxrpc.security import der, des, krbcrypto
from rxrpc.security.krbcrypto import AES256_SHA1, TICKET
from rxrpc.security.rxkadcodes import RxkadCode
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import (
    KERBEROS_5,
    KERBEROS_5_PART,
    NEVER,
    Principal,
    check_times,
    lifetime_byte,
    lifetime_end,
    make_ticket,
    make_ticket_4,
    open_ticket,
)

NOW = 1_800_000_000
DAY = 24 * 3600
KEYS = ServiceKeys({(3, AES256_SHA1): bytes(range(32)), (5, 1): bytes.fromhex("0123456789abcdef")})
ALICE = Principal("alice", "", "TEST.AFS")
SESSION = b"sessionk"

Field = tuple[int, bytes]


def refused(kvno: int, ticket: bytes, keys: ServiceKeys = KEYS, now: float = NOW) -> int:
    """The code with which a ticket is refused."""
    with pytest.raises(SecurityError) as caught:
        open_ticket(kvno, ticket, keys, now)
    return caught.value.code


def times(start: int, end: int) -> int:
    with pytest.raises(SecurityError) as caught:
        check_times(start, end, NOW)
    return caught.value.code


def principal(*names: bytes) -> bytes:
    strings = b"".join(der.build(der.STRING, name) for name in names)
    return der.build(
        der.SEQUENCE,
        der.build(der.field(0), der.build_integer(1)),
        der.build(der.field(1), der.build(der.SEQUENCE, strings)),
    )


def part(**changes: bytes | None) -> bytes:
    """The clear text of a ticket, as a KDC makes it; the fields may be changed or left out."""
    fields: dict[str, bytes | None] = {
        "flags": der.build(der.BIT_STRING, bytes.fromhex("0040a10000")),
        "key": der.build(
            der.SEQUENCE,
            der.build(der.field(0), der.build_integer(18)),
            der.build(der.field(1), der.build(der.OCTETS, bytes(range(32)))),
        ),
        "realm": der.build(der.STRING, b"TEST.AFS"),
        "client": principal(b"alice", b"admin"),
        "transited": der.build(der.SEQUENCE),
        "authtime": der.build_time(NOW - 100),
        "starttime": der.build_time(NOW - 60),
        "endtime": der.build_time(NOW + 3600),
        "renew": der.build_time(NOW + DAY),
        "addresses": None,
        "authorization": der.build(der.SEQUENCE, b""),
    }
    fields |= changes
    body = [der.build(der.field(at), each) for at, each in enumerate(fields.values()) if each]
    return der.build(der.application(3), der.build(der.SEQUENCE, *body))


def sealed(clear: bytes, kvno: int = 3, enctype: int = AES256_SHA1) -> bytes:
    """The encrypted part."""
    key = KEYS.find(3, AES256_SHA1)
    assert key is not None
    cipher = krbcrypto.encrypt(AES256_SHA1, key, TICKET, clear, bytes(16))
    return der.build(
        der.SEQUENCE,
        der.build(der.field(0), der.build_integer(enctype)),
        der.build(der.field(1), der.build_integer(kvno)),
        der.build(der.field(2), der.build(der.OCTETS, cipher)),
    )


def whole(clear: bytes, version: int = 5) -> bytes:
    """A whole ticket."""
    return der.build(
        der.application(1),
        der.build(
            der.SEQUENCE,
            der.build(der.field(0), der.build_integer(version)),
            der.build(der.field(1), der.build(der.STRING, b"TEST.AFS")),
            der.build(der.field(2), principal(b"afs", b"test.afs")),
            der.build(der.field(3), sealed(clear)),
        ),
    )


# Kerberos 5


@pytest.mark.parametrize("kvno", [KERBEROS_5, KERBEROS_5_PART])
def test_a_ticket_of_kerberos_5(kvno: int) -> None:
    ticket = whole(part()) if kvno == KERBEROS_5 else sealed(part())
    contents = open_ticket(kvno, ticket, KEYS, NOW)
    assert contents.client == Principal("alice", "admin", "TEST.AFS")
    assert str(contents.client) == "alice.admin@TEST.AFS"
    assert (contents.start, contents.end) == (NOW - 60, NOW + 3600)
    assert len(contents.session_key) == 8
    assert "session_key" not in repr(contents)
    assert refused(509 - 40 - kvno, ticket) in (RxkadCode.BAD_TICKET, RxkadCode.UNKNOWN_KEY)


def test_a_ticket_without_a_start() -> None:
    assert open_ticket(KERBEROS_5_PART, sealed(part(starttime=None)), KEYS, NOW).start == NOW - 100


def test_a_ticket_of_ones_own() -> None:
    for who in (ALICE, Principal("alice", "admin", ""), Principal("afs", "", "")):
        kvno, ticket = make_ticket(KEYS, who, SESSION, bytes(16))
        contents = open_ticket(kvno, ticket, KEYS, NOW)
        assert contents.client == who
        assert contents.session_key == SESSION
    with pytest.raises(LocalError):
        make_ticket(ServiceKeys({(5, 1): bytes(8)}), ALICE, SESSION, bytes(16))


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": None},
        {"flags": der.build(der.OCTETS, bytes(5))},
        {"key": None},
        {"key": der.build(der.SEQUENCE, der.build(der.field(0), der.build_integer(18)))},
        {"realm": der.build(der.STRING, b"x" * 64)},
        {"client": principal()},
        {"client": principal(b"")},
        {"client": principal(b"a", b"b", b"c")},
        {"client": principal(b"alice.admin")},
        {"client": principal(b"alice\0")},
        {"client": principal(b"\xff")},
        {"authtime": None},
        {"endtime": None},
        {"endtime": der.build_time(NOW + 31 * DAY)},
        {"endtime": der.build_time(NOW + 1), "starttime": der.build_time(NOW + 2)},
    ],
)
def test_bad_tickets(changes: dict[str, bytes | None]) -> None:
    assert refused(KERBEROS_5_PART, sealed(part(**changes))) == RxkadCode.BAD_TICKET


def test_an_unknown_session_key_type() -> None:
    key = der.build(
        der.SEQUENCE,
        der.build(der.field(0), der.build_integer(4)),
        der.build(der.field(1), der.build(der.OCTETS, bytes(8))),
    )
    assert refused(KERBEROS_5_PART, sealed(part(key=key))) == RxkadCode.BAD_TICKET


def test_times_of_a_ticket() -> None:
    late = der.build_time(NOW - 1)
    assert refused(KERBEROS_5_PART, sealed(part(endtime=late))) == RxkadCode.EXPIRED
    soon = der.build_time(NOW + 1000)
    assert refused(KERBEROS_5_PART, sealed(part(starttime=soon))) == RxkadCode.NO_AUTH
    flags = der.build(der.BIT_STRING, bytes.fromhex("0001000000"))
    assert refused(KERBEROS_5_PART, sealed(part(flags=flags))) == RxkadCode.NO_AUTH


def test_keys_that_are_not_here() -> None:
    for kvno, enctype in ((4, AES256_SHA1), (3, 17), (5, 1), (3, 23)):
        ticket = sealed(part(), kvno, enctype)
        assert refused(KERBEROS_5_PART, ticket) == RxkadCode.UNKNOWN_KEY


def test_what_was_not_sealed_with_the_key() -> None:
    ticket = bytearray(sealed(part()))
    ticket[-20] ^= 1
    assert refused(KERBEROS_5_PART, bytes(ticket)) == RxkadCode.BAD_TICKET
    assert refused(KERBEROS_5, whole(part(), version=4)) == RxkadCode.BAD_TICKET
    assert refused(KERBEROS_5, whole(part()) + b"x") == RxkadCode.BAD_TICKET
    assert refused(KERBEROS_5_PART, sealed(part()) + b"x") == RxkadCode.BAD_TICKET


@pytest.mark.parametrize("size", [0, 31, 12001])
def test_lengths(size: int) -> None:
    assert refused(KERBEROS_5, bytes(size)) == RxkadCode.TICKET_LENGTH


# Times


def test_check_times() -> None:
    """As tkt_CheckTimes of OpenAFS has it."""
    check_times(0, NEVER, NOW)
    check_times(0, 0x7FFFFFFF, NOW)
    check_times(NOW + 900, NOW + 1000, NOW)
    check_times(NOW - DAY, NOW - 900, NOW)
    assert times(NOW, NOW) == RxkadCode.BAD_TICKET
    assert times(NOW, NOW + 30 * DAY + 1) == RxkadCode.BAD_TICKET
    assert times(NOW + 31 * DAY, NOW + 32 * DAY) == RxkadCode.BAD_TICKET
    assert times(NOW - DAY, NOW - 901) == RxkadCode.EXPIRED
    assert times(NOW + 901, NOW + 1000) == RxkadCode.NO_AUTH


# Kerberos 4


def test_a_ticket_of_kerberos_4() -> None:
    key = KEYS.find_des(5)
    assert key is not None
    ticket = make_ticket_4(key, ALICE, SESSION, NOW - 60, 12)
    contents = open_ticket(5, ticket, KEYS, NOW)
    assert contents.client == ALICE
    assert contents.session_key == SESSION
    assert (contents.start, contents.end) == (NOW - 60, NOW - 60 + 3600)
    assert refused(6, ticket) == RxkadCode.UNKNOWN_KEY
    assert refused(5, ticket, now=NOW + 2 * DAY) == RxkadCode.EXPIRED
    assert refused(5, ticket + b"x") == RxkadCode.BAD_TICKET


def test_the_other_byte_order() -> None:
    key = KEYS.find_des(5)
    assert key is not None
    clear = b"\x01alice\0\0TEST.AFS\0" + bytes(4) + SESSION + b"\x0c"
    clear += (NOW - 60).to_bytes(4, "little") + b"afs\0\0"
    ticket = des.pcbc_encrypt(key, clear)
    assert open_ticket(5, ticket, KEYS, NOW).start == NOW - 60


def test_changed_tickets_of_kerberos_4() -> None:
    """PCBC spoils all that follows; there is nothing else that notices."""
    key = KEYS.find_des(5)
    assert key is not None
    clear = des.pcbc_decrypt(key, make_ticket_4(key, ALICE, SESSION, NOW, 12))
    wrongs = [b"\0" * len(clear), b"\0" + b"x" * 70 + b"\0", clear[:32], clear + bytes(24)]
    for wrong in [*wrongs, b"\0a\0\0\0" + bytes(35)]:
        assert refused(5, des.pcbc_encrypt(key, wrong)) == RxkadCode.BAD_TICKET
    coin = random.Random(2)
    for _ in range(200):
        code = refused(5, coin.randbytes(48))
        assert code in (RxkadCode.BAD_TICKET, RxkadCode.EXPIRED, RxkadCode.NO_AUTH)


def test_lifetimes() -> None:
    """Some of the 64 steps of lifetimes.h."""
    assert lifetime_end(0, 127) == 127 * 300
    assert [lifetime_end(0, life) for life in (0x80, 0x81, 0x90, 0xBE, 0xBF, 0xC0)] == [
        38400, 41055, 111922, 2424367, 2592000, 2592000,
    ]  # fmt: skip
    assert lifetime_end(5, 255) == NEVER


def test_the_lifetime_that_is_asked_for_or_the_next_longer_one() -> None:
    """As time_to_life of OpenAFS has it."""
    longest = 30 * DAY
    asked = (1, 300, 301, 38100, 38101, 38401, 86400, longest)
    assert [lifetime_byte(seconds) for seconds in asked] == [
        1, 1, 2, 127, 0x80, 0x81, 0x8D, 0xBF,
    ]  # fmt: skip
    assert [lifetime_byte(seconds) for seconds in (0, -5, longest + 1)] == [0, 0, 0]


def test_a_ticket_of_kerberos_4_for_another_service() -> None:
    key = KEYS.find_des(5)
    assert key is not None
    ticket = make_ticket_4(key, ALICE, SESSION, NOW, 12, ("krbtgt", "TEST.AFS"))
    assert b"krbtgt\0TEST.AFS\0" in des.pcbc_decrypt(key, ticket)
    assert open_ticket(5, ticket, KEYS, NOW).client == ALICE
