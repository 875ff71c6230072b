"""Extended attributes."""

import errno
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS, NOBODY, Caller, Identity
from afsfuse.errors import AfsError, ServerUnreachable
from afsfuse.interfaces.common import Fid
from afsfuse.model import Rights
from afsfuse.vfs import ROOT_INODE, xattrs
from tests.unit.afsfuse.vfs.world import World
from tests.unit.afsfuse.vfs.worldfiles import FakeFile
from tests.unit.afsfuse.vfs.worldservers import not_permitted


async def test_values(autojump_clock: MockClock) -> None:
    world = World()
    file = world.home.file(b"f")
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"f")
        values = {name: await m.fs.getxattr(inode, name, ANONYMOUS) for name in xattrs.NAMES}
        fid = f"{file.fid.volume:x}:{file.fid.vnode:x}:{file.fid.unique:x}"
        assert values == {
            b"afs.acl": b"1\n0\nsystem:anyuser\t9\n",
            b"afs.cell": b"home.org",
            b"afs.fid": fid.encode(),
            b"afs.volume": b"root.cell",
        }
        assert await m.fs.listxattr(inode, ANONYMOUS) == []


async def test_a_mount_point_has_those_of_its_target(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#other.org:sub.")
    sub = world.volume("sub", cell="other.org")
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"m")
        assert await m.fs.getxattr(inode, b"afs.cell", ANONYMOUS) == b"other.org"
        assert await m.fs.getxattr(inode, b"afs.fid", ANONYMOUS) == b"%x:1:1" % sub.id


async def test_other_names_cost_nothing(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#missing.")
    async with world.mounted(source="#root.cell.") as m:
        for inode in (ROOT_INODE, await m.page_inode(ROOT_INODE, b"m")):
            calls = world.client.calls.total() + world.locator.calls.total()
            for name in (b"security.selinux", b"system.posix_acl_access", b"user.x", b"afs.other"):
                with pytest.raises(AfsError) as caught:
                    await m.fs.getxattr(inode, name, ANONYMOUS)
                assert caught.value.errno == errno.ENODATA
            assert world.client.calls.total() + world.locator.calls.total() == calls


# Setting the access list

ALICE, BOB = Caller(1001, 1001, 7), Caller(1002, 1002, 8)
ALICE_ID, BOB_ID = Identity(1001), Identity(1002)
MAY_READ = Rights.READ | Rights.LOOKUP
TEXT = b"2\n1\nalice rlidwka\nsystem:anyuser\tl\nbob\t8\n"
STORED = b"2\n1\nalice\t127\nsystem:anyuser\t8\nbob\t8\n"


class AclServer:
    """Takes access lists in, and does with a directory what the test says they mean."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stored: list[tuple[int, bytes, Identity]] = []
        self.meaning: Callable[[], None] = lambda: None
        self.error: AfsError | None = None
        self.error_after: AfsError | None = None
        cast("Any", world.client).changes = self

    async def store_acl(self, volume: Any, fid: Fid, text: bytes, who: Identity) -> None:
        await trio.sleep(self.world.rtt)
        if self.error is not None:
            raise self.error
        self.stored.append((fid.vnode, text, who))
        self.meaning()
        await trio.sleep(self.world.rtt)
        if self.error_after is not None:
            raise self.error_after


def shared_world() -> tuple[World, AclServer, FakeFile]:
    """A directory `p` with a file in it, which anybody may read, and Bob in his own name, too."""
    world = World()
    world.client.tokens = {ALICE_ID, BOB_ID}
    top = world.home.directory(b"p")
    top.rights = MAY_READ
    top.permits = {ALICE_ID: MAY_READ | Rights.ADMINISTER, BOB_ID: MAY_READ}
    world.home.file(b"f", b"secret", at=top)
    world.home.directory(b"d", at=top)
    return world, AclServer(world), top


def close_to_all_but_alice(top: FakeFile) -> None:
    top.rights = Rights.NONE
    del top.permits[BOB_ID]


async def errno_of(action: Awaitable[object]) -> int:
    with pytest.raises(AfsError) as caught:
        await action
    return caught.value.errno


async def test_a_list_is_set(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    world, server, top = shared_world()
    caplog.set_level(logging.INFO)
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p", ALICE)
        await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
        assert server.stored == [(top.fid.vnode, STORED + b"\0", ALICE_ID)]
        assert "/p: the access list is now: alice rlidwka, system:anyuser l, not bob l" in str(
            caplog.messages
        )
        value = await m.fs.getxattr(inode, b"afs.acl", ALICE)
        await m.fs.setxattr(inode, b"afs.acl", value, ALICE)
        assert server.stored[1][1] == value + b"\0", "what is read can be set"


async def test_what_was_taken_away_is_gone_when_it_is_set(autojump_clock: MockClock) -> None:
    """For users with tokens and without, whatever was in the caches of the daemon."""
    world, server, top = shared_world()
    server.meaning = lambda: close_to_all_but_alice(top)
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p", BOB)
        file = await m.walk(b"p/f", BOB)
        for who in (BOB, ANONYMOUS, ALICE):
            assert await m.read_all(file, who) == b"secret"
            assert b"f" in await m.names(inode, caller=who)
        await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
        for who in (BOB, ANONYMOUS):
            assert await errno_of(m.read_all(file, who)) == errno.EACCES
            assert await errno_of(m.stat(file, who)) == errno.EACCES
            assert await errno_of(m.fs.opendir(inode, who)) == errno.EACCES
            assert await errno_of(m.look_up(inode, b"f", who)) == errno.EACCES
            assert await errno_of(m.look_up(inode, b"nothing", who)) == errno.EACCES
            assert not await m.fs.access(inode, os.R_OK, who)
        assert await m.read_all(file, ALICE) == b"secret"
        entry = await m.look_up(inode, b"f", ALICE)
        assert (entry.attr_timeout, entry.entry_timeout) == (0.0, 0.0)


async def test_the_kernel_forgets_what_is_public_no_more(autojump_clock: MockClock) -> None:
    world, server, top = shared_world()
    server.meaning = lambda: close_to_all_but_alice(top)
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p")
        children = {name: await m.walk(b"p/" + name) for name in (b"f", b"d")}
        world.notifier.take()
        await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
        events = world.notifier.take()
        for name, child in children.items():
            assert ("name", inode, name) in events
            assert ("attributes", child) in events


async def test_new_rights_are_there_at_once(autojump_clock: MockClock) -> None:
    world, server, top = shared_world()
    close_to_all_but_alice(top)

    def open_to_bob() -> None:
        top.permits[BOB_ID] = MAY_READ | Rights.WRITE

    server.meaning = open_to_bob
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p", ALICE)
        file = await m.walk(b"p/f", ALICE)
        assert await errno_of(m.read_all(file, BOB)) == errno.EACCES
        await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
        assert await m.read_all(file, BOB) == b"secret"
        assert await m.fs.access(file, os.W_OK, BOB)
        assert not await m.fs.access(file, os.W_OK, ALICE)
        assert await m.fs.access(inode, os.R_OK, BOB)


async def test_an_answer_that_was_under_way_brings_no_old_rights(
    autojump_clock: MockClock,
) -> None:
    """Bob's question was answered before the list was changed, and comes back after it was."""
    world, server, top = shared_world()
    top.rights = Rights.NONE
    server.meaning = lambda: close_to_all_but_alice(top)
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p", ALICE)
        file = await m.walk(b"p/f", ALICE)
        vnode = m.vnode(world.home, top)
        late = trio.Event()
        reply = world.client._reply

        async def slow(volume: Any, fid: Fid, who: Identity = NOBODY) -> Any:
            answer = reply(volume, fid, who)
            if who == BOB_ID:
                await late.wait()
            return answer

        world.client.fetch_status = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(m.cache.doors.rights, vnode, BOB_ID)
            await trio.sleep(1)
            await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
            late.set()
        assert await errno_of(m.read_all(file, BOB)) == errno.EACCES


async def test_a_refusal_costs_nobody_what_he_knows(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world, server, _ = shared_world()
    server.error = not_permitted()
    caplog.set_level(logging.INFO)
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p", BOB)
        await m.names(inode, caller=BOB)
        calls = world.client.calls.copy()
        assert await errno_of(m.fs.setxattr(inode, b"afs.acl", TEXT, BOB)) == errno.EACCES
        await m.names(inode, caller=BOB)
        assert world.client.calls == calls
    assert "/p: the access list was not set: the access list does not allow it" in caplog.text


@pytest.mark.parametrize("how", ["unknown", "cancelled"])
async def test_a_change_that_may_have_been_made_counts(autojump_clock: MockClock, how: str) -> None:
    world, server, top = shared_world()
    server.meaning = lambda: close_to_all_but_alice(top)
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p", BOB)
        file = await m.walk(b"p/f", BOB)
        assert await m.read_all(file, BOB) == b"secret"
        if how == "unknown":
            server.error_after = ServerUnreachable("no answer")
            setting = m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
            assert await errno_of(setting) == errno.ETIMEDOUT
        else:
            with trio.move_on_after(1.5 * world.rtt) as scope:
                await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
            assert scope.cancelled_caught
        assert await errno_of(m.read_all(file, BOB)) == errno.EACCES


async def test_a_server_that_falls_silent_after_it_leaves_the_kernel_nothing(
    autojump_clock: MockClock,
) -> None:
    world, server, _ = shared_world()
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p")
        directory = await m.walk(b"p/d")
        world.notifier.take()
        server.meaning = lambda: world.dead.add("fs1")
        await m.fs.setxattr(inode, b"afs.acl", TEXT, ALICE)
        events = world.notifier.take()
        assert ("name", inode, b"d") in events
        assert ("attributes", directory) in events


async def test_a_list_that_is_none(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world, server, top = shared_world()
    caplog.set_level(logging.INFO)
    many = b"30\n0\n" + b"".join(b"%055d rl\n" % number for number in range(30))
    async with world.mounted(source="#root.cell.") as m:
        inode = await m.walk(b"p")
        for text, code in ((b"nonsense", errno.EINVAL), (b"", errno.EINVAL), (many, errno.E2BIG)):
            assert await errno_of(m.fs.setxattr(inode, b"afs.acl", text, ALICE)) == code
        assert not server.stored
        assert "/p: the access list was not set: this is no access list" in caplog.text
        top.acl = b"what is this"
        assert await errno_of(m.fs.getxattr(inode, b"afs.acl", ALICE)) == errno.EIO


async def test_what_has_no_list_of_its_own(autojump_clock: MockClock) -> None:
    world, server, _ = shared_world()
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub")
    async with world.mounted() as m:
        file = await m.walk(b"home.org/p/f")
        point = await m.page_inode(await m.walk(b"home.org"), b"m")
        assert await errno_of(m.fs.setxattr(file, b"afs.acl", TEXT, ALICE)) == errno.ENOTDIR
        assert not server.stored
        await m.fs.setxattr(point, b"afs.acl", TEXT, ALICE)
        assert server.stored[0][0] == 1, "the root of its target"
        for inode, name in (
            (ROOT_INODE, b"afs.acl"), (file, b"user.x"), (file, b"afs.cell"),
            (file, b"system.posix_acl_access"), (point, b"afs.fid"),
        ):  # fmt: skip
            code = await errno_of(m.fs.setxattr(inode, name, TEXT, ALICE))
            assert code == errno.EOPNOTSUPP, name


async def test_nothing_can_be_removed(autojump_clock: MockClock) -> None:
    world, _, _ = shared_world()
    async with world.mounted() as m:
        inode = await m.walk(b"home.org/p")
        for where, name, code in (
            (inode, b"afs.acl", errno.EPERM), (inode, b"afs.cell", errno.EPERM),
            (inode, b"user.x", errno.ENODATA), (ROOT_INODE, b"afs.acl", errno.ENODATA),
        ):  # fmt: skip
            assert await errno_of(m.fs.removexattr(where, name, ALICE)) == code
