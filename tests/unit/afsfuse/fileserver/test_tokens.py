"""Operations in the name of callers with tokens, at servers that check them."""

from __future__ import annotations

import errno
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.errors import AfsError, NotPermitted, StaleInode, TokenExpired, TokenRefused
from afsfuse.fileserver import RetryLimits
from afsfuse.fileserver.health import HealthLimits
from afsfuse.fileserver.operation import Operation, Site
from afsfuse.interfaces import fileserver as fs
from rxrpc import SecurityLevel
from rxrpc.rpc import Void
from tests.unit.afsfuse.auth.realm import CELL, Clock, Realm, some_keys
from tests.unit.afsfuse.fileserver.servers import FILE, SYNC, World, callback, wire_status, world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from afsfuse.interfaces.common import Fid
    from tests.conftest import ExpectedWarnings

ALICE = Identity(uid=1000)
USERS = 200
BUSY = 110


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    store = TokenStore(tmp_path / "run", Clock())
    store.load()
    yield store
    store.close()


@pytest.fixture
def realm() -> Realm:
    return Realm()


@asynccontextmanager
async def secured(
    store: TokenStore,
    realm: Realm,
    *,
    hosts: int = 1,
    level: SecurityLevel = SecurityLevel.CRYPT,
    clock: Clock | None = None,
) -> AsyncIterator[World]:
    """File servers that take tokens, and a client that has the store's."""
    credentials = TokenCredentials(store, level, clock=clock or Clock())
    never = RetryLimits(health=HealthLimits(first_look=math.inf))  # of our own accord
    async with world(
        hosts, credentials=credentials, securities=[realm.server()], limits=never
    ) as w:
        yield w


async def status(w: World, who: Identity = ALICE) -> None:
    """A status in an identity's name."""

    async def attempt(site: Site) -> None:
        await site.connection.call(fs.FETCH_STATUS, fs.FidArgs(FILE), timeouts=site.timeouts)

    await w.client._rotation.execute(Operation("FetchStatus", w.volume, attempt, who))


async def failing(w: World, kind: type[AfsError]) -> AfsError:
    with pytest.raises(kind) as caught:
        await status(w)
    assert type(caught.value) is kind
    assert caught.value.errno == errno.EACCES
    return caught.value


@pytest.mark.parametrize("level", list(SecurityLevel), ids=lambda each: each.name)
async def test_a_call_is_made_in_the_callers_name(
    store: TokenStore, realm: Realm, level: SecurityLevel, autojump_clock: trio.abc.Clock
) -> None:
    store.set(ALICE, realm.token())
    async with secured(store, realm, level=level) as w:
        await status(w)
        await status(w, Identity(uid=1001))
        assert w.hosts[0].callers == [f"alice@TEST.AFS {level.name}", "anonymous"]


async def test_the_daemons_own_calls_are_anonymous(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    """Even where root, as whom it runs, has a token."""
    store.set(Identity(uid=0), realm.token())
    async with secured(store, realm) as w:
        await w.client.get_capabilities(w.hosts[0].server)
        assert await w.client._rotation.health.probe([w.hosts[0].server])
        await w.client.give_up_all_callbacks(w.hosts[0].server)
        assert w.hosts[0].callers == ["anonymous"] * 3


async def test_a_new_token_is_used_at_the_next_call_and_a_dropped_one_no_more(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    store.set(ALICE, realm.token("alice"))
    async with secured(store, realm) as w:
        await status(w)
        store.set(ALICE, realm.token("bob"))
        await status(w)
        store.drop(ALICE)
        await status(w)
        names = [caller.partition(" ")[0] for caller in w.hosts[0].callers]
        assert names == ["alice@TEST.AFS", "bob@TEST.AFS", "anonymous"]


async def test_a_token_renewed_while_calls_wait(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    """Those that wait for a connection of the old token are made with the new one."""
    store.set(ALICE, realm.token("alice"))
    async with secured(store, realm) as w:
        w.hosts[0].delay = 1.0
        async with trio.open_nursery() as nursery:
            for _ in range(60):  # more than the channels there are
                nursery.start_soon(status, w)
            await trio.sleep(0.5)
            store.set(ALICE, realm.token("bob"))
        assert {caller.partition("@")[0] for caller in w.hosts[0].callers} == {"alice", "bob"}
        assert len(w.hosts[0].callers) == 60


async def test_what_everybody_may_is_done_without_an_expired_token(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    """The server's clock is ahead of ours: it finds out, in the middle of a connection."""
    store.set(ALICE, realm.token(life=100))
    async with secured(store, realm) as w:
        await status(w)
        realm.clock.now += 200
        await status(w)
        await status(w)
        assert w.hosts[0].callers == ["alice@TEST.AFS CRYPT", "anonymous", "anonymous"]


async def test_what_not_everybody_may_fails_for_the_token_has_expired(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    clock = Clock()
    store.set(ALICE, realm.token(life=100))
    async with secured(store, realm, clock=clock) as w:
        w.hosts[0].abort = lambda: errno.EACCES
        error = await failing(w, NotPermitted)
        assert "access list" in error.message
        clock.now += 200
        error = await failing(w, TokenExpired)
        assert "token for the cell has expired" in error.message
        assert (error.cell, error.volume) == (CELL, "test.volume")
        assert w.hosts[0].calls["FetchStatus"] == 2


async def test_entries_of_a_bulk_status_tell_of_an_expired_token_too(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    clock = Clock()
    store.set(ALICE, realm.token(life=100))

    def refuse(fids: Sequence[Fid]) -> fs.BulkStatusReply:
        statuses = (wire_status(error_code=errno.EACCES), wire_status(error_code=102))
        return fs.BulkStatusReply(statuses, (callback(),) * 2, SYNC)

    async with secured(store, realm, clock=clock) as w:
        w.hosts[0].bulk = refuse
        for kind in (NotPermitted, TokenExpired):
            replies = await w.client.bulk_status(w.volume, [FILE, FILE], ALICE)
            assert [type(reply) for reply in replies] == [kind, StaleInode]
            closed = replies[0]
            assert isinstance(closed, AfsError)
            assert closed.errno == errno.EACCES
            assert (closed.cell, closed.volume) == (CELL, "test.volume")
            clock.now += 200
        replies = await w.client.bulk_status(w.volume, [FILE, FILE], Identity(uid=1001))
        assert type(replies[0]) is NotPermitted


async def test_a_ticket_made_with_another_key_is_no_reason_to_try_again(
    store: TokenStore,
    realm: Realm,
    autojump_clock: trio.abc.Clock,
    expected_warnings: ExpectedWarnings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected_warnings("refuses the token of uid-1000: 19270407 RXKADBADTICKET")
    store.set(ALICE, realm.token(keys=some_keys()))
    async with secured(store, realm, hosts=3) as w:
        for _ in range(5):
            error = await failing(w, TokenRefused)
            assert "another key" in error.message
        assert sum(host.calls.total() for host in w.hosts) == 0
        assert w.locator.refreshes == 0
    assert caplog.text.count("refuses the token") == 1


async def test_a_server_that_demands_more_gets_it(
    store: TokenStore,
    realm: Realm,
    autojump_clock: trio.abc.Clock,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("the file server 192.0.2.1 of test.afs demands level crypt, not clear")
    realm.min_level = SecurityLevel.CRYPT
    store.set(ALICE, realm.token())
    async with secured(store, realm, level=SecurityLevel.CLEAR) as w:
        await status(w)
        await status(w)
        assert w.hosts[0].callers == ["alice@TEST.AFS CRYPT"] * 2


async def test_a_busy_volume_is_waited_for_with_a_token_as_without(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    answers = iter([BUSY, BUSY, 0])
    store.set(ALICE, realm.token())
    async with secured(store, realm) as w:
        w.hosts[0].abort = lambda: next(answers)
        await status(w)
        assert w.hosts[0].callers == ["alice@TEST.AFS CRYPT"] * 3


async def test_many_identities_each_by_its_own_name(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    for number in range(USERS):
        store.set(Identity(uid=2000 + number), realm.token(f"user{number}"))
    async with secured(store, realm) as w:
        for number in range(USERS):
            await status(w, Identity(uid=2000 + number))
        assert w.hosts[0].callers == [f"user{n}@TEST.AFS CRYPT" for n in range(USERS)]


async def test_a_server_without_rxkad_is_an_error_and_no_endless_retry(
    store: TokenStore, realm: Realm, autojump_clock: trio.abc.Clock
) -> None:
    store.set(ALICE, realm.token())
    credentials = TokenCredentials(store, clock=Clock())
    async with world(credentials=credentials) as w:
        with pytest.raises(AfsError) as caught:
            await status(w)
        assert caught.value.errno == errno.EOPNOTSUPP
        await w.client._rotation.call(w.hosts[0].server, fs.GIVE_UP_ALL_CALLBACKS, Void())
