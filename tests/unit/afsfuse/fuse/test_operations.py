"""The translators, over a toy and without a kernel."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyfuse3
import pytest

from afsfuse.auth.identity import Caller
from afsfuse.fuse.interrupts import Interrupts
from afsfuse.fuse.locks import LockRequests
from afsfuse.fuse.operations import Operations
from afsfuse.fuse.workers import Gate
from afsfuse.vfs.entry import Attributes, Entry, OpenFile
from tests.mount.toyfs import ToyFileSystem

if TYPE_CHECKING:
    from afsfuse.model import Inode

CONTEXT: Any = SimpleNamespace(uid=1000, gid=100, pid=4321, umask=0o22)


class Told:
    """A request log."""

    last = b""


class Desk:
    """Operations over a toy with a few files."""

    def __init__(self) -> None:
        self.toy = ToyFileSystem()
        self.toy.add("dir", {})
        for number in range(5):
            self.toy.add(f"dir/{number}", b"%d\n" % number)
        self.file = self.toy.add("file", b"content")
        self.toy.add("link", b"", b"file")
        self.requests = Told()
        self.operations = Operations(
            self.toy,
            Interrupts(),
            self.requests,
            Gate(8),
            LockRequests(self.toy.locking, 10),
            {b"afsfuse.pid": b"77"},
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_lookups_are_translated(desk: Desk) -> None:
    found = await desk.operations.lookup(1, b"file", CONTEXT)
    assert found.st_ino == desk.file.inode
    assert stat.S_ISREG(found.st_mode)
    absent = await desk.operations.lookup(1, b"absent", CONTEXT)
    assert absent.st_ino == 0
    await desk.operations.forget([(desk.file.inode, 1)])
    assert desk.toy.lookups[desk.file.inode] == 0
    assert (await desk.operations.getattr(desk.file.inode, CONTEXT)).st_size == 7


async def test_a_file_is_opened_read_and_released(desk: Desk) -> None:
    first = await desk.operations.open(desk.file.inode, 0, CONTEXT)
    assert (first.keep_cache, first.direct_io) == (False, False)
    assert bytes(await desk.operations.read(first.fh, 3, 100)) == b"tent"
    second = await desk.operations.open(desk.file.inode, 0, CONTEXT)
    assert second.keep_cache
    await desk.operations.release(first.fh)
    await desk.operations.release(second.fh)
    assert not desk.toy.handles


async def test_what_is_known_is_read_at_once(desk: Desk) -> None:
    opened = await desk.operations.open(desk.file.inode, 0, CONTEXT)
    desk.file.behaviour["at_once"] = "yes"
    assert bytes(await desk.operations.read(opened.fh, 3, 100)) == b"tent"
    assert desk.toy.calls["read_at_once"] == 1
    assert desk.toy.calls["read"] == 0


async def test_a_file_is_written_and_what_flush_has_to_say_is_told(desk: Desk) -> None:
    opened = await desk.operations.open(desk.file.inode, os.O_WRONLY, CONTEXT)
    assert await desk.operations.write(opened.fh, 3, b"TENT!") == 5
    assert desk.file.content == b"conTENT!"
    await desk.operations.flush(opened.fh)
    assert not desk.toy.calls["flush"]  # there was nothing to be told
    desk.file.behaviour |= {"flush": "EDQUOT", "fsync": "ENOSPC"}
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await desk.operations.flush(opened.fh)
    assert caught.value.errno == errno.EDQUOT
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await desk.operations.fsync(opened.fh, True)
    assert caught.value.errno == errno.ENOSPC
    assert await desk.operations.fsyncdir(opened.fh, True) is None  # type: ignore[func-returns-value]


async def test_attributes_are_set(desk: Desk) -> None:
    attributes = pyfuse3.EntryAttributes()
    attributes.st_size = 3
    attributes.st_mtime_ns = 1_700_000_000_999_999_999
    attributes.st_mode = 0o100600
    fields: Any = SimpleNamespace(
        update_size=True, update_mode=True, update_mtime=True, update_uid=False, update_gid=False,
    )  # fmt: skip
    answer = await desk.operations.setattr(desk.file.inode, attributes, fields, None, CONTEXT)
    assert answer.st_size == 3
    assert desk.toy.set == [Attributes(3, 0o100600, None, None, 1_700_000_000)]
    attributes.st_mtime_ns = -1
    fields.update_size = fields.update_mode = False
    await desk.operations.setattr(desk.file.inode, attributes, fields, None, CONTEXT)
    assert desk.toy.set[1] == Attributes(mtime=0)  # there is no time before 1970


async def test_only_what_the_kernel_takes_is_listed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[bytes, int, int]] = []

    def reply(token: object, name: bytes, attributes: pyfuse3.EntryAttributes, after: int) -> bool:
        if len(taken) == 3:
            return False
        taken.append((name, attributes.st_ino, after))
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    token: Any = object()
    directory = desk.toy.at("dir")
    handle = await desk.operations.opendir(directory.inode, CONTEXT)
    await desk.operations.readdir(handle, 0, token)
    assert [name for name, _, _ in taken] == [b"0", b"1", b"2"]
    assert sum(desk.toy.lookups.values()) == 3
    taken.clear()
    await desk.operations.readdir(handle, 3, token)
    assert [name for name, _, _ in taken] == [b"3", b"4"]
    await desk.operations.releasedir(handle)
    assert not desk.toy.handles


async def test_statfs_takes_its_node_from_the_request_log(desk: Desk) -> None:
    desk.requests.last = b"unique: 8, opcode: STATFS (17), nodeid: 2, insize: 40, pid: 7547\n"
    assert (await desk.operations.statfs(CONTEXT)).f_namemax == 255
    desk.requests.last = b"in other words"
    await desk.operations.statfs(CONTEXT)
    assert desk.toy.asked == [2, 1], "the root when it is unknown"


async def test_links_access_and_attributes(desk: Desk) -> None:
    link = desk.toy.at("link").inode
    assert await desk.operations.readlink(link, CONTEXT) == b"file"
    assert await desk.operations.access(desk.file.inode, 4, CONTEXT)
    assert not await desk.operations.access(desk.file.inode, 2, CONTEXT)
    assert await desk.operations.getxattr(desk.file.inode, b"afs.cell", CONTEXT) == b"example.org"
    assert await desk.operations.listxattr(desk.file.inode, CONTEXT) == [b"afs.cell", b"afs.fid"]
    await desk.operations.setxattr(desk.file.inode, b"afs.acl", b"1\n0\n", CONTEXT)
    assert desk.toy.extended == {b"afs.acl": b"1\n0\n"}
    await desk.operations.removexattr(desk.file.inode, b"afs.acl", CONTEXT)
    assert not desk.toy.extended
    assert await desk.operations.getxattr(1, b"afsfuse.pid", CONTEXT) == b"77"
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await desk.operations.getxattr(desk.file.inode, b"afsfuse.pid", CONTEXT)
    assert caught.value.errno == errno.ENODATA


def test_nobody_has_stacks_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """pyfuse3 calls this when a certain attribute of the root is set."""
    with caplog.at_level(0):
        desk.operations.stacktrace()
    assert not caplog.records


async def test_whose_request_it_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads and listings do not say; then it is who opened what is read."""
    assert desk.operations.user_of((1, b"name", CONTEXT)) == CONTEXT.uid
    assert desk.operations.user_of((77, 0, 4096)) == 0, "not open: an error comes of it"
    monkeypatch.setattr(desk.toy, "caller_of", lambda handle: Caller(handle, 5, 6))
    assert desk.operations.user_of((1001, 0, 4096)) == 1001


class Namer(ToyFileSystem):
    """Writes down what it is asked to make, remove and move."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for: list[tuple[object, ...]] = []
        self.made = self.add("made", b"")

    async def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[OpenFile, Entry]:
        self.asked_for.append(("create", parent, name, mode, flags, caller))
        return OpenFile(77, True), self.entry(self.made)

    async def mknod(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry:
        self.asked_for.append(("mknod", parent, name, mode))
        return self.entry(self.made)

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Entry:
        self.asked_for.append(("mkdir", parent, name, mode))
        return self.entry(self.made)

    async def symlink(self, parent: Inode, name: bytes, body: bytes, caller: Caller) -> Entry:
        self.asked_for.append(("symlink", parent, name, body))
        return self.entry(self.made)

    async def link(self, inode: Inode, parent: Inode, name: bytes, caller: Caller) -> Entry:
        self.asked_for.append(("link", inode, parent, name))
        return self.entry(self.made)

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        self.asked_for.append(("unlink", parent, name))

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        self.asked_for.append(("rmdir", parent, name))

    async def rename(
        self,
        old_parent: Inode,
        old_name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        self.asked_for.append(("rename", old_parent, old_name, new_parent, new_name, flags))


async def test_changes_of_names_are_translated() -> None:
    toy = Namer()
    locks = LockRequests(toy.locking, 10)
    does = Operations(toy, Interrupts(), Told(), Gate(8), locks, {})
    opened, attributes = await does.create(1, b"f", 0o100666, os.O_RDWR, CONTEXT)
    assert (opened.fh, opened.keep_cache, attributes.st_ino) == (77, True, toy.made.inode)
    for made in (
        await does.mknod(1, b"n", stat.S_IFIFO | 0o666, 0, CONTEXT),
        await does.mkdir(1, b"d", 0o777, CONTEXT),
        await does.symlink(1, b"s", b"target", CONTEXT),
        await does.link(5, 1, b"l", CONTEXT),
    ):
        assert made.st_ino == toy.made.inode
    await does.unlink(1, b"f", CONTEXT)
    await does.rmdir(1, b"d", CONTEXT)
    await does.rename(1, b"a", 2, b"b", 1, CONTEXT)
    assert toy.asked_for == [
        ("create", 1, b"f", 0o100644, os.O_RDWR, Caller(1000, 100, 4321)),
        ("mknod", 1, b"n", stat.S_IFIFO | 0o644),
        ("mkdir", 1, b"d", 0o755),
        ("symlink", 1, b"s", b"target"),
        ("link", 5, 1, b"l"),
        ("unlink", 1, b"f"),
        ("rmdir", 1, b"d"),
        ("rename", 1, b"a", 2, b"b", 1),
    ]


async def test_a_refused_change_has_its_errno(desk: Desk) -> None:
    for refused in (
        desk.operations.mkdir(1, b"d", 0o777, CONTEXT),
        desk.operations.unlink(1, b"d", CONTEXT),
        desk.operations.rename(1, b"a", 1, b"b", 0, CONTEXT),
        desk.operations.create(1, b"f", 0o644, 0, CONTEXT),
    ):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await refused
        assert caught.value.errno == errno.EROFS
