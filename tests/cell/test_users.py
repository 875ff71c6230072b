"""What anybody may see, and what the kernel may keep of it, in a directory whose list changes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.errors import NotPermitted
from afsfuse.model import Rights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from afsfuse.interfaces.common import Fid
    from tests.cell.raw import RawClient
    from tests.cell.walker import Walker

PATH = "scratch/users"
OPEN = 127
_PATIENCE = 20.0
_STEP = 0.02


@pytest.fixture
async def directory(client: RawClient, root: Fid, walk: Walker) -> AsyncIterator[Fid]:
    """A directory with a file, whose list can be changed; it is removed at the end, while all who
    have promises still answer.
    """
    made = await client.make_dir(root, b"users")
    await client.create(made, b"file", b"data")
    yield made
    await set_rights(client, made, OPEN)
    await client.remove(made, b"file")
    await client.remove_dir(root, b"users")


async def set_rights(client: RawClient, directory: Fid, rights: int) -> None:
    """What anybody may do; always with administering it, so that it can be taken back."""
    rights |= Rights.ADMINISTER
    await client.set_acl(directory, b"1\n0\nsystem:anyuser\t%d\n\0" % rights)


async def heard(walk: Walker, rights: int) -> None:
    """Wait until this project's client knows of a new list: its break comes on its own."""
    looking = bool(rights & Rights.LOOKUP)
    with trio.fail_after(_PATIENCE):
        while await sees(walk, "") is not looking:  # noqa: ASYNC110 (nothing tells of it)
            await trio.sleep(_STEP)


async def sees(walk: Walker, name: str) -> bool:
    try:
        await (walk.entry(f"{PATH}/{name}") if name else walk.list(PATH))
    except NotPermitted:
        return False
    return True


async def test_a_closed_directory_shows_nothing(walk: Walker, client: RawClient,
                                                directory: Fid) -> None:  # fmt: skip
    entry = await walk.entry(f"{PATH}/file")
    assert entry.entry_timeout > 0
    assert entry.attr_timeout > 0
    assert await walk.read(f"{PATH}/file") == b"data"
    await set_rights(client, directory, 0)
    await heard(walk, 0)
    assert not await sees(walk, "file")
    assert not await sees(walk, "nothing")
    assert await walk.error(PATH) == errno.EACCES
    assert (await walk.entry(PATH)).attr_timeout > 0, "the directory itself stands in a public one"
    await set_rights(client, directory, OPEN)
    await heard(walk, OPEN)
    assert await walk.read(f"{PATH}/file") == b"data"
    assert (await walk.entry(f"{PATH}/file")).entry_timeout > 0


async def test_who_may_only_look_learns_names(walk: Walker, client: RawClient,
                                              directory: Fid) -> None:  # fmt: skip
    await client.make_dir(directory, b"below")
    try:
        assert await walk.read(f"{PATH}/file") == b"data"
        await set_rights(client, directory, 0)
        await heard(walk, 0)
        await set_rights(client, directory, int(Rights.LOOKUP))
        await heard(walk, int(Rights.LOOKUP))
        assert await walk.list(PATH) == {"below", "file"}
        assert not await sees(walk, "file"), "servers tell the status of a file to readers only"
        assert (await walk.entry(f"{PATH}/below")).entry_timeout > 0
    finally:
        await set_rights(client, directory, OPEN)
        await client.remove_dir(directory, b"below")
