"""Whatever comes as challenge, response, ticket or packet: a refusal with a code, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from rxrpc.errors import SecurityError
from rxrpc.security import der, krbcrypto, tickets
from rxrpc.security.base import ConnectionIdentity, PacketIdentity, SecurityLevel
from rxrpc.security.rxkad import RxkadCode
from rxrpc.security.servicekeys import ServiceKeys
from tests.pair.rxkad_world import KVNO, NOW, SERVICE_KEY, Realm

if TYPE_CHECKING:
    from collections.abc import Callable

IDENTITY = ConnectionIdentity(0x80000001, 0x1230, 52, 2)
NUMBERS = (1, 2, 3, 4)
KEYS = ServiceKeys({(KVNO, 18): SERVICE_KEY, (5, 1): b"12345678"})


def spoil(data: st.DataObject, good: bytes) -> bytes:
    """A few bytes changed, cut off, or put in."""
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, max(0, len(changed) - 1)))
        match data.draw(st.sampled_from("csi")):
            case "c" if changed:
                changed[at] = data.draw(st.integers(0, 255))
            case "s":
                del changed[at : at + data.draw(st.integers(1, 50))]
            case _:
                changed[at:at] = data.draw(st.binary(max_size=20))
    return bytes(changed)


def refusal(attempt: Callable[[], object]) -> int | None:
    """The code with which something is refused; None when it is not. Nothing else is raised."""
    try:
        attempt()
    except SecurityError as exc:
        return RxkadCode(exc.code)
    return None


@given(st.binary(max_size=64))
def test_challenges(challenge: bytes) -> None:
    client = Realm().client(SecurityLevel.AUTH).connect(IDENTITY)
    code = refusal(lambda: client.respond(challenge, NUMBERS))
    assert code in (None, RxkadCode.LEVEL_FAIL)


@given(st.data())
def test_responses(data: st.DataObject) -> None:
    realm = Realm()
    server = realm.server().accept(IDENTITY)
    good = realm.client().connect(IDENTITY).respond(server.challenge(), NUMBERS)
    assert good is not None
    changed = spoil(data, good)
    refused = refusal(lambda: server.accept_response(changed)) is not None
    assert server.established != refused
    assert refused or changed.startswith(good)


@given(st.sampled_from([256, 213, 5]), st.binary(min_size=32, max_size=400))
@example(213, b"\x30\x84\xff\xff\xff\xff" + bytes(30))
def test_tickets(kvno: int, ticket: bytes) -> None:
    refused = refusal(lambda: tickets.open_ticket(kvno, ticket, KEYS, NOW)) is not None
    assert refused or kvno == 5  # nothing but its form says that a ticket of Kerberos 4 is one


@given(st.data())
def test_what_stands_in_a_ticket(data: st.DataObject) -> None:
    """Sealed with the right key, and nonsense all the same."""
    who = tickets.Principal("alice", "", "X")
    contents = tickets._build_encrypted_part(who, b"12345678", int(NOW) - 1, int(NOW) + 9)
    cipher = krbcrypto.encrypt(18, SERVICE_KEY, 2, spoil(data, contents), bytes(16))
    part = der.build(
        der.SEQUENCE,
        der.build(der.field(0), der.build_integer(18)),
        der.build(der.field(1), der.build_integer(KVNO)),
        der.build(der.field(2), der.build(der.OCTETS, cipher)),
    )
    refusal(lambda: tickets.open_ticket(tickets.KERBEROS_5_PART, part, KEYS, NOW))


@given(
    st.sampled_from(list(SecurityLevel)),
    st.binary(max_size=100),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
)
def test_packets(level: SecurityLevel, body: bytes, checksum: int, call: int, seq: int) -> None:
    client = Realm().client(level).connect(IDENTITY)
    refusal(lambda: client.verify(PacketIdentity(0x1231, call, seq), checksum, body))
