"""The numbers of tokens' owners, asked of a protection service on a network in memory."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Secret, Token
from afsfuse.cell.cellservdb import CellFiles, parse_cellservdb
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.usernumbers import PATIENCE, UserNumbers
from afsfuse.democell import DemoCell
from afsfuse.interfaces import protection as pr
from tests.cell.site import in_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from tests.cell.site import InProcess

ALICE, BOB = Identity(uid=1), Identity(uid=2)
CELL = "test.afs"


def token(cell: DemoCell, user: str, **changes: int) -> Token:
    ticket = cell.token_for(user)
    return Token(
        cell=ticket.cell, client=ticket.client, enctype=ticket.enctype,
        key=Secret(ticket.session_key), ticket=ticket.data, start=ticket.start, end=ticket.end,
        kvno=ticket.kvno,
    )  # fmt: skip


@pytest.fixture
async def site() -> AsyncIterator[InProcess]:
    cell = DemoCell(CELL, ("192.0.2.1",), rng=random.Random(1))
    cell.add_user("alice", 1001)
    cell.add_user("bob", 1002)
    async with in_process(cell) as site:
        yield site


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    store = TokenStore(tmp_path / "run")
    store.load()
    yield store
    store.close()


@asynccontextmanager
async def asking(
    site: InProcess, store: TokenStore, servers: tuple[str, ...] = ("192.0.2.1",)
) -> AsyncIterator[UserNumbers]:
    text = f">{CELL}\n" + "".join(f"{server} #db\n" for server in servers)
    cells = CellDirectory(CellFiles(CELL, parse_cellservdb(text, "test")))
    endpoint = site.endpoint()
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        numbers = UserNumbers(endpoint, cells, store, TokenCredentials(store))
        await nursery.start(numbers.run)
        yield numbers
        nursery.cancel_scope.cancel()


def number(store: TokenStore, who: Identity) -> int | None:
    found = store.get(who, CELL)
    assert found is not None
    return found.viceid


async def test_tokens_that_are_there_and_that_come(site: InProcess, store: TokenStore) -> None:
    store.set(ALICE, token(site.cell, "alice"))
    async with asking(site, store) as numbers:
        await numbers.known(ALICE)
        store.set(BOB, token(site.cell, "bob"))
        await numbers.known(BOB)
        assert (number(store, ALICE), number(store, BOB)) == (1001, 1002)
        store.set(ALICE, token(site.cell, "bob"))
        await numbers.known(ALICE)
        assert number(store, ALICE) == 1002
        store.set(ALICE, token(site.cell, "bob"))
        store.drop(ALICE)
        await numbers.known(ALICE)
    assert site.cell.faults.counts["NameToID"] == 3


async def test_a_user_whom_the_cell_does_not_know(site: InProcess, store: TokenStore) -> None:
    async with asking(site, store) as numbers:
        store.set(ALICE, token(site.cell, "stranger"))
        await numbers.known(ALICE)
        assert number(store, ALICE) is None
        store.set(ALICE, token(site.cell, "x" * 64))
        await numbers.known(ALICE)
        assert number(store, ALICE) is None
    assert site.cell.faults.counts["NameToID"] == 1


@pytest.mark.parametrize("code", [-455, 5376, 267268])
async def test_a_service_that_refuses(site: InProcess, store: TokenStore, code: int) -> None:
    site.cell.faults.abort(pr.NAME_TO_ID, code)
    async with asking(site, store) as numbers:
        store.set(ALICE, token(site.cell, "alice"))
        await numbers.known(ALICE)
        assert number(store, ALICE) is None


async def test_an_answer_that_makes_no_sense(site: InProcess, store: TokenStore) -> None:
    site.cell.faults.change(pr.NAME_TO_ID, lambda reply: pr.IdsMessage(()))
    async with asking(site, store) as numbers:
        store.set(ALICE, token(site.cell, "alice"))
        await numbers.known(ALICE)
        assert number(store, ALICE) is None


async def test_nobody_waits_longer_than_users_are_to(
    site: InProcess, store: TokenStore, autojump_clock: MockClock
) -> None:
    """No server answers: a command goes on after a bounded time, and the asking ends, too."""
    async with asking(site, store, ("192.0.2.77", "192.0.2.78")) as numbers:
        store.set(ALICE, token(site.cell, "alice"))
        began = trio.current_time()
        await numbers.known(BOB)
        assert trio.current_time() == began
        await numbers.known(ALICE)
        assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.1)
        await trio.sleep(10)
        began = trio.current_time()
        await numbers.known(ALICE)
        assert trio.current_time() == began
        assert number(store, ALICE) is None


async def test_another_server_answers(
    site: InProcess, store: TokenStore, autojump_clock: MockClock
) -> None:
    async with asking(site, store, ("192.0.2.77", "192.0.2.1")) as numbers:
        store.set(ALICE, token(site.cell, "alice"))
        await numbers.known(ALICE)
        assert number(store, ALICE) == 1001


async def test_a_token_that_is_replaced_while_its_number_is_asked_for(
    site: InProcess, store: TokenStore, autojump_clock: MockClock
) -> None:
    site.cell.faults.delay(pr.NAME_TO_ID, 1.0)
    async with asking(site, store) as numbers:
        store.set(ALICE, token(site.cell, "alice"))
        await trio.sleep(0.5)
        store.set(ALICE, token(site.cell, "bob"))
        await numbers.known(ALICE)
        assert number(store, ALICE) == 1002


async def test_a_number_that_cannot_be_kept(
    site: InProcess, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(site, store) as numbers:
        store.set(ALICE, token(site.cell, "alice"))
        monkeypatch.setattr("os.rename", _no_room)
        await numbers.known(ALICE)
        assert number(store, ALICE) is None


def _no_room(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
