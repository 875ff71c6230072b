"""A change whose reply is lost: it ends as if the reply had come, whether it was made or not."""

from __future__ import annotations

import errno
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.democell import names
from afsfuse.errors import AfsError, OutcomeUnknown
from afsfuse.interfaces import fileserver as fs
from tests.unit.afsfuse.vfs.naming import naming_desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxrpc.rpc import Rpc
    from tests.unit.afsfuse.vfs.naming import NamingDesk

# what: the procedure, the arguments, what is in the directory afterwards
CHANGES: dict[str, tuple[Rpc[Any, Any], tuple[str | bytes, ...], set[str]]] = {
    "create": (fs.CREATE_FILE, ("one/new",), {"file", "dir", "new"}),
    "mkdir": (fs.MAKE_DIR, ("one/new",), {"file", "dir", "new"}),
    "symlink": (fs.SYMLINK, ("one/new", b"to"), {"file", "dir", "new"}),
    "link": (fs.LINK, ("one/file", "one/new"), {"file", "dir", "new"}),
    "unlink": (fs.REMOVE_FILE, ("one/file",), {"dir"}),
    "rmdir": (fs.REMOVE_DIR, ("one/dir",), {"file"}),
    "rename": (fs.RENAME, ("one/file", "one/new"), {"dir", "new"}),
    "rename to another": (fs.RENAME, ("one/file", "one/dir/new"), {"dir"}),
}


class Lost:
    """One change, over which the server falls silent."""

    def __init__(self, desk: NamingDesk, what: str, patience: float = inf) -> None:
        self.desk = desk
        self.rpc, self.arguments, self.expected = CHANGES[what]
        self.change = getattr(desk.walk, what.split()[0])
        self.error: AfsError | None = None
        desk.cache.changer.outcomes.patience = patience

    async def furnish(self) -> None:
        await self.desk.walk.create("one/file")
        await self.desk.walk.mkdir("one/dir")
        await self.desk.names("one/dir")

    async def happen(
        self, done: bool, silence: float = 100.0, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Have the reply lost, or the request, for so many seconds."""
        if done:
            self.desk.cell.faults.delay(self.rpc, 2.0, after=True)
        network, server = self.desk.site.network, self.desk.site.server(1)
        clients = [address for address in network._sockets if address != server]

        async def change() -> None:
            try:
                await self.change(*self.arguments)
            except AfsError as exc:
                self.error = exc

        async with trio.open_nursery() as nursery:
            if done:
                nursery.start_soon(change)
                await trio.sleep(1.0)
            for address in clients:
                network.partition(address, server)
            if not done:
                nursery.start_soon(change)
            await trio.sleep(silence)
            meanwhile()
            network.heal()

    def seen(self) -> int:
        """How often the server was asked for the change."""
        return self.desk.calls().get(self.rpc.name, 0)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("what", CHANGES)
async def test_the_change_is_made_once(what: str, done: bool, autojump_clock: object) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, what)
        await lost.furnish()
        before = lost.seen()
        await lost.happen(done)
        assert lost.error is None
        assert lost.seen() == before + 1
        assert await desk.names() == lost.expected == desk.on_server()
        assert await desk.names("two") == lost.expected
        outcomes = desk.cache.changer.outcomes
        assert (outcomes.found, outcomes.repeated) == ((1, 0) if done else (0, 1))
        await desk.walk.create("one/after")  # and what is held of the directory is good
        assert await desk.names() == {*lost.expected, "after"} == desk.on_server()


@pytest.mark.parametrize("what", ["create", "unlink", "rename"])
async def test_a_server_that_is_back_at_once_is_asked_without_patience_too(
    what: str, autojump_clock: object
) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, what, patience=0.0)
        await lost.furnish()
        await lost.happen(True, silence=21.0)
        assert lost.error is None
        assert await desk.names() == lost.expected == desk.on_server()


@pytest.mark.parametrize("what", CHANGES)
async def test_without_patience_nobody_waits_longer(what: str, autojump_clock: object) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, what, patience=0.0)
        await lost.furnish()
        began = trio.current_time()
        with trio.fail_after(200):
            await lost.happen(True)
        assert isinstance(lost.error, OutcomeUnknown)
        assert lost.error.errno == errno.ETIMEDOUT
        assert trio.current_time() - began < 105
        await trio.sleep(60)
        assert await desk.names() == lost.expected == desk.on_server()


def theirs(desk: NamingDesk, name: bytes, kind: fs.FileType = fs.FileType.FILE) -> None:
    """Another client makes a name. Nobody can be told: the network is cut."""
    volume = desk.cell.volume("data")
    names.create(volume, volume.root, name, kind)


@pytest.mark.parametrize("what", ["create", "mkdir"])
async def test_a_name_that_somebody_else_made_is_not_taken_for_ours(
    what: str, autojump_clock: object
) -> None:
    """Ours was lost on its way. He did something beside it, so there are two changes, not one."""
    async with naming_desk() as desk:
        lost = Lost(desk, what)
        await lost.furnish()
        kind = fs.FileType.FILE if what == "create" else fs.FileType.DIRECTORY

        def meanwhile() -> None:
            theirs(desk, b"other")
            theirs(desk, b"new", kind)

        await lost.happen(False, meanwhile=meanwhile)
        assert isinstance(lost.error, AfsError)
        assert lost.error.errno == errno.EEXIST
        assert await desk.names() == {"file", "dir", "new", "other"}


async def test_what_does_not_look_as_if_it_were_ours_is_not(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, "create")
        await lost.furnish()
        await lost.happen(False, meanwhile=lambda: theirs(desk, b"new", fs.FileType.DIRECTORY))
        assert isinstance(lost.error, AfsError)
        assert lost.error.errno == errno.EEXIST


async def test_a_word_of_the_server_about_others_counts(autojump_clock: object) -> None:
    """One change, and it was not ours: the server told us so before it fell silent."""
    async with naming_desk() as desk:
        lost = Lost(desk, "create")
        await lost.furnish()
        volume = desk.cell.volume("data")
        desk.cell.faults.delay(fs.CREATE_FILE, 3600.0)  # it never gets to it
        network, server = desk.site.network, desk.site.server(1)
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                try:
                    await desk.walk.create("one/new")
                except AfsError as exc:
                    lost.error = exc

            nursery.start_soon(change)
            await trio.sleep(1.0)
            theirs(desk, b"new")
            await desk.cell.servers["fs1"].changed(volume, volume.fid(volume.root), by=None)
            await trio.sleep(1.0)
            for address in [each for each in network._sockets if each != server]:
                network.partition(address, server)
            await trio.sleep(60)
            network.heal()
        assert isinstance(lost.error, AfsError)
        assert lost.error.errno == errno.EEXIST


async def test_another_link_of_the_name_is_theirs(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, "link")
        await lost.furnish()
        await lost.happen(False, meanwhile=lambda: theirs(desk, b"new"))
        assert isinstance(lost.error, AfsError)
        assert lost.error.errno == errno.EEXIST


async def test_a_renaming_that_others_went_over_is_not_known(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, "rename")
        await lost.furnish()
        volume = desk.cell.volume("data")

        def meanwhile() -> None:
            names.remove(volume, volume.root, b"new", directory=False)

        await lost.happen(True, meanwhile=meanwhile)
        assert isinstance(lost.error, OutcomeUnknown)
        assert "others changed the directory" in str(lost.error)
        assert await desk.names() == {"dir"}


async def test_who_waits_can_give_up(autojump_clock: object) -> None:
    async with naming_desk() as desk:
        lost = Lost(desk, "create")
        await lost.furnish()
        desk.cell.faults.delay(fs.CREATE_FILE, 2.0, after=True)
        network, server = desk.site.network, desk.site.server(1)
        with trio.move_on_after(40) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(desk.walk.create, "one/new")
                await trio.sleep(1.0)
                for address in [each for each in network._sockets if each != server]:
                    network.partition(address, server)
        assert scope.cancelled_caught
        network.heal()
        await trio.sleep(120)
        assert await desk.names() == {"file", "dir", "new"}
