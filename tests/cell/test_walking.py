"""This project's client walks over the cell: names, contents, volumes, changes."""

from __future__ import annotations

import errno
import hashlib
import stat
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache.directories import Directory
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.site import ROOT
from tests.realcell import contents, seed

if TYPE_CHECKING:
    from tests.cell.raw import RawClient
    from tests.cell.site import Site
    from tests.cell.walker import Walker

LOOKS, PAUSE = 250, 0.02  # seconds


async def test_what_was_put_there_is_read(walk: Walker) -> None:
    files = seed.files_tree().entries[b"files"]
    assert isinstance(files, contents.Directory)
    assert await walk.list("tree/files") == {name.decode() for name in files.entries}
    for name, node in files.entries.items():
        assert isinstance(node, contents.File)
        data = await walk.read(f"tree/files/{name.decode()}")
        assert hashlib.sha256(data).hexdigest() == contents.sha256(node.content), name
    assert await walk.read("tree/" + "/".join(["deep", *map(str, range(20)), "leaf"]))


async def test_attributes_are_those_of_the_server(walk: Walker) -> None:
    assert stat.S_IMODE((await walk.entry("tree/modes/mode-755")).mode) == 0o755
    assert (await walk.entry("tree/old")).mtime == 31_536_000
    assert (await walk.entry("tree/owned")).uid == 1234
    assert (await walk.entry("tree/files/size-65537")).size == 65_537
    assert (await walk.entry("tree/deep")).nlink == 3


async def test_odd_names_are_listed(walk: Walker) -> None:
    names = {name.decode("utf-8", "surrogateescape") for name in seed.ODD_NAMES}
    assert await walk.list("names") == names


async def test_symbolic_links(walk: Walker) -> None:
    assert await walk.readlink("links/to-target") == b"target"
    assert await walk.readlink("links/long") == b"./" * 500 + b"target"
    assert await walk.read("links/@sys/here") == b"amd64_linux26\n"


@pytest.mark.parametrize(
    ("path", "volume"),
    [
        ("README", "root.cell.readonly"),
        ("links/mount-tree", "tree"),
        ("links/mount-tree-rw", "tree"),
        ("links/mount-replicated", "replicated"),
        ("links/mount-replicated-rw", "replicated"),
        ("links/mount-replicated-readonly", "replicated.readonly"),
        ("links/mount-replicated-backup", "replicated.backup"),
        ("links/mount-in-cell-rw", "replicated"),
        ("replicated/version", "replicated.readonly"),
    ],
)
async def test_mount_points_lead_to_their_volumes(
    walk: Walker, site: Site, path: str, volume: str
) -> None:
    """`links` is read-write, so plain mount points in it go on read-write."""
    entry = await walk.entry(path)
    if stat.S_ISDIR(entry.mode):
        path += "/" + sorted(await walk.list(path))[0]
    assert await walk.volume_of(path) == site.volume_id(volume)


async def test_the_dotted_name_is_the_read_write_tree(walk: Walker, site: Site) -> None:
    number = await walk.volume_of("README", writable=True)
    assert number == site.volume_id("root.cell")
    number = await walk.volume_of("replicated/version", writable=True)
    assert number == site.volume_id("replicated")


async def test_volumes_that_are_not_there(walk: Walker) -> None:
    assert await walk.error("links/mount-missing") == errno.ENODEV
    assert await walk.error("links/mount-no-backup") == errno.ENODEV


async def test_rights_are_minded(walk: Walker) -> None:
    assert await walk.read("rights/read/file") == b"not for all\n"
    assert await walk.error("rights/lookup/file") == errno.EACCES
    assert await walk.error("rights/negative/file") == errno.EACCES
    assert await walk.error("rights/none") == errno.EACCES


async def test_extended_attributes(walk: Walker) -> None:
    assert await walk.attribute("tree/old", b"afs.cell") == b"test.afs"
    assert await walk.attribute("tree/old", b"afs.volume") == b"tree"
    assert b"system:anyuser" in await walk.attribute("tree", b"afs.acl")


async def test_changes_of_others_are_seen_at_once(
    walk: Walker, client: RawClient, folder: Fid
) -> None:
    path = f"scratch/{await _name_of(client, folder)}"
    file = await client.create(folder, b"file", b"the first")
    assert await walk.read(f"{path}/file", writable=True) == b"the first"
    await client.store(file, b"the second")
    assert await walk.read(f"{path}/file", writable=True) == b"the second"
    await client.store(file, b"THE", 0, length=10)
    assert await walk.read(f"{path}/file", writable=True) == b"THE second"
    assert await walk.list(path, writable=True) == {"file"}
    await client.call(fs.RENAME, fs.RenameArgs(folder, b"file", folder, b"moved"))
    assert await walk.list(path, writable=True) == {"moved"}
    with pytest.raises(FileNotFoundError):
        await walk.entry(f"{path}/file", writable=True)
    await client.remove(folder, b"moved")
    assert await walk.list(path, writable=True) == set()
    status = fs.StoreStatus(fs.StoreMask.MODE, unix_mode_bits=0o711)
    await client.call(fs.STORE_STATUS, fs.StoreStatusArgs(folder, status))
    assert stat.S_IMODE((await walk.entry(path, writable=True)).mode) == 0o711


async def _name_of(client: RawClient, folder: Fid) -> str:
    root = Directory.parse(await client.fetch(Fid(folder.volume, ROOT, ROOT)))
    found = {(entry.vnode, entry.unique): entry.name for entry in root}
    return found[folder.vnode, folder.unique].decode()


async def test_a_release_is_seen_at_once(walk: Walker, client: RawClient, site: Site) -> None:
    root = Fid(site.volume_id("replicated"), ROOT, ROOT)
    found = Directory.parse(await client.fetch(root)).find(b"version")
    assert found is not None
    file = Fid(root.volume, *found)
    first = await walk.read("replicated/version")
    second = b"%d\n" % (int(first) + 1)
    for before, after in ((first, second), (second, first)):
        await client.store(file, after)
        assert await walk.read("replicated/version") == before
        assert await walk.read("replicated/version", writable=True) == after
        await site.release("replicated")
        assert await _shows(walk, "replicated/version", after)


async def _shows(walk: Walker, path: str, content: bytes) -> bool:
    """Whether a file has this content within moments: OpenAFS's servers break their promises on a
    released volume beside what else they do."""
    for _ in range(LOOKS):
        if await walk.read(path) == content:
            return True
        await trio.sleep(PAUSE)
    return False
