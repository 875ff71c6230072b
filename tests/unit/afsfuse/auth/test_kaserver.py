"""Tokens from the authentication service of old: whom the client believes, and what it tells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.auth.kaserver import KaServers, Login
from afsfuse.auth.token import Secret, Token
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import ALL_RIGHTS, AccessList
from afsfuse.errors import TicketRefused
from afsfuse.interfaces import kauth
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.kauth import KaCode
from rxrpc import SecurityLevel
from rxrpc.rpc import Rpc, RxgenCode
from rxrpc.security import des
from rxrpc.security.passwords import afs_key, kerberos_key
from rxrpc.security.rxkad import RxkadClient
from tests.cell.site import ROOT, InProcess, in_process, raw_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rxrpc import Endpoint

NOW = 1_800_000_000
SHORT, LONG = "sesame", "open sesame"
ALICE = Login("test.afs", "alice")


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
    number = cell.add_user("alice", password=LONG)
    cell.add_user("bob", password=SHORT)
    cell.add_user("bob.admin", password=LONG)
    cell.create_volume("data", acl=AccessList({number: ALL_RIGHTS}))
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


async def log_in(
    site: InProcess,
    endpoint: Endpoint,
    login: Login = ALICE,
    password: str = LONG,
    *,
    clock: Clock | None = None,
    hosts: tuple[str, ...] | None = None,
    said: list[Any] | None = None,
) -> Token:
    servers = KaServers(endpoint, hosts or site.cell.addresses, clock or Clock())
    say = said.append if said is not None else lambda _: None
    return await servers.log_in(login, Secret(password.encode()), say)


def security(token: Token, level: SecurityLevel) -> RxkadClient:
    return RxkadClient(
        ticket=token.ticket, session_key=token.key.reveal(), kvno=token.kvno, level=level,
        expires=token.end, clock=Clock(),
    )  # fmt: skip


@pytest.mark.parametrize("level", list(SecurityLevel))
async def test_a_password_opens_what_the_access_list_says(
    site: InProcess, endpoint: Endpoint, level: SecurityLevel
) -> None:
    token = await log_in(site, endpoint)
    assert (token.cell, token.client, token.enctype) == ("test.afs", "alice@TEST.AFS", 1)
    assert NOW + 24 * 3600 < token.end < NOW + 26 * 3600
    root = Fid(site.cell.volume("data").id, ROOT, ROOT)
    async with raw_client(site, security=security(token, level)) as client:
        assert (await client.status(root)).caller_access == 127
    token = await log_in(site, endpoint, Login("test.afs", "bob"), SHORT)
    async with raw_client(site, security=security(token, level)) as client:
        assert (await client.status(root)).caller_access == 0


async def test_tokens_survive_their_encoding(site: InProcess, endpoint: Endpoint) -> None:
    token = await log_in(site, endpoint)
    assert Token.decode(token.encode()) == token


async def test_an_instance(site: InProcess, endpoint: Endpoint) -> None:
    login = Login.of("bob.admin", "test.afs")
    assert (await log_in(site, endpoint, login)).client == "bob.admin@TEST.AFS"


async def test_a_key_that_was_made_in_the_way_of_kerberos(
    site: InProcess, endpoint: Endpoint
) -> None:
    site.cell.realm.users["alice"] = kerberos_key(LONG.encode())
    said: list[str] = []
    assert (await log_in(site, endpoint, said=said)).client == "alice@TEST.AFS"
    assert "trying Kerberos's" in said[1]
    assert site.cell.faults.counts["AuthenticateV2"] == 2


async def test_a_server_of_before_version_2(site: InProcess, endpoint: Endpoint) -> None:
    site.cell.faults.abort(kauth.AUTHENTICATE_V2, RxgenCode.OPCODE)
    assert (await log_in(site, endpoint)).client == "alice@TEST.AFS"
    assert site.cell.faults.counts["Authenticate"] == 1


async def refusal(site: InProcess, endpoint: Endpoint, **changes: Any) -> str:
    with pytest.raises(TicketRefused) as caught:
        await log_in(site, endpoint, **changes)
    return str(caught.value)


async def test_what_users_are_told(site: InProcess, endpoint: Endpoint) -> None:
    assert await refusal(site, endpoint, password="wrong") == "the password is wrong"
    assert await refusal(site, endpoint, password=LONG.upper()) == "the password is wrong"
    carol = Login("test.afs", "carol")
    assert "knows no such user" in await refusal(site, endpoint, login=carol)
    late = Clock(NOW + 3600)
    assert "the clocks of this machine" in await refusal(site, endpoint, clock=late)


@pytest.mark.parametrize(
    ("rpc", "code", "told"),
    [
        (kauth.AUTHENTICATE_V2, KaCode.LOCKED, "the user is locked"),
        (kauth.AUTHENTICATE_V2, KaCode.PASSWORD_EXPIRED, "the password has expired"),
        (kauth.AUTHENTICATE_V2, 4711, "refused (4711)"),
        (kauth.GET_TICKET, KaCode.BAD_USER, "may not get tickets"),
        (kauth.GET_TICKET, RxgenCode.OPCODE, "older than this program"),
        (kauth.AUTHENTICATE_V2, 5376, "no authentication server of the cell answers"),
    ],
)
async def test_refusals_of_servers(
    site: InProcess, endpoint: Endpoint, rpc: Rpc[Any, Any], code: int, told: str
) -> None:
    site.cell.faults.abort(rpc, code)
    assert told in await refusal(site, endpoint)


async def test_one_server_that_is_silent_is_passed_over(
    autojump_clock: trio.testing.MockClock, site: InProcess, endpoint: Endpoint
) -> None:
    hosts = ("192.0.2.99", *site.cell.addresses)
    assert (await log_in(site, endpoint, hosts=hosts)).client == "alice@TEST.AFS"
    told = await refusal(site, endpoint, hosts=("192.0.2.99", "192.0.2.98"))
    assert "no authentication server of the cell answers at port 7004" in told


def spoil(answer: kauth.TicketAnswer, key: bytes, **changes: Any) -> kauth.AnswerReply:
    fields = {name: getattr(answer, name) for name in answer.__slots__}
    made = kauth.TicketAnswer(**{**fields, **changes})
    return kauth.AnswerReply(kauth.Answer(kauth.ANSWER_ROOM, des.pcbc_encrypt(key, made.build())))


@pytest.mark.parametrize(
    "changes",
    [
        {"challenge": NOW},
        {"label": kauth.TICKET_LABEL},
        {"names": (b"bob", b"", b"", b"krbtgt", b"TEST.AFS")},
        {"end": NOW - 3600, "start": NOW - 7200},
        {"ticket": b"short"},
    ],
)
async def test_answers_that_are_not_the_servers(
    site: InProcess, endpoint: Endpoint, changes: dict[str, Any]
) -> None:
    key = afs_key(LONG.encode(), "test.afs")

    def changed(reply: kauth.AnswerReply) -> kauth.AnswerReply:
        clear = des.pcbc_decrypt(key, reply.answer.data)
        return spoil(kauth.TicketAnswer.parse(clear, kauth.GRANTED_LABEL), key, **changes)

    site.cell.faults.change(kauth.AUTHENTICATE_V2, changed)
    assert "what answers is no authentication server" in await refusal(site, endpoint)


async def test_noise_for_an_answer(site: InProcess, endpoint: Endpoint) -> None:
    for data in (b"", b"x", bytes(80)):
        noise = kauth.AnswerReply(kauth.Answer(kauth.ANSWER_ROOM, data))

        def answer(_: kauth.AnswerReply, noise: kauth.AnswerReply = noise) -> kauth.AnswerReply:
            return noise

        site.cell.faults.change(kauth.AUTHENTICATE_V2, answer)
        assert "what answers is no authentication server" in await refusal(site, endpoint)


async def test_an_answer_that_was_recorded(
    site: InProcess, endpoint: Endpoint, clock: Clock
) -> None:
    recorded: list[kauth.AnswerReply] = []

    def record(reply: kauth.AnswerReply) -> kauth.AnswerReply:
        recorded.append(reply)
        return recorded[0]

    site.cell.faults.change(kauth.AUTHENTICATE_V2, record, times=2)
    await log_in(site, endpoint)
    clock.now = NOW + 60
    told = await refusal(site, endpoint, clock=Clock(NOW + 60))
    assert told.endswith("the answer to another request")


async def test_no_password_stands_in_a_log(
    site: InProcess, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        token = await log_in(site, endpoint, said=said)
    text = caplog.text + repr(token) + "".join(said)
    for secret in (LONG, token.key.reveal().hex(), str(token.key.reveal())[2:-1]):
        assert secret not in text


@pytest.mark.parametrize("user", ["", ".admin", "x" * 64, "a." + "x" * 64, "a\0b", "a\udcff"])
def test_what_is_no_name(user: str) -> None:
    with pytest.raises(TicketRefused):
        Login.of(user, "test.afs")
