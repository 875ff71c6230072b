"""Mount points: crossing them, and looking at those that lead nowhere without waiting."""

import errno
import logging
import stat
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.cell.directory import Cell
from afsfuse.cell.volumes import Preference, Volume
from afsfuse.errors import AfsError, CellUnreachable, ServerUnreachable, VolumeMissing
from afsfuse.model import Inode, VolumeType
from afsfuse.vfs import ROOT_INODE
from afsfuse.vfs.mountpoints import parse_mountpoint
from afsfuse.vfs.resolving import preference
from tests.unit.afsfuse.vfs.world import Mounted, World
from tests.unit.afsfuse.vfs.worldservers import DEAD_TIME

VOLUME: dict[str, Any] = {"source": "#root.cell."}


async def timed_stat(m: Mounted, inode: Inode) -> float:
    """Seconds that a stat takes."""
    start = trio.current_time()
    await m.stat(inode, ANONYMOUS)
    return trio.current_time() - start


async def test_a_mount_point_is_a_directory_with_the_contents_of_its_target(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    sub = world.volume("sub")
    sub.file(b"x", b"inside")
    sub.root.mtime, sub.root.owner = 1_234_567, 77
    async with world.mounted(**VOLUME) as m:
        entry = await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        assert stat.S_ISDIR(entry.mode)
        assert (entry.mtime, entry.uid) == (1_234_567, 77)
        assert entry.attr_timeout > 3500
        assert await m.names(entry.inode) == [b".", b"..", b"x"]
        assert await m.read_all(await m.walk(b"m/x")) == b"inside"


async def test_one_volume_at_two_places_has_two_sets_of_inodes(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.home.mountpoint(b"n", b"#sub.")
    world.volume("sub").directory(b"d")
    async with world.mounted(**VOLUME) as m:
        inodes = [await m.walk(path) for path in (b"m", b"n", b"m/d", b"n/d")]
        assert len(set(inodes)) == 4


async def test_a_volume_that_contains_itself(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"loop", b"#root.cell.")
    async with world.mounted(**VOLUME) as m:
        inode = Inode(1)
        inodes = []
        for _ in range(8):  # the root is the volume's first place
            inode = (await m.look_up(inode, b"loop", ANONYMOUS)).inode
            inodes.append(inode)
        assert len(set(inodes)) == 8
        with pytest.raises(AfsError, match="inside itself") as caught:
            await m.look_up(inode, b"loop", ANONYMOUS)
        assert caught.value.errno == errno.ELOOP
        m.fs.forget([(inode, 1) for inode in inodes])
        assert m.fs.statistics().nodes.nodes == 1
        assert world.client.calls.total() < 10  # one volume, however often it is met


@pytest.mark.parametrize(
    ("body", "error", "number"),
    [
        (b"#missing.", VolumeMissing, errno.ENODEV),
        (b"garbage", AfsError, errno.EINVAL),
        (b"", AfsError, errno.EINVAL),
        (b"#dead.org:root.cell.", CellUnreachable, errno.ETIMEDOUT),
        (b"#deadserver.", ServerUnreachable, errno.ETIMEDOUT),
        (b"#sub.readonly.", VolumeMissing, errno.ENODEV),
    ],
)
async def test_a_broken_mount_point_is_listed_and_says_why_when_entered(
    autojump_clock: MockClock, body: bytes, error: type[AfsError], number: int
) -> None:
    world = World()
    world.dead |= {"dead.org", "fs9"}
    world.volume("sub")
    world.volume("deadserver", server="fs9")
    world.home.mountpoint(b"m", body)
    async with world.mounted(**VOLUME) as m:
        assert await m.names(ROOT_INODE) == [b".", b"..", b"m"]
        entry = await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        assert entry.mode == stat.S_IFDIR | 0o755
        for enter in (m.fs.opendir, m.fs.statfs):
            with pytest.raises(error, match="/m: mount point") as caught:
                await enter(entry.inode, ANONYMOUS)
            assert caught.value.errno == number
        with pytest.raises(error):
            await m.look_up(entry.inode, b"x", ANONYMOUS)
        with pytest.raises(error):
            await m.fs.access(entry.inode, 0, ANONYMOUS)
        with pytest.raises(error):
            await m.fs.getxattr(entry.inode, b"afs.fid", ANONYMOUS)


async def test_a_failure_is_remembered_for_a_while_and_then_tried_again(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#late.")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"m")
        for _ in range(5):
            with pytest.raises(VolumeMissing, match="mount point to #late"):
                await m.fs.opendir(inode, ANONYMOUS)
        assert world.locator.calls["home.org:late"] == 1
        world.volume("late").file(b"x")
        await trio.sleep(10)
        assert await m.names(inode) == [b".", b"..", b"x"]


@pytest.mark.parametrize("dead", ["location", "file"])
async def test_who_enters_does_not_wait_for_the_memory_of_a_server_that_was_away(
    dead: str, autojump_clock: MockClock
) -> None:
    """Those who watch over servers know when to ask them again."""
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    sub = world.volume("sub", server="FS2")
    sub.file(b"x")
    silent = "home.org" if dead == "location" else "FS2"
    async with world.mounted(**VOLUME) as m:
        world.dead.add(silent)
        inode = await m.walk(b"m")
        with pytest.raises((CellUnreachable, ServerUnreachable)):
            await m.fs.opendir(inode, ANONYMOUS)
        world.dead.discard(silent)
        await trio.sleep(1)
        assert await m.names(inode) == [b".", b"..", b"x"]


async def test_the_reason_is_logged_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "afsfuse.vfs.resolving")
    world = World()
    world.home.mountpoint(b"m", b"#none.")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"m")
        for _ in range(5):
            with pytest.raises(VolumeMissing):
                await m.fs.opendir(inode, ANONYMOUS)
            await trio.sleep(10)
    assert [record.getMessage() for record in caplog.records] == [
        "/m: mount point to #none: the cell has no such volume (volume none, cell home.org)"
    ]


async def test_dead_cells_and_servers_do_not_slow_a_listing(autojump_clock: MockClock) -> None:
    """Three hundred mount points to the dead, a few to the living."""
    world = World()
    world.dead |= {"dead.org", "fs9"}
    for number in range(100):
        world.volume(f"on9.{number}", server="fs9")
        world.home.mountpoint(b"server%d" % number, b"#on9.%d." % number)
        world.home.mountpoint(b"cell%d" % number, b"#dead.org:vol%d." % number)
        world.home.mountpoint(b"missing%d" % number, b"#none.%d." % number)
    for number in range(5):
        world.volume(f"sub{number}").root.mtime = 42
        world.home.mountpoint(b"alive%d" % number, b"#sub%d." % number)
    async with world.mounted(**VOLUME) as m:
        start = trio.current_time()
        names = await m.names(ROOT_INODE)
        assert trio.current_time() - start < 0.1
        for name in names[2:]:  # as `ls -l` does
            entry = await m.look_up(ROOT_INODE, name, ANONYMOUS)
            await m.stat(entry.inode, ANONYMOUS)
            if name.startswith(b"alive"):
                assert entry.mtime == 42
        assert trio.current_time() - start < 2.0  # mostly 3 round trips of 1 ms for each
        assert not any(call.startswith("dead.org") for call in world.locator.calls)


async def test_a_slow_cell_of_its_own_costs_one_short_wait(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(50):
        world.home.mountpoint(b"m%d" % number, b"#sub%d." % number)
    async with world.mounted(**VOLUME) as m:
        inodes = [(await m.page_inode(ROOT_INODE, b"m%d" % number)) for number in range(50)]
        world.dead.add("home.org")
        assert 0.09 < await timed_stat(m, inodes[0]) < 0.11
        assert sum([await timed_stat(m, inode) for inode in inodes[1:]]) < 0.11


async def test_listing_contacts_no_target(autojump_clock: MockClock) -> None:
    world = World()
    for number in range(20):
        world.home.mountpoint(b"m%d" % number, b"#sub%d." % number)
    async with world.mounted(**VOLUME) as m:
        asked = world.locator.calls.total()
        await m.names(ROOT_INODE)
        assert world.locator.calls.total() == asked
        assert world.client.calls["fetch_data"] == 1


async def test_other_cells_are_not_contacted_by_looking(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#other.org:root.cell.")
    other = world.volume("root.cell", cell="other.org")
    other.root.mtime = 99
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"m")
        for _ in range(3):
            entry = await m.stat(inode, ANONYMOUS)
            assert entry.mtime != 99
            assert entry.attr_timeout == 10.0
        await m.fs.listxattr(inode, ANONYMOUS)
        assert world.locator.calls["other.org:root.cell"] == 0
        world.notifier.take()
        m.fs.releasedir(await m.fs.opendir(inode, ANONYMOUS))
        assert ("attributes", inode) in world.notifier.take()  # the kernel holds faked ones
        assert (await m.stat(inode, ANONYMOUS)).mtime == 99


async def test_looking_goes_on_in_the_background(autojump_clock: MockClock) -> None:
    world = World()
    world.rtt = 0.08
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").root.mtime = 99
    async with world.mounted(**VOLUME) as m:
        entry = await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        assert entry.mtime != 99
        world.notifier.take()
        await trio.sleep(1)
        assert world.notifier.take() == [("attributes", entry.inode)]
        entry = await m.stat(entry.inode, ANONYMOUS)
        assert entry.mtime == 99
        assert world.locator.calls["home.org:sub"] == 1


async def test_many_who_enter_share_one_search(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").file(b"x")
    async with world.mounted(**VOLUME) as m:
        inode = await m.page_inode(ROOT_INODE, b"m")
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(m.fs.lookup, inode, b"x", ANONYMOUS)
                nursery.start_soon(m.fs.getattr, inode, ANONYMOUS)
        assert world.locator.calls["home.org:sub"] == 1


async def test_who_is_cancelled_leaves_the_search_to_the_others(autojump_clock: MockClock) -> None:
    world = World()
    world.rtt = 1.0
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").file(b"x")
    async with world.mounted(**VOLUME) as m:
        inode = await m.page_inode(ROOT_INODE, b"m")

        async def impatient() -> None:
            with trio.move_on_after(0.5):
                await m.look_up(inode, b"x", ANONYMOUS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            assert (await m.look_up(inode, b"x", ANONYMOUS)).inode


async def test_entering_is_bounded(autojump_clock: MockClock) -> None:
    world = World()
    world.rtt = 1000.0
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub")
    async with world.mounted(source="afs") as m:
        inode = (await m.look_up(ROOT_INODE, b"home.org", ANONYMOUS)).inode
        start = trio.current_time()
        with pytest.raises(AfsError, match=r"/home\.org: .*no answer within 60 s") as caught:
            await m.fs.opendir(inode, ANONYMOUS)
        assert caught.value.errno == errno.ETIMEDOUT
        assert trio.current_time() - start <= 61


async def test_a_target_that_stops_answering_shows_what_was_known(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    sub = world.volume("sub", server="fs2")
    sub.root.mtime = 99
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"m")
        world.dead.add("fs2")
        m.break_callback([sub.root])
        start = trio.current_time()
        entry = await m.stat(inode, ANONYMOUS)
        assert 0.4 < trio.current_time() - start < 0.6
        assert (entry.mtime, entry.attr_timeout) == (99, 0.0)
        assert await timed_stat(m, inode) < 0.001
        world.dead.clear()
        await trio.sleep(DEAD_TIME + 10)
        assert (await m.stat(inode, ANONYMOUS)).attr_timeout > 0


async def test_a_volume_that_was_deleted_and_made_again(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    sub = world.volume("sub")
    sub.file(b"old")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"m")
        await m.walk(b"m/old")
        del world.volumes["home.org", "sub"]
        m.break_callback([sub.root])
        await trio.sleep(1)
        entry = await m.stat(inode, ANONYMOUS)
        assert stat.S_ISDIR(entry.mode)
        assert ("name", inode, b"old") in world.notifier.take()
        with pytest.raises(VolumeMissing):
            await m.look_up(inode, b"old", ANONYMOUS)
        world.volume("sub").file(b"new")
        await trio.sleep(10)
        assert await m.names(inode) == [b".", b"..", b"new"]


async def test_a_replica_that_appears_is_used_after_a_while(autojump_clock: MockClock) -> None:
    world = World()
    world.volume("root.afs").mountpoint(b"m", b"#other.org:sub.")
    world.volume("sub", cell="other.org").file(b"rw")
    async with world.mounted(source="#root.afs.") as m:
        inode = await m.walk(b"m")
        assert b"rw" in await m.names(inode)
        world.volume("sub.readonly", cell="other.org", type=VolumeType.RO).file(b"ro")
        assert b"rw" in await m.names(inode)
        await trio.sleep(601)
        assert b"ro" in await m.names(inode)


async def test_when_the_location_server_is_down_the_known_target_stays(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub").file(b"x")
    async with world.mounted(**VOLUME) as m:
        inode = await m.walk(b"m")
        world.dead.add("home.org")
        await trio.sleep(601)
        assert b"x" in await m.names(inode)


async def test_a_backup_inside_a_backup_is_refused(autojump_clock: MockClock) -> None:
    world = World()
    outer = world.volume("u.backup", type=VolumeType.BACKUP)
    outer.mountpoint(b"m", b"#v.backup.")
    world.volume("v.backup", type=VolumeType.BACKUP)
    async with world.mounted(source="#u.backup.") as m:
        inode = await m.walk(b"m")
        with pytest.raises(VolumeMissing, match="backup"):
            await m.fs.opendir(inode, ANONYMOUS)


@pytest.mark.parametrize(
    ("body", "parent", "wanted"),
    [
        (b"#v.", VolumeType.RW, Preference.FORCE_RW),
        (b"#v.", VolumeType.RO, Preference.PREFER_RO),
        (b"#v.", VolumeType.BACKUP, Preference.FORCE_RW),
        (b"#v.", None, Preference.PREFER_RO),
        (b"%v.", VolumeType.RO, Preference.FORCE_RW),
        (b"%v.", None, Preference.FORCE_RW),
        (b"#home.org:v.", VolumeType.RW, Preference.FORCE_RW),
        (b"#other.org:v.", VolumeType.RW, Preference.PREFER_RO),
        (b"%other.org:v.", VolumeType.RO, Preference.FORCE_RW),
        (b"#v.readonly.", VolumeType.RW, Preference.RO),
        (b"%v.readonly.", VolumeType.RW, Preference.RO),
        (b"#v.backup.", VolumeType.RO, Preference.BACKUP),
    ],
)
def test_which_volume_is_wanted(body: bytes, parent: VolumeType | None, wanted: Preference) -> None:
    volume = None if parent is None else Volume(Cell("home.org", ()), 1, parent)
    spec = parse_mountpoint(body)
    assert preference(spec, volume, spec.cell or "home.org") is wanted


async def test_all_looks_in_one_volume_together_have_a_bound(autojump_clock: MockClock) -> None:
    world = World()
    world.rtt = 0.03  # slow, but each look succeeds
    for number in range(200):
        world.volume(f"sub{number}", server=f"fs{number}")
        world.home.mountpoint(b"m%d" % number, b"#sub%d." % number)
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE)
        start = trio.current_time()
        for number in range(200):
            await m.look_up(ROOT_INODE, b"m%d" % number, ANONYMOUS)
        assert 0.9 < trio.current_time() - start < 1.2
        await trio.sleep(10)
        inode = await m.walk(b"m199")
        assert (await m.stat(inode, ANONYMOUS)).attr_timeout > 3000
        assert await m.names(await m.walk(b"m150")) == [b".", b".."]  # entering always works


async def test_a_listing_lets_the_stat_after_it_look(autojump_clock: MockClock) -> None:
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.home.mountpoint(b"missing", b"#none.")
    world.home.mountpoint(b"foreign", b"#other.org:root.cell.")
    world.volume("sub")
    async with world.mounted(**VOLUME) as m:
        timeouts: dict[bytes, float] = {}

        async def listing() -> None:
            handle = await m.fs.opendir(ROOT_INODE, ANONYMOUS)
            for listing in await m.fs.readdir(handle, 0, 100):
                m.fs.listed(handle, listing)
                timeouts[listing.name] = listing.entry.attr_timeout
            m.fs.releasedir(handle)

        await listing()
        names = (b"m", b"missing", b"foreign")
        assert [timeouts[name] for name in names] == [0.0, 0.0, 0.0]  # nobody knows them yet
        for name in names:
            await m.walk(name)
        await listing()
        assert timeouts[b"m"] > 3000
        assert [timeouts[name] for name in names[1:]] == [10.0, 10.0]


@pytest.mark.parametrize("how", ["looked at", "entered"])
async def test_a_mount_point_that_the_kernel_forgets_during_the_search_leaves_no_tree(
    autojump_clock: MockClock, how: str
) -> None:
    """It could never go, and each try to let it go would be a use of the one that came after."""
    world = World()
    world.home.mountpoint(b"m", b"#sub.")
    world.volume("sub")
    async with world.mounted(**VOLUME) as m:
        await m.names(ROOT_INODE, take=False)
        world.rtt = 0.04 if how == "looked at" else 2.0
        entry = await m.look_up(ROOT_INODE, b"m", ANONYMOUS)
        if how == "entered":
            with trio.move_on_after(0.5):
                await m.fs.opendir(entry.inode, ANONYMOUS)
        m.fs.forget([(entry.inode, 1)])
        await trio.sleep(60)
        assert len(m.fs.trees) == 1, "the root's"
        assert m.fs.statistics().nodes.nodes == 1
