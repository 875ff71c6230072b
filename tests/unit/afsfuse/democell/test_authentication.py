"""The authentication service of old: what it refuses, and how long its tickets last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.authentication import MAX_LIFETIME
from afsfuse.interfaces import kauth
from afsfuse.interfaces.kauth import KaCode
from rxrpc import CallAborted
from rxrpc.security import des
from rxrpc.security.rxkadcodes import RxkadCode
from tests.cell.site import InProcess, in_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rxrpc import Endpoint
    from rxrpc.rpc import Rpc

NOW = 1_800_000_000


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The servers' clock."""
    return Clock()


@pytest.fixture
async def site(clock: Clock) -> AsyncIterator[InProcess]:
    cell = DemoCell("test.afs", ["192.0.2.11"], clock=clock)
    cell.add_user("alice", password="open sesame")
    async with in_process(cell) as started:
        yield started


@pytest.fixture
async def endpoint(site: InProcess) -> AsyncIterator[Endpoint]:
    """A client's."""
    async with trio.open_nursery() as nursery:
        endpoint = site.endpoint()
        await nursery.start(endpoint.run)
        yield endpoint
        nursery.cancel_scope.cancel()


def request(key: bytes, **changes: Any) -> kauth.AuthenticateArgs:
    sealed = des.pcbc_encrypt(key, kauth.Request(NOW).build())
    args = kauth.AuthenticateArgs(b"alice", b"", NOW, NOW + 600, sealed, kauth.NO_ANSWER)
    return args._replace(**changes)  # type: ignore[attr-defined,no-any-return]


async def code_of(site: InProcess, endpoint: Endpoint, rpc: Rpc[Any, Any], args: Any) -> int:
    service = kauth.GRANTING_SERVICE if rpc is kauth.GET_TICKET else kauth.AUTHENTICATION_SERVICE
    connection = endpoint.connect((site.cell.addresses[0], kauth.PORT), service)
    with pytest.raises(CallAborted) as caught:
        await connection.call(rpc, args)
    return caught.value.code


async def test_requests_that_are_refused(site: InProcess, endpoint: Endpoint) -> None:
    key = site.cell.realm.users["alice"]
    admin = des.pcbc_encrypt(key, kauth.Request(NOW, b"gADM").build())
    for changes, code in (
        ({"name": b"carol"}, KaCode.NO_ENTRY),
        ({"name": b""}, KaCode.BAD_NAME),
        ({"name": b"\xff"}, KaCode.BAD_NAME),
        ({"request": b""}, KaCode.BAD_REQUEST),
        ({"request": bytes(9)}, KaCode.BAD_REQUEST),
        ({"request": bytes(8)}, KaCode.BAD_REQUEST),
        ({"request": admin}, KaCode.BAD_REQUEST),
        ({"end": NOW}, KaCode.BAD_ARGUMENT),
        ({"answer": kauth.Answer(64, b"")}, KaCode.ANSWER_TOO_LONG),
        ({"answer": kauth.Answer(-1, b"")}, KaCode.ANSWER_TOO_LONG),
    ):
        args = request(key, **changes)
        assert await code_of(site, endpoint, kauth.AUTHENTICATE_V2, args) == code, changes


@pytest.fixture
async def granted(site: InProcess, endpoint: Endpoint) -> kauth.TicketAnswer:
    """What alice gets tickets with."""
    key = site.cell.realm.users["alice"]
    address = (site.cell.addresses[0], kauth.PORT)
    connection = endpoint.connect(address, kauth.AUTHENTICATION_SERVICE)
    reply = await connection.call(kauth.AUTHENTICATE_V2, request(key))
    clear = des.pcbc_decrypt(key, reply.answer.data)
    return kauth.TicketAnswer.parse(clear, kauth.GRANTED_LABEL)


async def test_tickets_that_are_refused(
    site: InProcess, endpoint: Endpoint, granted: kauth.TicketAnswer, clock: Clock
) -> None:
    def times(start: int, end: int) -> bytes:
        return des.encrypt_block(granted.session_key, kauth.Times(start, end).build())

    args = kauth.GetTicketArgs(
        granted.kvno, b"TEST.AFS", granted.ticket, b"afs", b"", times(NOW, NOW + 600),
        kauth.NO_ANSWER,
    )  # fmt: skip
    for changes, code in (
        ({"realm": b"OTHER.AFS"}, KaCode.UNKNOWN_KEY),
        ({"kvno": 2}, KaCode.UNKNOWN_KEY),
        ({"ticket": bytes(40)}, KaCode.NO_AUTH),
        ({"ticket": b""}, KaCode.NO_AUTH),
        ({"times": b""}, KaCode.BAD_ARGUMENT),
        ({"times": times(NOW, NOW)}, KaCode.BAD_REQUEST),
        ({"name": b"host"}, KaCode.NO_ENTRY),
        ({"name": b"krbtgt", "instance": b"TEST.AFS"}, KaCode.NO_ENTRY),
        ({"answer": kauth.Answer(64, b"")}, KaCode.ANSWER_TOO_LONG),
    ):
        refused = args._replace(**changes)  # type: ignore[attr-defined]
        assert await code_of(site, endpoint, kauth.GET_TICKET, refused) == code, changes
    clock.now = NOW + 600 + 1000
    assert await code_of(site, endpoint, kauth.GET_TICKET, args) == RxkadCode.EXPIRED


async def test_no_ticket_lasts_longer_than_what_it_was_got_with(
    site: InProcess, endpoint: Endpoint, granted: kauth.TicketAnswer
) -> None:
    assert granted.end == NOW + 600
    assert granted.password_days == 255
    times = des.encrypt_block(granted.session_key, kauth.Times(NOW, NOW + MAX_LIFETIME).build())
    args = kauth.GetTicketArgs(
        granted.kvno, b"", granted.ticket, b"afs", b"", times, kauth.NO_ANSWER
    )
    connection = endpoint.connect((site.cell.addresses[0], kauth.PORT), kauth.GRANTING_SERVICE)
    reply = await connection.call(kauth.GET_TICKET, args)
    clear = des.pcbc_decrypt(granted.session_key, reply.answer.data)
    ticket = kauth.TicketAnswer.parse(clear, kauth.TICKET_LABEL)
    assert ticket.end == NOW + 600
    assert ticket.names == (b"alice", b"", b"", b"afs", b"")
