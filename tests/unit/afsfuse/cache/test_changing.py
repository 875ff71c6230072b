"""A change is one call; what the cache holds afterwards is what the server has, or is asked for."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS, NOBODY
from afsfuse.cache.directories import MAX_PAGES, Directory
from afsfuse.cell.records import Preference
from afsfuse.democell import names
from afsfuse.errors import AfsError, OutcomeUnknown
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.site import ROOT, raw_client
from tests.unit.afsfuse.vfs.naming import errno_of, naming_desk

if TYPE_CHECKING:
    from rxrpc.rpc import Rpc
    from tests.conftest import ExpectedWarnings


async def test_a_change_costs_one_call(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        before = desk.calls()
        await desk.walk.create("one/file")
        await desk.walk.mkdir("one/d")
        await desk.walk.create("one/d/inner")
        await desk.walk.rename("one/d/inner", "one/d/moved")
        await desk.walk.rename("one/d/moved", "one/out")
        await desk.walk.unlink("one/out")
        await desk.walk.rmdir("one/d")
        assert await desk.names() == {"file"}
        after = desk.calls()
        made = {name: count - before.get(name, 0) for name, count in after.items()}
        assert {name: count for name, count in made.items() if count} == {
            "CreateFile": 2, "MakeDir": 1, "Rename": 2, "RemoveFile": 1, "RemoveDir": 1,
        }  # fmt: skip


async def test_a_promise_that_is_broken_meanwhile_is_void(autojump_clock: object) -> None:
    """The break comes while the reply is under way."""
    async with naming_desk() as desk, raw_client(desk.site) as other:
        volume = await desk.volume()
        root = Fid(volume.id, ROOT, ROOT)
        desk.cell.faults.delay(fs.CREATE_FILE, 1.0, after=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.walk.create, "one/ours")
            await trio.sleep(0.5)
            await other.create(root, b"theirs")
        assert await desk.names() == {"ours", "theirs"} == desk.on_server()


async def test_a_change_of_others_before_ours_is_noticed_by_the_version(
    autojump_clock: object,
) -> None:
    """... even if nobody told us of it."""
    async with naming_desk() as desk, raw_client(desk.site) as other:
        volume = await desk.volume()
        root = Fid(volume.id, ROOT, ROOT)
        desk.cell.faults.drop_breaks()
        await other.create(root, b"theirs")
        assert await desk.names() == set()
        await desk.walk.create("one/ours")
        assert await desk.names() == {"ours", "theirs"}
        assert desk.cache.changer.reloads == 1


@pytest.mark.parametrize("verb", ["create", "mkdir", "unlink", "rename"])
async def test_whether_a_server_did_it_is_asked_after_silence(
    autojump_clock: object, verb: str
) -> None:
    async with naming_desk() as desk:
        await desk.walk.create("one/there")
        rpcs: dict[str, Rpc[Any, Any]] = {
            "create": fs.CREATE_FILE, "mkdir": fs.MAKE_DIR,
            "unlink": fs.REMOVE_FILE, "rename": fs.RENAME,
        }  # fmt: skip
        arguments = {"rename": ("one/there", "one/new"), "unlink": ("one/there",)}
        desk.cell.faults.delay(rpcs[verb], 2.0, after=True)
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(OutcomeUnknown):
                    await getattr(desk.walk, verb)(*arguments.get(verb, ("one/new",)))

            nursery.start_soon(fail)
            await trio.sleep(1.0)
            server = desk.site.server(1)
            for address in list(desk.site.network._sockets):
                if address != server:
                    desk.site.network.partition(address, server)
        desk.site.network.heal()
        await trio.sleep(60)
        expected = {
            "create": {"there", "new"}, "mkdir": {"there", "new"},
            "unlink": set(), "rename": {"new"},
        }[verb]  # fmt: skip
        assert await desk.names() == expected == desk.on_server()


async def test_who_gives_up_leaves_nothing_wrong_behind(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        desk.cell.faults.delay(fs.CREATE_FILE, 1.0, after=True)
        with trio.move_on_after(0.5) as scope:
            await desk.walk.create("one/file")
        assert scope.cancelled_caught
        await trio.sleep(2)
        assert await desk.names() == {"file"}


async def test_a_refusal_that_surprises_has_the_directory_asked_for(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk, raw_client(desk.site) as other:
        volume = await desk.volume()
        root = Fid(volume.id, ROOT, ROOT)
        desk.cell.faults.drop_breaks()
        await other.create(root, b"name")
        with pytest.raises(AfsError) as caught:
            await desk.walk.create("one/name")
        assert caught.value.errno == errno.EEXIST
        assert await desk.names() == {"name"}


async def test_changes_of_one_directory_come_one_after_the_other(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(desk.walk.create, f"{('one', 'two')[number % 2]}/{number}")
        assert desk.cache.changer.reloads == 0
        assert desk.cache.changer.edits == 30
        assert await desk.names() == {str(number) for number in range(30)}


async def test_renamings_across_two_directories_do_not_lock_each_other_out(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        await desk.walk.mkdir("one/a")
        await desk.walk.mkdir("one/b")
        for number in range(20):
            await desk.walk.create(f"one/{'ab'[number % 2]}/{number}")
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    old, new = "ab"[number % 2], "ba"[number % 2]
                    nursery.start_soon(
                        desk.walk.rename, f"one/{old}/{number}", f"one/{new}/{number}"
                    )
        assert len(await desk.names("one/a")) == len(await desk.names("one/b")) == 10
        assert desk.cache.changer.reloads == 0


async def test_what_got_another_name_in_time_keeps_what_is_not_stored(
    autojump_clock: object, expected_warnings: ExpectedWarnings
) -> None:
    """Whether it is the last name that is replaced is known when it is our turn."""
    expected_warnings("8 bytes cannot be stored, and are kept")
    async with naming_desk() as desk:
        volume = await desk.volume()
        root = Fid(volume.id, ROOT, ROOT)
        await desk.walk.create("one/new")
        parent, name = await desk.walk.parent("one/file")
        opened, _ = await desk.vfs.create(parent, name, 0o644, os.O_RDWR, ANONYMOUS)
        desk.cell.faults.abort(fs.STORE_DATA64, errno.EDQUOT, times=1000)
        await desk.vfs.write(opened.handle, 0, b"too much")
        assert await errno_of(desk.vfs.flush(opened.handle, 0)) == errno.EDQUOT
        desk.vfs.release(opened.handle)
        file, new = await desk.fid("one/file"), await desk.fid("one/new")
        who = desk.vfs._identify(ANONYMOUS)
        changer = desk.cache.changer
        desk.cell.faults.delay(fs.LINK, 1.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changer.link, volume, root, b"saved", file, who)
            await trio.sleep(0.5)
            await changer.rename(volume, root, b"new", root, b"file", who, moved=new, replaced=file)
        assert desk.on_server() == {"file", "saved"}
        desk.cell.faults.clear()
        await trio.sleep(100)
        assert await desk.walk.read("one/saved", writable=True) == b"too much"


async def test_what_was_made_has_a_promise(autojump_clock: object) -> None:
    async with naming_desk() as desk, raw_client(desk.site) as other:
        await desk.walk.create("one/file")
        vnode = await desk.vnode("one/file")
        assert vnode.valid(trio.current_time())
        assert vnode.status.links == 1
        before = desk.calls()
        assert await desk.walk.read("one/file", writable=True) == b""
        assert desk.calls() == before
        await other.call(
            fs.STORE_STATUS,
            fs.StoreStatusArgs(vnode.fid, fs.StoreStatus(fs.StoreMask.MODE, unix_mode_bits=0o600)),
        )
        await trio.sleep(1)
        assert (await desk.walk.entry("one/file", writable=True)).mode & 0o777 == 0o600


async def test_a_removed_vnode_is_forgotten(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        volume = await desk.volume()
        await desk.walk.create("one/file")
        await desk.walk.mkdir("one/d")
        fids = [await desk.fid("one/file"), await desk.fid("one/d")]
        await desk.walk.unlink("one/file")
        await desk.walk.rmdir("one/d")
        assert [desk.cache.peek(volume, fid) for fid in fids] == [None, None]


async def test_a_read_only_volume_is_not_even_asked(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        await desk.cell.replicate("other", ["fs1"])
        volume = await desk.volume()
        locator = desk.vfs._orphans._locator
        replica = await locator.volume(volume.cell.name, "other", Preference.RO, NOBODY)
        with pytest.raises(AfsError) as caught:
            await desk.cache.changer.create_file(
                replica, Fid(replica.id, ROOT, ROOT), b"x", 0o644, NOBODY
            )
        assert caught.value.errno == errno.EROFS
        assert "CreateFile" not in desk.calls()


async def test_a_full_directory_takes_no_more_and_what_fits_still(autojump_clock: object) -> None:
    """As at OpenAFS's servers, where filling one takes a minute."""
    async with naming_desk() as desk:
        stored = desk.cell.volume("data")
        taken = names.create(stored, stored.root, b"%0255d" % 0, fs.FileType.FILE)[1]
        room = (64 - 13 - 2) // 9 + (MAX_PAGES - 1) * (63 // 9)  # such a name takes nine blobs
        for number in range(1, room - 3):
            names.link(stored, stored.root, b"%0255d" % number, stored.vnodes[taken.number])
        await desk.cell.servers["fs1"].changed(stored, stored.fid(stored.root), by=None)
        for number in range(room - 3, room):
            await desk.walk.create(f"one/{number:0255}")
        with pytest.raises(AfsError) as caught:
            await desk.walk.create(f"one/{room:0255}")
        assert caught.value.errno == errno.EFBIG
        await desk.walk.create("one/short")
        vnode = await desk.vnode("one")
        assert vnode.directory is not None
        assert list(vnode.directory) == list(Directory.parse(stored.root.directory.data()))
        assert desk.cache.changer.reloads == 0


async def test_what_a_server_does_after_we_gave_up_is_seen(autojump_clock: object) -> None:
    """Nobody tells us of it: it was our own change."""
    async with naming_desk() as desk:
        desk.cell.faults.delay(fs.CREATE_FILE, 70.0)
        server = desk.site.server(1)
        clients = [address for address in desk.site.network._sockets if address != server]
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(OutcomeUnknown):
                    await desk.walk.create("one/late")

            nursery.start_soon(fail)
            await trio.sleep(1.0)
            for address in clients:
                desk.site.network.partition(address, server)
        desk.site.network.heal()
        await trio.sleep(20)  # the daemon finds that the server is back
        assert await desk.names() == set()
        assert desk.on_server() == set()
        await trio.sleep(60)
        assert desk.on_server() == {"late"}
        assert await desk.names() == {"late"}


async def test_a_reply_that_makes_no_sense_leaves_nothing_to_rely_on(
    autojump_clock: object,
) -> None:
    """The change was made, whatever was said of it."""

    def no_directory(reply: Any) -> Any:
        return reply._replace(status=reply.status._replace(file_type=1))

    async with naming_desk() as desk:
        await desk.walk.create("one/there")
        desk.cell.faults.change(fs.REMOVE_FILE, no_directory)
        assert await errno_of(desk.walk.unlink("one/there")) == errno.EIO
        assert await desk.names() == set() == desk.on_server()
