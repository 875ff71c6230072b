"""This project's client changes directories: its copies stay what the server has."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS, NOBODY
from afsfuse.cache.directories import BLOB_SIZE, PAGE_SIZE, Directory, DirectoryEntry
from afsfuse.errors import AfsError
from afsfuse.interfaces.common import Fid
from tests.cell.twin import VERBS, Step, Twin

if TYPE_CHECKING:
    from pathlib import Path

    from afsfuse.cache import CacheManager
    from afsfuse.cell.volumes import Volume
    from tests.cell.raw import RawClient
    from tests.cell.walker import Walker

_HEADER = 13  # bytes: page count, tag, unused, bitmap
_MAP = slice(BLOB_SIZE, BLOB_SIZE + 128)


def meaning(directory: Directory) -> tuple[bytes, list[bytes], list[DirectoryEntry]]:
    """All that counts in the pages of a directory: the map, the headers, the entries.

    Hash chains are not kept by the client; in free blobs and behind names there are remains of
    names that were there before, of which a real server leaves some.
    """
    blob = bytes(directory._blob)
    headers = [blob[at : at + _HEADER] for at in range(0, len(blob), PAGE_SIZE)]
    return blob[_MAP], headers, list(directory)


async def volume_of(walk: Walker) -> Volume:
    """The volume scratch, as the client knows it."""
    await walk.list("scratch", writable=True)
    (volume,) = {v.volume for v in walk.cache._table if v.volume.name == "scratch"}
    return volume


async def folder_path(walk: Walker, folder: Fid) -> str:
    """Where the test's own folder is."""
    volume = await volume_of(walk)
    root = await walk.cache.directory(volume, Fid(volume.id, 1, 1))
    (name,) = [e.name for e in root if (e.vnode, e.unique) == (folder.vnode, folder.unique)]
    return f"scratch/{name.decode()}"


class Changes:
    """Random changes of a few directories, each asked of the changer alone."""

    def __init__(self, cache: CacheManager, volume: Volume, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cache = cache
        self.changer = cache.changer
        self.volume = volume

    def copy(self, fid: Fid) -> Directory:
        vnode = self.cache.peek(self.volume, fid)
        assert vnode is not None
        assert vnode.directory is not None
        assert vnode.directory.data_version == vnode.data_version
        return vnode.directory

    def name(self) -> bytes:
        length = self.rng.choice([1, 2, 8, 15, 16, 40, 47, 48, 100, 255])
        return bytes(self.rng.choices(b"abcdefghijklmnopqrstuvwxyz\xe4", k=length))

    async def one(self, directories: list[Fid]) -> None:
        """One change: mostly something new, so that the directory grows over pages."""
        directory = self.rng.choice(directories)
        copy = self.copy(directory)
        there = [e for e in copy if e.name not in (b".", b"..") and not e.vnode & 1]
        name = self.name()
        kind = self.rng.choices(
            ["create", "symlink", "link", "remove", "rename", "over"], [8, 2, 2, 5, 3, 2]
        )[0]
        if kind in ("create", "symlink") and name not in copy:
            if kind == "create":
                await self.changer.create_file(self.volume, directory, name, 0o644, NOBODY)
            else:
                await self.changer.symlink(self.volume, directory, name, b"body", NOBODY)
        elif there:
            entry = self.rng.choice(there)
            file = Fid(directory.volume, entry.vnode, entry.unique)
            await self._with(kind, directories, directory, entry.name, file, name)

    async def _with(
        self, kind: str, directories: list[Fid], directory: Fid, old: bytes, file: Fid, name: bytes
    ) -> None:
        volume, changer, copy = self.volume, self.changer, self.copy(directory)
        vnode = self.cache.peek(volume, file)
        assert vnode is not None
        if kind == "link" and name not in copy and vnode.status.kind.name == "FILE":
            await changer.link(volume, directory, name, file, NOBODY)
        elif kind == "remove":
            await changer.remove_file(volume, directory, old, file, NOBODY)
        elif kind in ("rename", "over"):
            there = self.rng.choice(directories)
            target = self.copy(there)
            replaced = None
            if kind == "over":
                others = [e for e in target if not e.vnode & 1 and e.vnode != file.vnode]
                if not others:
                    return
                other = self.rng.choice(others)
                name, replaced = other.name, Fid(there.volume, other.vnode, other.unique)
            elif name in target:
                return
            names = [e for e in copy if (e.vnode, e.unique) == (file.vnode, file.unique)]
            if len(names) > 1 and there != directory:
                with pytest.raises(AfsError) as caught:
                    await changer.rename(
                        volume, directory, old, there, name, NOBODY, moved=file, replaced=replaced
                    )
                assert caught.value.errno == errno.EXDEV
                return
            await changer.rename(
                volume, directory, old, there, name, NOBODY, moved=file, replaced=replaced
            )


@pytest.mark.parametrize("seed", range(3))
async def test_edited_copies_are_what_the_server_has(
    walk: Walker, client: RawClient, folder: Fid, seed: int
) -> None:
    print(f"seed {seed}")
    volume = await volume_of(walk)
    cache = walk.cache
    changes = Changes(cache, volume, seed)
    one = (await cache.changer.make_dir(volume, folder, b"one", 0o755, NOBODY)).fid
    two = (await cache.changer.make_dir(volume, folder, b"two", 0o755, NOBODY)).fid
    fetched = cache.statistics()
    for step in range(400):
        await changes.one([one, two])
        if step % 50 == 49:
            for fid in (one, two):
                copy = changes.copy(fid)
                on_server = await client.fetch(fid)
                theirs = Directory.parse(on_server, copy.data_version)
                assert (await client.status(fid)).data_version == copy.data_version
                assert meaning(copy) == meaning(theirs)
                assert not copy.diff(theirs)
                assert len(on_server) == cache.peek(volume, fid).status.length  # type: ignore[union-attr]
    now = cache.statistics()
    assert cache.changer.reloads == 0
    assert now.directory_fetches == fetched.directory_fetches


async def test_a_new_directory_is_known_without_a_fetch(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    volume = await volume_of(walk)
    made = await walk.cache.changer.make_dir(volume, folder, b"new", 0o755, NOBODY)
    before = walk.cache.statistics()
    copy = await walk.cache.directory(volume, made.fid)
    assert walk.cache.statistics() == before
    theirs = Directory.parse(await client.fetch(made.fid), copy.data_version)
    assert (await client.status(made.fid)).data_version == copy.data_version
    assert meaning(copy) == meaning(theirs)


async def test_one_change_is_one_call(walk: Walker, folder: Fid) -> None:
    path = await folder_path(walk, folder)
    await walk.list(path, writable=True)
    before = walk.cache.statistics()
    await walk.mkdir(f"{path}/d")
    await walk.create(f"{path}/d/one")
    await walk.link(f"{path}/d/one", f"{path}/d/other")
    await walk.rename(f"{path}/d/other", f"{path}/d/third")
    await walk.symlink(f"{path}/d/s", b"one")
    assert (await walk.entry(f"{path}/d", writable=True)).nlink == 2
    assert await walk.list(f"{path}/d", writable=True) == {"one", "s", "third"}
    after = walk.cache.statistics()
    assert after.directory_fetches == before.directory_fetches
    assert walk.cache.changer.reloads == 0
    # Of a symbolic link there is no promise, and hard links break theirs: those are asked for.
    assert after.status_fetches - before.status_fetches <= 2
    assert after.breaks - before.breaks <= 1


async def test_what_others_did_meanwhile_is_seen(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    path = await folder_path(walk, folder)
    await walk.list(path, writable=True)
    for round in range(10):
        await client.create(folder, b"theirs-%d" % round)
        await walk.create(f"{path}/ours-{round}")
        await client.remove(folder, b"theirs-%d" % round)
        expected = {f"ours-{n}" for n in range(round + 1)}
        assert await walk.list(path, writable=True) == expected


async def test_what_we_did_is_seen_by_others(walk: Walker, client: RawClient, folder: Fid) -> None:
    path = await folder_path(walk, folder)
    await client.status(folder)
    await walk.create(f"{path}/file")
    assert folder in client.broken
    names = {entry.name for entry in Directory.parse(await client.fetch(folder))}
    assert names == {b".", b"..", b"file"}


async def refused(walk: Walker, operation: str, *args: object) -> int:
    with pytest.raises(AfsError) as caught:
        await getattr(walk, operation)(*args)
    return caught.value.errno


async def test_refusals(walk: Walker, client: RawClient, folder: Fid) -> None:
    path = await folder_path(walk, folder)
    await walk.mkdir(f"{path}/d")
    await walk.mkdir(f"{path}/empty")
    await walk.mkdir(f"{path}/d/below")
    await walk.create(f"{path}/f")
    assert await refused(walk, "create", f"{path}/f") == errno.EEXIST
    assert await refused(walk, "mkdir", f"{path}/f") == errno.EEXIST
    assert await refused(walk, "symlink", f"{path}/d", b"x") == errno.EEXIST
    assert await refused(walk, "link", f"{path}/f", f"{path}/d") == errno.EEXIST
    assert await refused(walk, "create", f"{path}/{'x' * 256}") == errno.ENAMETOOLONG
    assert await refused(walk, "symlink", f"{path}/l", b"x" * 1025) == errno.ENAMETOOLONG
    assert await refused(walk, "create", f"{path}/x@sys") == errno.EINVAL
    assert await refused(walk, "link", f"{path}/f", f"{path}/d/f") == errno.EXDEV
    assert await refused(walk, "unlink", f"{path}/none") == errno.ENOENT
    assert await refused(walk, "unlink", f"{path}/d") == errno.EISDIR
    assert await refused(walk, "rmdir", f"{path}/none") == errno.ENOENT
    assert await refused(walk, "rmdir", f"{path}/f") == errno.ENOTDIR
    assert await refused(walk, "rmdir", f"{path}/d") == errno.ENOTEMPTY
    assert await refused(walk, "rename", f"{path}/none", f"{path}/x") == errno.ENOENT
    assert await refused(walk, "rename", f"{path}/f", f"{path}/d") == errno.EISDIR
    assert await refused(walk, "rename", f"{path}/d", f"{path}/f") == errno.ENOTDIR
    assert await refused(walk, "rename", f"{path}/empty", f"{path}/d") == errno.ENOTEMPTY
    assert await refused(walk, "rename", f"{path}/d", f"{path}/d/below/x") == errno.EINVAL
    assert await refused(walk, "rename", f"{path}/f", f"{path}/empty", 1) == errno.EEXIST
    assert await refused(walk, "rename", f"{path}/f", f"{path}/d", 2) == errno.EINVAL
    assert await refused(walk, "rename", f"{path}/f", "tree/x") == errno.EXDEV
    assert await refused(walk, "link", f"{path}/f", "tree/x") == errno.EXDEV
    assert await walk.list(path, writable=True) == {"d", "empty", "f"}
    assert walk.cache.changer.reloads == 0


async def test_a_directory_moves_with_what_is_in_it(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    path = await folder_path(walk, folder)
    await walk.mkdir(f"{path}/from")
    await walk.mkdir(f"{path}/to")
    await walk.mkdir(f"{path}/from/moved")
    await walk.create(f"{path}/from/moved/file")
    before = walk.cache.statistics().directory_fetches
    await walk.rename(f"{path}/from/moved", f"{path}/to/there")
    await walk.create(f"{path}/to/there/second")
    assert await walk.list(f"{path}/to/there", writable=True) == {"file", "second"}
    assert await walk.list(f"{path}/from", writable=True) == set()
    assert (await walk.entry(f"{path}/from", writable=True)).nlink == 2
    assert (await walk.entry(f"{path}/to", writable=True)).nlink == 3
    # The server breaks the promise of what was moved: that may be looked into before the reply.
    assert walk.cache.statistics().directory_fetches <= before + 1


async def test_a_symbolic_link_with_the_body_of_a_mount_point_is_one(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    path = await folder_path(walk, folder)
    shown = await walk.symlink(f"{path}/mnt", b"#tree.")
    assert not shown.is_directory
    assert (shown.attr_timeout, shown.entry_timeout) == (0.0, 0.0)
    assert (await walk.entry(f"{path}/mnt", writable=True)).is_directory
    assert "README" in await walk.list("", writable=True)
    assert await walk.list(f"{path}/mnt", writable=True) == await walk.list("tree", writable=True)
    assert await refused(walk, "rmdir", f"{path}/mnt") == errno.EBUSY
    assert await refused(walk, "unlink", f"{path}/mnt") == errno.EISDIR
    await walk.mkdir(f"{path}/d")
    assert await refused(walk, "rename", f"{path}/d", f"{path}/mnt") == errno.EBUSY
    assert await refused(walk, "rename", f"{path}/mnt", f"{path}/d") == errno.EBUSY
    await walk.rename(f"{path}/mnt", f"{path}/d/moved")
    inside = await walk.list(f"{path}/d/moved", writable=True)
    assert inside == await walk.list("tree", writable=True)
    for name, body in (("plain", b"#tree"), ("odd", b"#no volume."), ("up", b"../x")):
        await walk.symlink(f"{path}/{name}", body)
        assert await walk.readlink(f"{path}/{name}", writable=True) == body


async def test_an_open_file_that_is_removed_stays_until_it_is_closed(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    path = await folder_path(walk, folder)
    await client.create(folder, b"file", b"contents")
    await client.create(folder, b"second", b"other contents")
    entry = await walk.entry(f"{path}/file", writable=True)
    opened = await walk.vfs.open(entry.inode, os.O_RDONLY, ANONYMOUS)
    await walk.unlink(f"{path}/file")
    (silly,) = {name for name in await walk.list(path, writable=True) if name != "second"}
    assert silly.startswith(".__afs")
    assert (await walk.vfs.getattr(entry.inode, ANONYMOUS)).nlink == 0
    assert bytes(await walk.vfs.read(opened.handle, 0, 100)) == b"contents"
    second = await walk.entry(f"{path}/second", writable=True)
    again = await walk.vfs.open(second.inode, os.O_RDONLY, ANONYMOUS)
    await walk.create(f"{path}/new")
    await walk.rename(f"{path}/new", f"{path}/second")
    assert bytes(await walk.vfs.read(again.handle, 0, 100)) == b"other contents"
    assert (await walk.vfs.getattr(second.inode, ANONYMOUS)).nlink == 0
    assert await walk.read(f"{path}/second", writable=True) == b""
    assert len(await walk.list(path, writable=True)) == 3
    walk.vfs.release(opened.handle)
    walk.vfs.release(again.handle)
    await walk.vfs.finish()
    assert await walk.list(path, writable=True) == {"second"}
    names = {entry.name for entry in Directory.parse(await client.fetch(folder))}
    assert names == {b".", b"..", b"second"}


async def test_a_file_with_another_name_needs_no_silly_one(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    path = await folder_path(walk, folder)
    await walk.create(f"{path}/one")
    await walk.link(f"{path}/one", f"{path}/two")
    entry = await walk.entry(f"{path}/one", writable=True)
    assert entry.nlink == 2
    opened = await walk.vfs.open(entry.inode, os.O_RDONLY, ANONYMOUS)
    await walk.unlink(f"{path}/one")
    assert await walk.list(path, writable=True) == {"two"}
    assert (await walk.entry(f"{path}/two", writable=True)).nlink == 1
    await walk.unlink(f"{path}/two")
    assert len(await walk.list(path, writable=True)) == 1
    walk.vfs.release(opened.handle)
    with trio.fail_after(10):
        while await walk.list(path, writable=True):  # noqa: ASYNC110 (nobody tells of it)
            await trio.sleep(0.01)


@pytest.mark.parametrize("seed", range(2))
async def test_names_behave_as_in_a_local_directory(
    walk: Walker, folder: Fid, tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def path() -> str:
        return "/".join(rng.choices("abcd", k=rng.choice([1, 1, 2, 2, 3])))

    local = tmp_path / "local"
    local.mkdir()
    twin = Twin(walk, [await folder_path(walk, folder)], local)
    for number in range(400):
        await twin.step(Step(rng.choice(VERBS), path(), path(), 0))
        if number % 20 == 0:
            await twin.compare()
    await twin.compare()
    assert walk.cache.changer.reloads == 0
