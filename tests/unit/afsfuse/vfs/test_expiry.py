"""Trees in a world of volumes, and a kernel that forgets what it is told to, or does not."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.cache import Vnode
from afsfuse.interfaces.common import Fid
from afsfuse.model import Inode, VolumeType
from afsfuse.vfs import ROOT_INODE
from afsfuse.vfs.expiry import _sweep_timers
from afsfuse.vfs.inodes import Mount
from afsfuse.vfs.trees import Keep, Survey
from tests.unit.afsfuse.vfs.kernel import EXPIRE, Kernel, cell_of, mounted, shown
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_an_idle_tree_gives_all_back(autojump_clock: MockClock) -> None:
    world, volumes = cell_of("a")
    async with mounted(world) as kernel:
        before = kernel.m.fs.statistics()
        file = await kernel.walk("home.org/a/folder/inner")
        assert shown(kernel) == {"/home.org", "/home.org/a"}
        await trio.sleep(EXPIRE * 2 + 5)
        assert shown(kernel) == set()
        assert kernel.order == [b"a", b"home.org"]
        assert kernel.m.fs.statistics() == before
        assert len(kernel.m.cache._table) == 0
        assert not kernel.m.cache._table._shelves
        given = world.client.returned
        assert Fid(volumes["a"].id, 1, 1) in given
        assert len(set(given)) == len(given) == 5, "each of them once"
        assert volumes["a"] in world.locator.forgotten
        assert volumes["a"] in world.client.forgotten
        assert await kernel.walk("home.org/a/folder/inner") == file, "it comes back as it was"


async def test_nothing_holds_a_volume_of_which_no_tree_is_left(
    autojump_clock: MockClock,
) -> None:
    """Else it would count as one in use, and so would its servers."""
    world, volumes = cell_of("a")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/a/file")
        await kernel.walk("home.org/a/folder/inner")
        await kernel.list("home.org/a")
        await trio.sleep(EXPIRE * 2 + 100)
        assert shown(kernel) == set()
        volume = volumes.pop("a")
        gc.collect()
        holders = gc.get_referrers(volume)
        assert not [each for each in holders if isinstance(each, tuple | Vnode | Mount)]


async def test_not_before_two_ticks(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a")
    async with mounted(world) as kernel:
        await trio.sleep(EXPIRE / 2)
        await kernel.walk("home.org/a/file")
        await trio.sleep(EXPIRE)
        assert "/home.org/a" in shown(kernel), "one tick: it is only marked"
        await trio.sleep(EXPIRE)
        assert shown(kernel) == set()


async def test_a_use_takes_the_mark_off(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a", "b")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/b/file")
        file = await kernel.walk("home.org/a/file")
        for _ in range(5):
            await trio.sleep(EXPIRE * 0.9)
            await kernel.m.stat(file, ANONYMOUS)
        assert shown(kernel) == {"/home.org", "/home.org/a"}


async def test_no_tree_goes_where_they_are_to_stay(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of("a")
    async with mounted(world, expire=0.0) as kernel:
        await kernel.walk("home.org/a/file")
        await trio.sleep(80_000)
        assert shown(kernel) == {"/home.org", "/home.org/a"}


@pytest.mark.parametrize("expire", [EXPIRE, 0.0])
async def test_a_volume_that_the_kernel_forgot_by_itself_leaves(
    autojump_clock: MockClock, expire: float
) -> None:
    world, volumes = cell_of("a")
    async with mounted(world, expire=expire) as kernel:
        await kernel.walk("home.org/a/file")
        kernel._drop(kernel.children[ROOT_INODE].pop(b"home.org"))
        assert shown(kernel) == set()
        await trio.sleep(1300)
        assert len(kernel.m.cache._table) == 0
        assert volumes["a"] in world.locator.forgotten
        assert Fid(volumes["a"].id, 1, 1) in world.client.returned


async def test_the_names_of_mount_points_are_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    """Else the kernel would answer a path into a tree without a word to anybody."""
    world, _ = cell_of("a")
    async with mounted(world) as kernel:
        inode = await kernel.walk("home.org")
        found = {}
        for name in (b"a",):
            found[name] = await kernel.m.look_up(inode, name, ANONYMOUS)
        assert 0 < found[b"a"].entry_timeout <= EXPIRE / 8
        root = await kernel.m.look_up(ROOT_INODE, b"home.org", ANONYMOUS)
        assert 0 < root.entry_timeout <= EXPIRE / 8
        for path, where in ((b"a", inode), (b"home.org", ROOT_INODE)):
            handle = await kernel.m.fs.opendir(Inode(where), ANONYMOUS)
            entries = {each.name: each.entry for each in await kernel.m.fs.readdir(handle, 0, 100)}
            assert 0 < entries[path].entry_timeout <= EXPIRE / 8
            kernel.m.fs.releasedir(handle)


async def test_an_open_file_keeps_its_tree(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a", "b")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/b/file")
        file = await kernel.walk("home.org/a/file")
        opened = await kernel.m.fs.open(file, 0, ANONYMOUS)
        await trio.sleep(EXPIRE * 5)
        assert shown(kernel) == {"/home.org", "/home.org/a"}
        assert bytes(await kernel.m.fs.read(opened.handle, 0, 100)) == b"text of a"
        kernel.m.fs.release(opened.handle)
        await trio.sleep(EXPIRE * 0.9)
        assert shown(kernel) == {"/home.org", "/home.org/a"}, "the count begins anew"
        await trio.sleep(EXPIRE * 1.2)
        assert shown(kernel) == set()


async def test_an_open_directory_keeps_its_tree(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of("a")
    async with mounted(world) as kernel:
        handle = await kernel.m.fs.opendir(await kernel.walk("home.org/a"), ANONYMOUS)
        await trio.sleep(EXPIRE * 5)
        assert shown(kernel) == {"/home.org", "/home.org/a"}
        kernel.m.fs.releasedir(handle)


def inside(*inodes: int, paths: tuple[bytes, ...] = (), unseen: bool = False) -> Survey:
    keep = Keep("working directory", "shell (process 7)", 1000)
    return Survey(
        [(inode, keep) for inode in inodes], [(path, keep) for path in paths], [keep] * unseen
    )


@pytest.mark.parametrize("how", ["inode", "path", "unseen"])
async def test_a_process_inside_keeps_its_tree(autojump_clock: MockClock, how: str) -> None:
    world, _ = cell_of("a", "a.b", "c")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/c")
        folder = await kernel.walk("home.org/a/b/folder")
        found = {
            "inode": inside(folder, 999),
            "path": inside(paths=(b"/home.org/a/b/folder/none", b"/nowhere")),
            "unseen": inside(unseen=True),
        }[how]
        asked = 0

        async def survey() -> Survey:
            nonlocal asked
            asked += 1
            return found

        expiry = kernel.m.fs.expiry
        expiry.survey = survey
        await trio.sleep(EXPIRE * 4 + 5)
        held = {"/home.org", "/home.org/a", "/home.org/a/b"}
        assert shown(kernel) == (held | {"/home.org/c"} if how == "unseen" else held)
        assert 1 <= asked <= 3, "only when a tree was about to go"
        found = inside()
        await trio.sleep(EXPIRE * 2 + 5)
        assert shown(kernel) == set()


async def test_other_parts_can_keep_a_volume(autojump_clock: MockClock) -> None:
    world, volumes = cell_of("a", "b")
    async with mounted(world) as kernel:
        dirty = [(cast("Any", volumes["a"]), Keep("a reason of its own"))]
        kernel.m.fs.expiry.keepers.append(lambda: dirty)
        await kernel.walk("home.org/a/file")
        await kernel.walk("home.org/b/file")
        await trio.sleep(EXPIRE * 4)
        assert shown(kernel) == {"/home.org", "/home.org/a"}
        dirty.clear()
        await trio.sleep(EXPIRE * 2 + 5)
        assert shown(kernel) == set()


async def test_somebody_who_was_not_seen(autojump_clock: MockClock) -> None:
    """He came in between the look and the order: nothing breaks, and it is tried again later."""
    world, _ = cell_of("a")
    async with mounted(world) as kernel:
        folder = await kernel.walk("home.org/a/folder")
        kernel.busy.add(folder)
        await trio.sleep(EXPIRE * 2 + 10)
        assert shown(kernel) == {"/home.org", "/home.org/a"}
        assert kernel.order == [b"a"], "the one around it is not even tried"
        assert (await kernel.m.stat(folder, ANONYMOUS)).inode == folder
        assert await kernel.walk("home.org/a/folder") == folder
        kernel.busy.clear()
        await trio.sleep(EXPIRE * 2 + 10)
        assert shown(kernel) == set()


async def test_a_volume_at_two_places_stays_known_until_both_are_gone(
    autojump_clock: MockClock,
) -> None:
    world, volumes = cell_of("a")
    world.home.mountpoint(b"also", b"#a.")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/a/file")
        other = await kernel.walk("home.org/also/file")
        opened = await kernel.m.fs.open(other, 0, ANONYMOUS)
        await trio.sleep(EXPIRE * 2 + 5)
        assert shown(kernel) == {"/home.org", "/home.org/also"}
        assert not world.client.returned
        assert bytes(await kernel.m.fs.read(opened.handle, 0, 100)) == b"text of a"
        kernel.m.fs.release(opened.handle)
        await trio.sleep(EXPIRE * 2 + 5)
        assert Fid(volumes["a"].id, 1, 1) in world.client.returned


async def test_what_the_kernel_forgot_by_itself_is_given_back_as_well(
    autojump_clock: MockClock,
) -> None:
    world, volumes = cell_of("a")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/a/file")
        point = kernel.m.nodes.at(b"/home.org/a")
        assert point is not None
        kernel.children[kernel.children[ROOT_INODE][b"home.org"]].pop(b"a")
        kernel._drop(point.inode)
        assert shown(kernel) == {"/home.org"}
        assert (
            kernel.m.cache.peek(cast("Any", volumes["a"]), Fid(volumes["a"].id, 1, 1)) is not None
        )
        await trio.sleep(EXPIRE * 2 + 5)
        assert Fid(volumes["a"].id, 1, 1) in world.client.returned
        assert not kernel.m.cache._table._shelves


async def test_a_read_only_volume_is_given_back_as_a_whole(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of()
    volume = world.volume("r.readonly", type=VolumeType.RO)
    volume.file(b"file")
    world.home.mountpoint(b"r", b"#r.readonly.")
    async with mounted(world) as kernel:
        await kernel.walk("home.org/r/file")
        await trio.sleep(EXPIRE * 2 + 5)
        assert [fid for fid in world.client.returned if fid.volume == volume.id] == [
            Fid(volume.id, 0, 0)
        ]


async def test_a_tree_that_leads_elsewhere_now_is_no_tree_any_more(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of("a")
    async with mounted(world, target_lifetime=5.0) as kernel:
        await kernel.walk("home.org/a/file")
        (old,) = [tree for tree in kernel.m.nodes.trees if tree.point.name == b"a"]
        del world.volumes["home.org", "a"]
        world.volume("a").file(b"file", b"another")
        await trio.sleep(6)
        await kernel.walk("home.org/a/file")
        assert old not in kernel.m.nodes.trees
        assert len(kernel.m.nodes.trees) == 2


# What commands ask


async def test_a_tree_is_let_go_at_once_with_those_below_it(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of("a", "a.b", "a.b.c", "d")
    async with mounted(world, expire=0.0) as kernel:
        await kernel.walk("home.org/d/file")
        await kernel.walk("home.org/a/b/c/file")
        expiry = kernel.m.fs.expiry
        point = await kernel.walk("home.org/a")
        tree = expiry.find(point)
        assert tree is not None
        assert await expiry.let_go_at_once(tree) == []
        assert kernel.order == [b"c", b"b", b"a"]
        assert shown(kernel) == {"/home.org", "/home.org/d"}
        assert expiry.expired == 3


async def test_a_tree_in_use_is_not_let_go(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a", "a.b")
    async with mounted(world, expire=0.0) as kernel:
        file = await kernel.walk("home.org/a/b/file")
        opened = await kernel.m.fs.open(file, 0, ANONYMOUS)
        expiry = kernel.m.fs.expiry
        tree = expiry.find(await kernel.walk("home.org/a"))
        assert tree is not None
        (use,) = await expiry.let_go_at_once(tree)
        assert use[0].point.path() == "/home.org/a/b"
        assert use[1].what == "open file"
        assert len(shown(kernel)) == 3
        kernel.m.fs.release(opened.handle)
        kernel.busy.add(file)
        uses = await expiry.let_go_at_once(tree)
        assert {each.point.path() for each, _ in uses} == {"/home.org/a/b", "/home.org/a"}
        assert len(shown(kernel)) == 3


async def test_the_mount_itself_is_not_let_go(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a")
    async with mounted(world, source="#root.cell.") as kernel:
        await kernel.walk("a/file")
        await trio.sleep(EXPIRE * 3)
        assert shown(kernel) == {"/"}
        tree = kernel.m.fs.expiry.find(ROOT_INODE)
        assert tree is not None
        ((_, keep),) = await kernel.m.fs.expiry.let_go_at_once(tree)
        assert "umount" in keep.who


async def test_the_report(autojump_clock: MockClock) -> None:
    world, _ = cell_of("a", "a.b")
    async with mounted(world, expire=0.0) as kernel:
        file = await kernel.walk("home.org/a/b/file")
        opened = await kernel.m.fs.open(file, 0, ANONYMOUS)
        await kernel.m.fs.read(opened.handle, 0, 100)
        await kernel.m.fs.expiry.report()
        await trio.sleep(40)
        reports = {report.path: report for report in await kernel.m.fs.expiry.report()}
        assert list(reports) == ["/home.org", "/home.org/a", "/home.org/a/b"]
        assert [keep.what for keep in reports["/home.org/a/b"].keeps] == ["open file"]
        assert reports["/home.org/a"].keeps == [Keep("tree below", "/home.org/a/b")]
        assert reports["/home.org/a/b"].idle == 40
        assert reports["/home.org/a/b"].nodes == 2
        assert reports["/home.org/a/b"].data == len(b"text of a.b")
        assert all(report.memory > 1000 for report in reports.values())


async def test_trees_of_no_kernel_have_no_root_for_any_number(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of("a")
    async with mounted(world) as kernel:
        find = kernel.m.fs.expiry.find
        assert find(Inode(12345)) is None
        assert find(ROOT_INODE) is None, "the dynamic root is on no server"
        assert find(await kernel.walk("home.org/a/file")) is None


async def test_memory_is_given_back_when_more_has_gone_than_is_left(
    autojump_clock: MockClock,
) -> None:
    world, _ = cell_of(*(f"v{number}" for number in range(100)))
    given: list[float] = []
    async with mounted(world) as kernel:
        kernel.m.fs.expiry.give_back = lambda: given.append(trio.current_time())
        for rounds in range(1, 3):
            await walk_many(kernel, 0, 5)
            await trio.sleep(EXPIRE * 3 + 100)
            assert len(given) == 2 * (rounds - 1), "five are not worth it"
            await walk_many(kernel, 0, 100)
            assert len(given) == 2 * (rounds - 1), "nothing has gone"
            await trio.sleep(EXPIRE * 3 + 100)
            assert not shown(kernel)
            assert len(given) == 2 * rounds, "at once, and a little later"


async def test_timers_of_the_past_are_swept_out(autojump_clock: MockClock) -> None:
    scope = trio.CancelScope(deadline=trio.current_time() + 1000)
    with scope:
        await trio.sleep(1)
    past = weakref.ref(scope)
    with trio.CancelScope(deadline=trio.current_time() + 20) as present:
        del scope
        await trio.sleep(1)
        gc.collect()
        assert past() is not None, "trio's queue has it"
        await _sweep_timers()
        gc.collect()
        assert past() is None
        await trio.sleep(1000)
    assert present.cancelled_caught, "those that count stay"


async def walk_many(kernel: Kernel, first: int, last: int) -> None:
    for number in range(first, last):
        await kernel.list(f"home.org/v{number}")


async def memory_after(kernel: Kernel, count: int) -> tuple[int, int, int]:
    """Traced bytes before a walk over so many volumes, after it, and when they have expired."""
    await walk_many(kernel, 0, 20)  # what is made once for all
    await trio.sleep(EXPIRE * 3)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await walk_many(kernel, 0, count)
    gc.collect()
    during = tracemalloc.get_traced_memory()[0]
    await trio.sleep(EXPIRE * 3)
    assert not shown(kernel)
    kernel.order.clear()
    kernel.children.clear()
    kernel.references = Counter()
    kernel.m.world.client.returned.clear()
    kernel.m.world.client.forgotten.clear()
    kernel.m.world.locator.forgotten.clear()
    kernel.m.world.locator.calls.clear()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return before, during, after


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_many_volumes_leave_nothing_behind(autojump_clock: MockClock, count: int) -> None:
    world = World()
    for number in range(count):
        volume = world.volume(f"v{number}")
        for name in (b"one", b"two", b"three"):
            volume.file(name)
        world.home.mountpoint(b"v%d" % number, b"#v%d." % number)
    async with mounted(world) as kernel:
        before, during, after = await memory_after(kernel, count)
        grown, left = during - before, after - before
        print(f"{count} volumes: {grown / count:.0f} bytes each, {left} bytes left of all")
        assert grown > count * 2000, "so there was something to give back"
        assert left < grown / 25, "the room of some tables"


async def test_whoever_asks_what_is_in_use_shares_one_look(autojump_clock: MockClock) -> None:
    """Any user may ask, and all processes of the machine are looked at."""
    world, _ = cell_of("a")
    looks = 0

    async def survey() -> Survey:
        nonlocal looks
        looks += 1
        await trio.sleep(0.01)
        return Survey([], [], [])

    async with mounted(world) as kernel:
        await kernel.walk("home.org/a/file")
        expiry = kernel.m.fs.expiry
        expiry.survey = survey
        told: list[set[str]] = []

        async def ask(until: float) -> None:
            while True:
                told.append({report.path for report in await expiry.report()})
                if trio.current_time() >= until:
                    return

        await ask(0.0)
        assert trio.current_time() < 0.1, "one who asks need not wait"
        with trio.move_on_after(0.05):
            await ask(0.0)  # gives up
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(ask, trio.current_time() + 10.0)
        assert looks < 45
        assert all(told)
        await kernel.walk("home.org/a/folder")
        assert not expiry._reports._result
