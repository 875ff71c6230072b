"""Callers with tickets: who they are, what follows from it, and tickets that are no good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.democell import DemoCell
from afsfuse.democell.acl import ALL_RIGHTS, AccessList
from afsfuse.democell.trees import plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import protection as pr
from afsfuse.interfaces import vldb
from afsfuse.interfaces.common import Fid
from afsfuse.model import Rights
from rxrpc import NULL, CallAborted, SecurityError, SecurityLevel
from rxrpc.rpc import Void
from rxrpc.security.rxkad import RxkadClient
from rxrpc.security.rxkadcodes import RxkadCode
from tests.cell.raw import mode
from tests.cell.site import ROOT, InProcess, in_process, raw_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.democell.realm import Ticket
    from rxrpc import ClientSecurity

NOW = 1_800_000_000
ALICE, BOB, FRIENDS = 501, 502, -301
LEVELS = [SecurityLevel.CLEAR, SecurityLevel.AUTH, SecurityLevel.CRYPT]


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
    cell.people.add_user("alice:friends", FRIENDS)
    cell.add_user("alice", ALICE)
    cell.add_user("bob", BOB, groups=[FRIENDS])
    rights = int(Rights.LOOKUP | Rights.READ)
    acl = AccessList({ALICE: ALL_RIGHTS, FRIENDS: rights, pr.AUTHUSER: int(Rights.LOOKUP)})
    plant(cell.create_volume("data", acl=acl), {b"file": b"data" * 5000})
    async with in_process(cell) as started:
        yield started


def identity(site: InProcess, user: str, level: SecurityLevel = SecurityLevel.CRYPT) -> RxkadClient:
    return site.cell.token_for(user).security(Clock(), level)


def root(site: InProcess) -> Fid:
    return Fid(site.cell.volume("data").id, ROOT, ROOT)


def file(site: InProcess) -> Fid:
    volume = site.cell.volume("data")
    found = volume.root.directory.find(b"file")
    assert found is not None
    return Fid(volume.id, *found)


async def rights_of(site: InProcess, security: ClientSecurity) -> tuple[int, int]:
    async with raw_client(site, security=security) as client:
        status = await client.status(root(site))
        return status.caller_access, status.anonymous_access


@pytest.mark.parametrize("level", LEVELS)
async def test_each_has_the_rights_of_his_own(site: InProcess, level: SecurityLevel) -> None:
    assert await rights_of(site, identity(site, "alice", level)) == (127, 0)
    assert await rights_of(site, identity(site, "bob", level)) == (9, 0)
    assert await rights_of(site, NULL) == (0, 0)


@pytest.mark.parametrize("level", LEVELS)
async def test_data_goes_both_ways(site: InProcess, level: SecurityLevel) -> None:
    async with raw_client(site, security=identity(site, "alice", level)) as alice:
        made = await alice.create(root(site), b"new", b"x" * 30_000)
        assert (await alice.status(made)).owner == ALICE
        assert await alice.fetch(made) == b"x" * 30_000
        async with raw_client(site, security=identity(site, "bob", level)) as bob:
            assert await bob.fetch(made) == b"x" * 30_000
            store = fs.StoreStatusArgs(made, mode(0o600))
            assert await bob.refusal(fs.STORE_STATUS, store) == "UAEACCES"
        async with raw_client(site) as nobody:
            fetch = fs.FetchData64Args(made, 0, 9)
            assert await nobody.refusal(fs.FETCH_DATA64, fetch) == "UAEACCES"


async def test_those_whom_nobody_has_entered_are_nobody(site: InProcess) -> None:
    for name in ("carol", "alice.admin", "system:administrators", "anonymous"):
        assert await rights_of(site, identity(site, name)) == (0, 0)


async def test_an_instance_is_a_part_of_the_name(site: InProcess) -> None:
    site.cell.add_user("bob.admin", groups=[pr.ADMINISTRATORS])
    assert await rights_of(site, identity(site, "bob.admin")) == (8, 0)


async def test_alice_of_another_realm_is_another_alice(site: InProcess, clock: Clock) -> None:
    other = DemoCell("other.afs", clock=clock)
    secrets = site.cell.realm.secrets()
    other.realm.restore({k: str(v) for k, v in secrets.items()}, {})
    security = other.token_for("alice").security(clock)
    assert await rights_of(site, security) == (0, 0)


async def code_of(site: InProcess, security: ClientSecurity) -> int:
    """The code with which a server ends the first call of who has this identity."""
    async with raw_client(site, security=security) as client:
        with pytest.raises(CallAborted) as caught:
            await client.status(root(site))
        assert caught.value.remote
        return caught.value.code


async def test_a_ticket_that_has_expired(site: InProcess, clock: Clock) -> None:
    ticket = site.cell.token_for("alice", lifetime=600)
    with pytest.raises(SecurityError) as caught:
        ticket.security(Clock(NOW + 600)).connect(None)  # type: ignore[arg-type]  # not looked at
    assert caught.value.code == RxkadCode.EXPIRED
    clock.now = NOW + 5000
    assert await code_of(site, ticket.security(Clock())) == RxkadCode.EXPIRED


async def test_a_ticket_that_expires_while_its_owner_works(site: InProcess, clock: Clock) -> None:
    ticket = site.cell.token_for("alice", lifetime=600)
    async with raw_client(site, security=ticket.security(Clock())) as client:
        assert (await client.status(root(site))).caller_access == 127
        clock.now = NOW + 601
        with pytest.raises(CallAborted) as caught:
            await client.status(root(site))
        assert caught.value.code == RxkadCode.EXPIRED


async def test_a_ticket_that_is_not_valid_yet(site: InProcess, clock: Clock) -> None:
    clock.now = NOW + 5000
    ticket = site.cell.token_for("alice")
    clock.now = NOW
    assert await code_of(site, ticket.security(Clock())) == RxkadCode.NO_AUTH


def changed(ticket: Ticket, **changes: object) -> RxkadClient:
    values = {"kvno": ticket.kvno, "data": ticket.data, "key": ticket.session_key, **changes}
    return RxkadClient(
        ticket=values["data"], session_key=values["key"], kvno=values["kvno"],  # type: ignore[arg-type]
        level=SecurityLevel.CRYPT, expires=ticket.end, clock=Clock(),
    )  # fmt: skip


async def test_tickets_of_other_keys(site: InProcess, clock: Clock) -> None:
    stranger = DemoCell("test.afs", clock=clock).token_for("alice")
    assert await code_of(site, changed(stranger)) == RxkadCode.BAD_TICKET
    ticket = site.cell.token_for("alice")
    assert await code_of(site, changed(ticket, kvno=7)) == RxkadCode.UNKNOWN_KEY
    spoiled = ticket.data[:-1] + bytes([ticket.data[-1] ^ 1])
    assert await code_of(site, changed(ticket, data=spoiled)) == RxkadCode.BAD_TICKET
    assert await code_of(site, changed(ticket, key=bytes(8))) == RxkadCode.SEALED_INCONSISTENT


async def test_a_bad_ticket_spoils_nothing_for_others(site: InProcess, clock: Clock) -> None:
    stranger = DemoCell("test.afs", clock=clock).token_for("alice")
    assert await code_of(site, changed(stranger)) == RxkadCode.BAD_TICKET
    assert await rights_of(site, identity(site, "alice")) == (127, 0)


@pytest.mark.parametrize("level", LEVELS)
async def test_promises_are_broken_whoever_they_were_made_to(
    site: InProcess, level: SecurityLevel
) -> None:
    async with (
        raw_client(site, security=identity(site, "alice", level)) as alice,
        raw_client(site, security=identity(site, "bob", level)) as bob,
    ):
        assert (await bob.status(file(site))).data_version == 1
        await alice.store(file(site), b"changed")
        assert await bob.broken_within_moments(file(site))
        assert await bob.fetch(file(site)) == b"changed"
        assert (alice.resets, bob.resets) == (1, 1)


async def test_two_users_of_one_client_share_its_promises(site: InProcess) -> None:
    """A server knows machines, not users: one is told once, and is asked once who it is."""
    async with raw_client(site) as client:
        for security in (identity(site, "alice"), identity(site, "bob"), NULL):
            client.use(site.server(1), security)
            await client.status(root(site))
        assert client.resets == 1
        assert len(site.cell.servers["fs1"].hosts) == 1


async def test_the_databases_take_tickets_too(site: InProcess) -> None:
    endpoint = site.endpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        for security in (identity(site, "bob"), NULL):
            people = endpoint.connect(
                (site.cell.addresses[0], pr.PORT), pr.SERVICE_ID, security=security
            )
            names = pr.NamesMessage((b"alice", b"alice:friends"))
            assert (await people.call(pr.NAME_TO_ID, names)).ids == (ALICE, FRIENDS)
            places = endpoint.connect(
                (site.cell.addresses[0], vldb.PORT), vldb.SERVICE_ID, security=security
            )
            await places.call(vldb.PROBE_SERVER, Void())
        nursery.cancel_scope.cancel()


def test_a_ticket_shows_no_secrets(clock: Clock) -> None:
    ticket = DemoCell("test.afs", clock=clock).token_for("alice")
    assert ticket.client == "alice@TEST.AFS"
    for secret in (ticket.data, ticket.session_key):
        assert repr(secret)[2:10] not in repr(ticket)
