"""The dynamic root: cells by name, and nothing that asks DNS for what is no cell."""

import stat

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError, CellUnreachable, NameTooLong
from afsfuse.model import VolumeType
from afsfuse.vfs import ROOT_INODE, ListedCells
from tests.unit.afsfuse.vfs.test_names import PROBED
from tests.unit.afsfuse.vfs.world import World


async def test_the_root_is_a_directory_that_nobody_can_write(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted() as m:
        entry = await m.stat(ROOT_INODE, ANONYMOUS)
        assert entry.mode == stat.S_IFDIR | 0o555
        assert entry.attr_timeout == 3600.0
        assert await m.fs.access(ROOT_INODE, 5, ANONYMOUS)
        assert (await m.fs.statfs(ROOT_INODE, ANONYMOUS)).name_max == 255
        assert await m.fs.listxattr(ROOT_INODE, ANONYMOUS) == []
        with pytest.raises(AfsError, match="no extended attribute"):
            await m.fs.getxattr(ROOT_INODE, b"afs.cell", ANONYMOUS)
        with pytest.raises(AfsError, match="not a file"):
            await m.fs.open(ROOT_INODE, 0, ANONYMOUS)


async def test_a_listing_contacts_nobody(autojump_clock: MockClock) -> None:
    world = World()
    world.configured += ["a.org", "b.org"]
    world.dead |= {"home.org", "a.org", "b.org"}
    async with world.mounted() as m:
        start = trio.current_time()
        assert await m.names(ROOT_INODE) == [
            b".", b"..", b".@cell", b".a.org", b".b.org", b".home.org",
            b"@cell", b"a.org", b"b.org", b"home.org",
        ]  # fmt: skip
        assert trio.current_time() == start
        assert not world.client.calls
        assert not world.locator.calls
        assert not world.dns.queries


async def test_pages_of_the_root(autojump_clock: MockClock) -> None:
    world = World()
    world.configured += [f"c{number}.org" for number in range(30)]
    async with world.mounted() as m:
        names = await m.names(ROOT_INODE, room=7)
        assert len(names) == len(set(names)) == 2 + 2 + 2 * 31
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        await m.fs.readdir(handle, 0, 10)  # the kernel takes none of them
        m.fs.releasedir(handle)
        assert m.fs.statistics().nodes.lookups == 1 + 64


async def test_attributes_of_a_listing_are_good_enough_for_the_stats_that_follow(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.mounted() as m:
        handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
        for listing in await m.fs.readdir(handle, 0, 100):
            assert listing.entry.attr_timeout >= 10.0
            assert stat.S_ISDIR(listing.entry.mode) or listing.name.endswith(b"@cell")
        m.fs.releasedir(handle)


async def test_a_cell_is_its_root_cell_and_with_a_dot_the_writable_one(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.file(b"rw")
    world.volume("root.cell.readonly", type=VolumeType.RO).file(b"ro")
    async with world.mounted() as m:
        assert await m.names(await m.walk(b"home.org")) == [b".", b"..", b"ro"]
        assert await m.names(await m.walk(b".home.org")) == [b".", b"..", b"rw"]


async def test_links_to_the_local_cell(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted() as m:
        assert await m.fs.readlink(await m.walk(b"@cell"), ANONYMOUS) == b"home.org"
        assert await m.fs.readlink(await m.walk(b".@cell"), ANONYMOUS) == b".home.org"
        entry = await m.look_up(ROOT_INODE, b"@cell", ANONYMOUS)
        assert entry.mode == stat.S_IFLNK | 0o777
        assert entry.size == len(b"home.org")
        assert (await m.stat(entry.inode, ANONYMOUS)).mode == entry.mode
        with pytest.raises(AfsError):
            await m.fs.opendir(entry.inode, ANONYMOUS)
        with pytest.raises(AfsError):
            await m.fs.open(entry.inode, 0, ANONYMOUS)


async def test_without_a_local_cell_there_are_no_links(autojump_clock: MockClock) -> None:
    world = World()
    world.this_cell = None
    async with world.mounted() as m:
        assert (await m.look_up(ROOT_INODE, b"@cell", ANONYMOUS)).inode == 0
        assert b"@cell" not in await m.names(ROOT_INODE)


async def test_a_cell_is_found_in_dns_on_first_use_and_then_listed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.dns.cells.add("far.org")
    world.volume("root.cell", cell="far.org").file(b"x")
    async with world.mounted() as m:
        assert b"far.org" not in await m.names(ROOT_INODE)
        inode = await m.walk(b"far.org")
        assert world.dns.queries == ["far.org"]
        assert await m.names(inode) == [b".", b"..", b"x"]
        assert {b"far.org", b".far.org"} <= set(await m.names(ROOT_INODE))


async def test_looking_at_a_foreign_cell_contacts_its_dns_only(autojump_clock: MockClock) -> None:
    world = World()
    world.dns.cells.add("far.org")
    world.volume("root.cell", cell="far.org")
    async with world.mounted() as m:
        entry = await m.look_up(ROOT_INODE, b"far.org", ANONYMOUS)
        await m.stat(entry.inode, ANONYMOUS)
        assert entry.mode == stat.S_IFDIR | 0o755
        assert not world.locator.calls


async def test_an_unknown_cell_is_absent_for_ten_seconds(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted() as m:
        for _ in range(5):
            entry = await m.look_up(ROOT_INODE, b"no.such.org", ANONYMOUS)
            assert entry.inode == 0
            assert 0 < entry.entry_timeout <= 10.0
        assert world.dns.queries == ["no.such.org"]
        await trio.sleep(10)
        world.dns.cells.add("no.such.org")
        assert (await m.look_up(ROOT_INODE, b"no.such.org", ANONYMOUS)).inode


async def test_dns_is_not_asked_for_what_programs_probe(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted() as m:
        assert len(PROBED) >= 50
        for name in PROBED:
            entry = await m.look_up(ROOT_INODE, name, ANONYMOUS)
            assert entry.inode == 0
            assert entry.entry_timeout == 3600.0
        assert world.dns.queries == []


async def test_odd_names_are_absent(autojump_clock: MockClock) -> None:
    world = World()
    async with world.mounted() as m:
        for name in (b"\xff.org", b".", b"..", b"...", b".." + b"x.org", b"a b.org", b"x@y.org"):
            if name in (b".", b".."):
                assert (await m.look_up(ROOT_INODE, name, ANONYMOUS)).inode == ROOT_INODE
            else:
                assert (await m.look_up(ROOT_INODE, name, ANONYMOUS)).inode == 0
        with pytest.raises(NameTooLong):
            await m.look_up(ROOT_INODE, b"x" * 252 + b".org", ANONYMOUS)
        assert world.dns.queries == []


async def test_other_spellings_and_aliases_are_links(autojump_clock: MockClock) -> None:
    world = World()
    world.aliases = {"home": "home.org"}
    async with world.mounted() as m:
        for name, body in (
            (b"HOME.org", b"home.org"),
            (b".Home.Org", b".home.org"),
            (b"home", b"home.org"),
            (b".home", b".home.org"),
        ):
            assert await m.fs.readlink(await m.walk(name), ANONYMOUS) == body


async def test_a_cell_of_one_label_works_when_it_is_configured(autojump_clock: MockClock) -> None:
    world = World()
    world.configured.append("demo")
    world.volume("root.cell", cell="demo").file(b"x")
    async with world.mounted() as m:
        assert b"x" in await m.names(await m.walk(b"demo"))


@pytest.mark.parametrize(
    ("listed", "configured", "shown"),
    [
        (ListedCells.AUTO, 32, 32),
        (ListedCells.AUTO, 33, 1),
        (ListedCells.USED, 5, 1),
        (ListedCells.CONFIGURED, 200, 200),
    ],
)
async def test_which_cells_are_listed(
    autojump_clock: MockClock, listed: ListedCells, configured: int, shown: int
) -> None:
    world = World()
    world.configured += [f"c{number}.org" for number in range(configured - 1)]
    async with world.mounted(listed_cells=listed) as m:
        cells = [name for name in await m.names(ROOT_INODE) if name.endswith(b".org")]
        assert len(cells) == 2 * shown


async def test_when_dns_does_not_answer_the_error_is_told(autojump_clock: MockClock) -> None:
    world = World()

    async def fail(cell: str) -> None:
        raise CellUnreachable("the DNS does not answer", cell=cell)

    world.dns.lookup = fail  # type: ignore[method-assign,assignment]
    async with world.mounted() as m:
        with pytest.raises(CellUnreachable):
            await m.look_up(ROOT_INODE, b"far.org", ANONYMOUS)
        assert m.fs.statistics().nodes.nodes == 1


async def test_the_mount_works_while_no_server_answers(autojump_clock: MockClock) -> None:
    world = World()
    world.dead |= {"home.org", "fs1"}
    async with world.mounted() as m:
        await m.names(ROOT_INODE)
        start = trio.current_time()
        inode = await m.walk(b"home.org")
        assert trio.current_time() - start < 0.2
        with pytest.raises(CellUnreachable, match=r"/home\.org"):
            await m.fs.opendir(inode, ANONYMOUS)
