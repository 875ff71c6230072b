"""Files that are open when their last name goes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.cache.leftovers import Leftover, Leftovers
from afsfuse.control.unstored import UnstoredFiles
from afsfuse.democell import names
from afsfuse.interfaces import fileserver as fs
from tests.unit.afsfuse.vfs.naming import NamingDesk, errno_of, naming_desk, soon

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ExpectedWarnings


def plant(desk: NamingDesk, name: bytes, data: bytes = b"contents") -> None:
    """A file that is there from the start: before anybody has looked."""
    volume = desk.cell.volume("data")
    names.create(volume, volume.root, name, fs.FileType.FILE, data=data)


def notes_in(folder: Path) -> str:
    """What is written down."""
    (notes,) = folder.iterdir()
    return notes.read_text()


async def refresh(desk: NamingDesk) -> None:
    volume = desk.cell.volume("data")
    await desk.cell.servers["fs1"].changed(volume, volume.fid(volume.root), by=None)


async def test_the_name_goes_with_the_last_handle(autojump_clock: object, tmp_path: Path) -> None:
    async with naming_desk(Leftovers(tmp_path)) as desk:
        plant(desk, b"file")
        await refresh(desk)
        first, second = await desk.open("one/file"), await desk.open("two/file")
        await desk.walk.unlink("one/file")
        (silly,) = desk.on_server()
        assert silly.startswith(".__afs")
        assert silly in notes_in(tmp_path)
        desk.vfs.release(first)
        await trio.sleep(5)
        assert desk.on_server() == {silly}
        assert bytes(await desk.vfs.read(second, 0, 99)) == b"contents"
        desk.vfs.release(second)
        await soon(lambda: not desk.on_server())
        assert await desk.names() == set()
        assert notes_in(tmp_path) == ""


async def test_a_failure_is_tried_again(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.unlink("one/file")
        desk.cell.faults.abort(fs.REMOVE_FILE, errno.EACCES, times=3)
        desk.vfs.release(handle)
        await trio.sleep(5)
        assert len(desk.on_server()) == 1
        await trio.sleep(30)
        assert desk.on_server() == set()


async def test_a_new_token_wakes_what_waits(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.unlink("one/file")
        desk.cell.faults.abort(fs.REMOVE_FILE, errno.EACCES, times=10)
        desk.vfs.release(handle)
        await trio.sleep(200)
        desk.cell.faults.clear()
        desk.vfs.token_changed(desk.vfs._identify(ANONYMOUS), desk.cell.name)
        await trio.sleep(1)
        assert desk.on_server() == set()


async def test_an_unlink_that_is_refused_changes_nothing(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with naming_desk(Leftovers(tmp_path)) as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        desk.cell.faults.abort(fs.RENAME, errno.EACCES)
        assert await errno_of(desk.walk.unlink("one/file")) == errno.EACCES
        assert await desk.names() == {"file"}
        assert (await desk.walk.entry("one/file", writable=True)).nlink == 1
        assert notes_in(tmp_path) == ""
        desk.vfs.release(handle)


async def test_what_is_not_replaced_after_all_keeps_its_name(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.create("one/new")
        desk.cell.faults.abort(fs.RENAME, errno.EACCES)
        assert await errno_of(desk.walk.rename("one/new", "one/file")) == errno.EACCES
        await soon(lambda: desk.on_server() == {"file", "new"})
        assert (await desk.walk.entry("one/file", writable=True)).nlink == 1
        assert await desk.walk.read("one/file", writable=True) == b"contents"
        desk.vfs.release(handle)
        await trio.sleep(1)
        assert await desk.names() == {"file", "new"}


async def test_where_no_second_name_can_be_made_the_file_is_renamed(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.create("one/new")
        desk.cell.faults.abort(fs.LINK, errno.EXDEV)
        await desk.walk.rename("one/new", "one/file")
        assert bytes(await desk.vfs.read(handle, 0, 99)) == b"contents"
        assert await desk.walk.read("one/file", writable=True) == b""
        assert desk.cache.changer.reloads == 0
        desk.vfs.release(handle)
        await soon(lambda: desk.on_server() == {"file"})


async def test_a_file_that_was_renamed_and_not_replaced_gets_its_name_back(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with naming_desk(Leftovers(tmp_path)) as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.create("one/new")
        desk.cell.faults.abort(fs.LINK, errno.EXDEV)
        desk.cell.faults.delay(fs.RENAME, 0.0)
        desk.cell.faults.abort(fs.RENAME, errno.EACCES)
        assert await errno_of(desk.walk.rename("one/new", "one/file")) == errno.EACCES
        assert desk.on_server() == {"file", "new"} == await desk.names()
        assert (await desk.walk.entry("one/file", writable=True)).nlink == 1
        desk.vfs.release(handle)
        await trio.sleep(30)
        assert desk.on_server() == {"file", "new"}
        assert await desk.walk.read("one/file", writable=True) == b"contents"
        assert notes_in(tmp_path) == ""


async def test_a_file_whose_replacement_nobody_heard_of_can_be_read_still(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.create("one/new")
        desk.cell.faults.delay(fs.RENAME, 5.0, after=True)
        with trio.move_on_after(1) as scope:
            await desk.walk.rename("one/new", "one/file")
        assert scope.cancelled_caught
        await trio.sleep(30)
        assert bytes(await desk.vfs.read(handle, 0, 99)) == b"contents"
        desk.vfs.release(handle)
        await soon(lambda: desk.on_server() == {"file"})


async def test_who_removes_a_file_once_more_leaves_nothing_on_the_list(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with naming_desk(Leftovers(tmp_path)) as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        desk.cell.faults.delay(fs.RENAME, 5.0)
        with trio.move_on_after(1) as scope:
            await desk.walk.unlink("one/file")
        assert scope.cancelled_caught
        assert desk.on_server() == {"file"}
        await desk.walk.unlink("one/file")
        assert bytes(await desk.vfs.read(handle, 0, 99)) == b"contents"
        desk.vfs.release(handle)
        await soon(lambda: not desk.on_server())
        assert notes_in(tmp_path) == ""


async def test_a_file_that_cannot_have_its_name_back_stays_under_the_other(
    autojump_clock: object, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("may be the only name of what was file, and stays")
    async with naming_desk(Leftovers(tmp_path)) as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.create("one/new")
        desk.cell.faults.abort(fs.LINK, errno.EXDEV)
        desk.cell.faults.delay(fs.RENAME, 0.0)
        desk.cell.faults.abort(fs.RENAME, errno.EACCES, times=2)
        assert await errno_of(desk.walk.rename("one/new", "one/file")) == errno.EACCES
        desk.vfs.release(handle)
        await trio.sleep(30)
        (silly,) = desk.on_server() - {"new"}
        assert await desk.walk.read(f"one/{silly}", writable=True) == b"contents"
        assert notes_in(tmp_path) == ""


async def test_who_removes_the_other_name_himself_leaves_nothing_behind(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with naming_desk(Leftovers(tmp_path)) as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.unlink("one/file")
        (silly,) = desk.on_server()
        await desk.walk.unlink(f"one/{silly}")
        assert not desk.on_server()
        desk.vfs.release(handle)
        await trio.sleep(10)
        assert len(desk.vfs._orphans) == 0
        assert notes_in(tmp_path) == ""


async def test_what_was_left_is_removed_if_it_is_still_that(
    autojump_clock: object, tmp_path: Path
) -> None:
    left = Leftovers(tmp_path)
    async with naming_desk() as desk:
        volume = desk.cell.volume("data")
        facts = {}
        for name in (b".__afs1", b".__afs2", b"precious"):
            plant(desk, name)
            facts[name] = volume.root.directory.find(name)
        cell, number = desk.cell.name, volume.id

        def note(name: str, file: tuple[int, int] | None) -> None:
            assert file is not None
            left.note(Leftover(cell, number, (1, 1), name, file, "nobody"))

        vnode, unique = facts[b".__afs2"] or (0, 0)
        note(".__afs1", facts[b".__afs1"])
        note(".__afs2", (vnode, unique + 1))  # another file has the name by now
        note("precious", facts[b"precious"])  # no name that we would make
        note(".__afs3", (vnode, unique))  # it is gone already
        left.close()
        await refresh(desk)
        orphans = desk.vfs._orphans
        orphans._leftovers = heir = Leftovers(tmp_path)
        orphans.inherit()
        await soon(lambda: not len(heir))
        assert desk.on_server() == {".__afs2", "precious"}


async def test_what_cannot_be_removed_today_stays_on_the_list(
    autojump_clock: object, tmp_path: Path
) -> None:
    left = Leftovers(tmp_path)
    unknown = Leftover("no.cell", 1, (1, 1), ".__afs1", (2, 2), "uid-1000")
    gone = Leftover("names.test", 99, (1, 1), ".__afs1", (2, 2), "uid-1000")
    left.note(unknown)
    left.note(gone)
    left.close()
    async with naming_desk(heir := Leftovers(tmp_path)) as desk:
        await trio.sleep(1000)
        assert len(heir) == 1
        assert desk.cell.name == gone.cell
    assert Leftovers(tmp_path).inherit() == [unknown]


async def test_a_name_that_somebody_gave_the_file_again_stays(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        plant(desk, b"file")
        await refresh(desk)
        handle = await desk.open("one/file")
        await desk.walk.unlink("one/file")
        (silly,) = desk.on_server()
        await desk.walk.rename(f"one/{silly}", "one/saved")
        desk.vfs.release(handle)
        await soon(lambda: desk.on_server() == {"saved"})
        assert (await desk.walk.entry("one/saved", writable=True)).nlink == 1


async def test_what_is_written_to_a_removed_file_is_read_and_never_stored(
    autojump_clock: object,
) -> None:
    async with naming_desk() as desk:
        parent, name = await desk.walk.parent("one/file")
        opened, _ = await desk.vfs.create(parent, name, 0o644, os.O_RDWR, ANONYMOUS)
        await desk.walk.unlink("one/file")
        await desk.vfs.write(opened.handle, 0, b"for nobody else")
        assert bytes(await desk.vfs.read(opened.handle, 4, 6)) == b"nobody"
        desk.vfs.release(opened.handle)
        await soon(lambda: not desk.on_server())
        assert "StoreData64" not in desk.calls()
        assert desk.cache.writes.unstored() == []


async def test_a_name_that_goes_takes_along_what_could_not_be_stored(
    autojump_clock: object, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("8 bytes cannot be stored, and are kept")
    async with naming_desk() as desk:
        parent, name = await desk.walk.parent("one/file")
        opened, _ = await desk.vfs.create(parent, name, 0o644, os.O_RDWR, ANONYMOUS)
        desk.cell.faults.abort(fs.STORE_DATA64, errno.EDQUOT, times=1000)
        await desk.vfs.write(opened.handle, 0, b"too much")
        assert await errno_of(desk.vfs.flush(opened.handle, 0)) == errno.EDQUOT
        desk.vfs.release(opened.handle)
        assert [one.path for one in desk.cache.writes.unstored()] == ["/.names.test/one/file"]
        await desk.walk.unlink("one/file")
        assert desk.cache.writes.unstored() == []
        stores = desk.calls()["StoreData64"]
        await trio.sleep(200)
        assert desk.calls()["StoreData64"] == stores


async def test_what_is_not_stored_is_told_under_its_present_path(
    autojump_clock: object, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("8 bytes cannot be stored, and are kept|given up by a person")
    async with naming_desk() as desk:
        await desk.walk.mkdir("one/folder")
        parent, name = await desk.walk.parent("one/folder/file")
        opened, _ = await desk.vfs.create(parent, name, 0o644, os.O_RDWR, ANONYMOUS)
        desk.cell.faults.abort(fs.STORE_DATA64, errno.EDQUOT, times=1000)
        await desk.vfs.write(opened.handle, 0, b"too much")
        assert await errno_of(desk.vfs.flush(opened.handle, 0)) == errno.EDQUOT
        desk.vfs.release(opened.handle)
        await desk.walk.rename("one/folder/file", "one/folder/saved")
        await desk.walk.rename("one/folder", "one/elsewhere")
        unstored = UnstoredFiles([desk.cache.writes], "/afs")
        path = "/afs/.names.test/one/elsewhere/saved"
        assert [one["path"] for one in unstored.listed(None)] == [path]
        assert [one["bytes"] for one in unstored.discard(path, None)] == [8]
        assert unstored.listed(None) == []
