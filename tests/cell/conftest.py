"""Each test of this folder runs twice: on the cell in one process, and on OpenAFS's servers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.planting import planted
from tests.cell.raw import RawClient, mode
from tests.cell.site import ROOT, Real, Site, in_process, raw_client, walker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.democell import DemoCell
    from tests.cell.walker import Walker

_folders = itertools.count()


class _Shared:
    """The cell in one process lives as long as the session, as the real one does."""

    cell: DemoCell | None = None


@pytest.fixture(
    params=["democell", pytest.param("openafs", marks=pytest.mark.realcell)], name="cell_kind"
)
def _cell_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
async def client(site: Site) -> AsyncIterator[RawClient]:
    """A client of the first file server."""
    async with raw_client(site) as made:
        yield made


@pytest.fixture
async def other(site: Site) -> AsyncIterator[RawClient]:
    """Another client of it."""
    async with raw_client(site) as made:
        yield made


@pytest.fixture
async def walk(site: Site) -> AsyncIterator[Walker]:
    """This project's client."""
    async with walker(site) as made:
        yield made


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
