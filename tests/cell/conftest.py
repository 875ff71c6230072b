"""Each test of this folder runs on the cell in one process and on OpenAFS's servers, and at each of
them as nobody, and as a user with a token at two levels of protection."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth import identity
from afsfuse.auth.identity import Identity
from afsfuse.auth.security import LEVELS, TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Token
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.protection import ANONYMOUS
from rxrpc import NULL
from tests.cell.planting import planted
from tests.cell.raw import RawClient, mode
from tests.cell.site import ROOT, USER, Real, Site, in_process, raw_client, security_of, walker
from tests.realcell.configuration import USER_IDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from afsfuse.democell import DemoCell
    from rxrpc import ClientSecurity
    from rxrpc.security.base import SecurityLevel
    from tests.cell.walker import Walker

WHO = identity.Caller(1000, 1000, 0)
_folders = itertools.count()


class _Shared:
    """The cell in one process, and the real one's token, live as long as the session."""

    cell: DemoCell | None = None
    token: str | None = None  # encoded: stores wipe theirs when they are closed


@pytest.fixture(
    params=["democell", pytest.param("openafs", marks=pytest.mark.realcell)], name="cell_kind"
)
def _cell_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Caller:
    """Who calls in a test."""

    level: SecurityLevel | None
    """Of protection; None: nobody calls, without a token."""

    @property
    def number(self) -> int:
        """As protection databases have it."""
        return ANONYMOUS if self.level is None else USER_IDS[USER]


@pytest.fixture(params=["anonymous", "clear", "crypt"])
def caller(request: pytest.FixtureRequest) -> Caller:
    """Nobody; or a user who has a token, whose packets are protected or not."""
    return Caller(LEVELS.get(request.param))


@pytest.fixture
async def site(cell_kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The cell that is asked."""
    if cell_kind == "openafs":
        yield Real(request.getfixturevalue("real_cell"))
        return
    _Shared.cell = _Shared.cell or await planted()
    async with in_process(_Shared.cell) as started:
        yield started


@pytest.fixture
def token(site: Site) -> Token:
    """That of `site.USER`."""
    if not isinstance(site, Real):
        return site.token()
    _Shared.token = _Shared.token or site.token().encode()
    return Token.decode(_Shared.token)


@pytest.fixture
def security(caller: Caller, token: Token) -> ClientSecurity:
    """That of the calls of a test."""
    return NULL if caller.level is None else security_of(token, caller.level)


@pytest.fixture
async def client(site: Site, security: ClientSecurity) -> AsyncIterator[RawClient]:
    """A client of the first file server."""
    async with raw_client(site, security=security) as made:
        yield made


@pytest.fixture
async def other(site: Site, security: ClientSecurity) -> AsyncIterator[RawClient]:
    """Another client of it."""
    async with raw_client(site, security=security) as made:
        yield made


@pytest.fixture
async def walk(site: Site, caller: Caller, token: Token, tmp_path: Path) -> AsyncIterator[Walker]:
    """This project's client, with the caller's token in a store as daemons have it."""
    if caller.level is None:
        async with walker(site) as made:
            yield made
        return
    store = TokenStore(tmp_path / "run")
    store.load()
    store.set(Identity(uid=WHO.uid), token)
    async with walker(site, TokenCredentials(store, caller.level), WHO) as made:
        yield made
    store.close()


@pytest.fixture
async def root(site: Site) -> Fid:
    """The root of the volume scratch, in which everybody may do everything."""
    return Fid(site.volume_id("scratch"), ROOT, ROOT)


@pytest.fixture
async def folder(client: RawClient, root: Fid) -> AsyncIterator[Fid]:
    """An empty directory of the test's own, which is removed with all that is in it."""
    name = b"test-%d" % next(_folders)
    made = await client.call(fs.MAKE_DIR, fs.CreateArgs(root, name, mode(0o755)))
    yield made.fid
    await _empty(client, made.fid)
    await client.remove_dir(root, name)


async def _empty(client: RawClient, directory: Fid) -> None:
    from afsfuse.cache.directories import Directory

    for entry in Directory.parse(await client.fetch(directory)):
        if entry.name in (b".", b".."):
            continue
        fid = Fid(directory.volume, entry.vnode, entry.unique)
        if entry.vnode & 1:
            await _empty(client, fid)
            await client.remove_dir(directory, entry.name)
        else:
            await client.remove(directory, entry.name)
