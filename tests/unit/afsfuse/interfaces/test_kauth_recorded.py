"""What OpenAFS's own kaserver answered, and what its klog asked, is understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afsfuse.interfaces import kauth
from rxrpc.security import des
from rxrpc.security.passwords import afs_key
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import open_ticket
from rxrpc.xdr import decode, encode

RECORDED = json.loads((Path(__file__).parents[3] / "vectors" / "kauth.json").read_text())
KASERVER, KLOG = RECORDED["kaserver"], RECORDED["klog"]
DES = 1

answers = pytest.mark.parametrize("one", KASERVER["answers"], ids=lambda one: one["user"])
requests = pytest.mark.parametrize("one", KLOG["requests"], ids=lambda one: one["user"])


def opened(text: str, key: bytes, label: bytes) -> kauth.TicketAnswer:
    raw = bytes.fromhex(text)
    reply = decode(kauth.AnswerReply, raw)
    assert encode(reply) == raw
    return kauth.TicketAnswer.parse(des.pcbc_decrypt(key, reply.answer.data), label)


@answers
@pytest.mark.parametrize(("rpc", "days"), [("AuthenticateV2", 255), ("Authenticate", None)])
def test_a_ticket_to_get_tickets_with(one: dict[str, Any], rpc: str, days: int | None) -> None:
    answer = opened(one[rpc], afs_key(one["password"].encode(), "ka.test"), kauth.GRANTED_LABEL)
    assert answer.challenge == one["time"] + 1
    assert answer.names == (one["user"].encode(), b"", b"", b"krbtgt", b"KA.TEST")
    assert answer.start == one["time"]
    assert 24 * 3600 < answer.end - answer.start <= KASERVER["lifetime"]
    assert answer.password_days == days


@answers
def test_a_ticket_for_afs(one: dict[str, Any]) -> None:
    answer = opened(one["GetTicket"], bytes.fromhex(one["session_key"]), kauth.TICKET_LABEL)
    assert answer.challenge == 0
    assert answer.names == (one["user"].encode(), b"", b"", b"afs", b"")
    key = afs_key(KASERVER["service_password"].encode(), "ka.test")
    keys = ServiceKeys({(answer.kvno, DES): key})
    ticket = open_ticket(answer.kvno, answer.ticket, keys, one["time"])
    assert (ticket.client.name, ticket.client.instance, ticket.client.realm) == (
        one["user"], "", "",
    )  # fmt: skip
    assert ticket.session_key == answer.session_key
    assert (ticket.start, ticket.end) == (answer.start, answer.end)


@requests
def test_a_password_is_shown(one: dict[str, Any]) -> None:
    raw = bytes.fromhex(one["AuthenticateV2"])
    args = decode(kauth.AuthenticateArgs, raw)
    assert encode(args) == raw
    key = afs_key(one["password"].encode(), "ka2.test")
    assert kauth.Request.parse(des.pcbc_decrypt(key, args.request)) == kauth.Request(args.start)
    assert (args.name, args.instance) == (one["user"].encode(), b"")
    assert args.answer == kauth.NO_ANSWER, "the room is what OpenAFS's clients have"


@requests
def test_a_ticket_is_shown(one: dict[str, Any]) -> None:
    """It is the one that the cell in one process gave for the password."""
    raw = bytes.fromhex(one["GetTicket"])
    args = decode(kauth.GetTicketArgs, raw)
    assert encode(args) == raw
    assert (args.realm, args.name, args.instance) == (b"KA2.TEST", b"afs", b"")
    asked = decode(kauth.AuthenticateArgs, bytes.fromhex(one["AuthenticateV2"]))
    keys = ServiceKeys({(args.kvno, DES): bytes.fromhex(one["granting_key"])})
    ticket = open_ticket(args.kvno, args.ticket, keys, asked.start)
    assert ticket.client.name == one["user"]
    times = kauth.Times.parse(des.decrypt_block(bytes(ticket.session_key), args.times))
    assert times.end - times.start == asked.end - asked.start
    assert abs(times.start - asked.start) < 5
