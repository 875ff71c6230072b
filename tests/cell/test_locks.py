"""Locks on whole files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.interfaces import fileserver as fs

if TYPE_CHECKING:
    from afsfuse.interfaces.common import Fid
    from tests.cell.raw import RawClient

READ, WRITE = int(fs.LockType.READ), int(fs.LockType.WRITE)


@pytest.fixture
async def file(client: RawClient, folder: Fid) -> Fid:
    """A file."""
    return await client.create(folder, b"file")


async def test_readers_share_a_lock(client: RawClient, other: RawClient, file: Fid) -> None:
    await client.call(fs.SET_LOCK, fs.SetLockArgs(file, READ))
    await other.call(fs.SET_LOCK, fs.SetLockArgs(file, READ))
    assert (await client.status(file)).lock_count == 2
    assert await client.refusal(fs.SET_LOCK, fs.SetLockArgs(file, WRITE)) == "UAEAGAIN"
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(file))
    assert (await client.status(file)).lock_count == 1
    await other.call(fs.EXTEND_LOCK, fs.FidArgs(file))
    await other.call(fs.RELEASE_LOCK, fs.FidArgs(file))
    assert (await client.status(file)).lock_count == 0


async def test_a_writer_is_alone(client: RawClient, other: RawClient, file: Fid) -> None:
    await client.call(fs.SET_LOCK, fs.SetLockArgs(file, WRITE))
    assert (await client.status(file)).lock_count == 0xFFFFFFFF
    assert await other.refusal(fs.SET_LOCK, fs.SetLockArgs(file, READ)) == "UAEAGAIN"
    assert await other.refusal(fs.SET_LOCK, fs.SetLockArgs(file, WRITE)) == "UAEAGAIN"
    await client.call(fs.EXTEND_LOCK, fs.FidArgs(file))
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(file))
    await other.call(fs.SET_LOCK, fs.SetLockArgs(file, WRITE))
    await other.call(fs.RELEASE_LOCK, fs.FidArgs(file))


async def test_who_waits_hears_that_a_lock_is_free(
    client: RawClient, other: RawClient, file: Fid
) -> None:
    await client.call(fs.SET_LOCK, fs.SetLockArgs(file, WRITE))
    await other.status(file)
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(file))
    assert await other.broken_within_moments(file)


async def test_what_is_no_lock(client: RawClient, file: Fid) -> None:
    assert await client.refusal(fs.EXTEND_LOCK, fs.FidArgs(file)) == "UAEINVAL"
    assert await client.refusal(fs.SET_LOCK, fs.SetLockArgs(file, 7)) == "UAEINVAL"
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(file))  # of nothing: no error


async def test_locks_leave_versions_alone(client: RawClient, file: Fid) -> None:
    before = await client.status(file)
    await client.call(fs.SET_LOCK, fs.SetLockArgs(file, READ))
    await client.call(fs.RELEASE_LOCK, fs.FidArgs(file))
    assert await client.status(file) == before
