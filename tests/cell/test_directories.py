"""Directories, to the byte: every server lays out the same pages after the same changes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.directories import Directory
from afsfuse.democell.dirpages import DirectoryPages
from afsfuse.interfaces import fileserver as fs
from tests.realcell import dirpages
from tests.realcell.seed import ODD_NAMES

if TYPE_CHECKING:
    from afsfuse.interfaces.common import Fid
    from tests.cell.raw import RawClient

STEPS = 300


def tidy(pages: bytes) -> bytes:
    """The pages with nothing behind the names: servers of old left there what was before."""
    clean = bytearray(pages)
    for entry in Directory.parse(pages):
        offset = entry.slot * dirpages.BLOB_BYTES
        end = offset + dirpages.blobs_for(entry.name) * dirpages.BLOB_BYTES
        begin = offset + 12 + len(entry.name)
        clean[begin:end] = bytes(end - begin)
    for page in range(len(pages) // dirpages.PAGE_BYTES):
        start = page * dirpages.PAGE_BYTES
        used = int.from_bytes(pages[start + 5 : start + 13], "little")
        for blob in range(64):
            if not used >> blob & 1:
                begin = start + blob * dirpages.BLOB_BYTES
                clean[begin : begin + dirpages.BLOB_BYTES] = bytes(dirpages.BLOB_BYTES)
    return bytes(clean)


async def test_pages_after_many_changes(client: RawClient, folder: Fid) -> None:
    number = random.randrange(1 << 32)
    print(f"seed {number}")
    rng = random.Random(number)
    root = await client.status(folder)
    made = await client.call(fs.MAKE_DIR, fs.CreateArgs(folder, b"pages", fs.StoreStatus(0)))
    directory = made.fid
    assert root.link_count
    expected = DirectoryPages.make(
        (directory.vnode, directory.unique), (folder.vnode, folder.unique)
    )
    names: list[bytes] = []
    for step in range(STEPS):
        if names and rng.random() < 0.35:
            name = names.pop(rng.randrange(len(names)))
            await client.remove(directory, name)
            expected.remove(name)
        else:
            name = b"%d-" % step + b"n" * rng.choice((0, 3, 10, 20, 50, 100, 240))
            fid = await client.create(directory, name)
            expected.add(name, fid.vnode, fid.unique)
            names.append(name)
    pages = await client.fetch(directory)
    assert tidy(pages) == tidy(expected.data())
    assert (await client.status(directory)).length == expected.length
    found = {entry.name: (entry.vnode, entry.unique) for entry in Directory.parse(pages)}
    assert found == dirpages.parse(pages)
    assert found.keys() == {*names, b".", b".."}


async def test_a_renaming_in_the_pages(client: RawClient, folder: Fid) -> None:
    directory = await client.make_dir(folder, b"pages")
    expected = DirectoryPages.make(
        (directory.vnode, directory.unique), (folder.vnode, folder.unique)
    )
    for name in (b"a", b"b" * 20, b"c"):
        fid = await client.create(directory, name)
        expected.add(name, fid.vnode, fid.unique)
    await client.call(fs.RENAME, fs.RenameArgs(directory, b"a", directory, b"c"))
    moved = expected.find(b"a")
    assert moved is not None
    expected.remove(b"c")
    expected.add(b"c", *moved)
    expected.remove(b"a")
    assert tidy(await client.fetch(directory)) == tidy(expected.data())


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
async def test_odd_names(client: RawClient, folder: Fid, name: bytes) -> None:
    fid = await client.create(folder, name, name)
    found = Directory.parse(await client.fetch(folder)).find(name)
    assert found == (fid.vnode, fid.unique)
    assert await client.fetch(fid) == name
