"""The table of nodes: numbers, references, names."""

import random
import tracemalloc
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from afsfuse.errors import StaleInode
from afsfuse.interfaces.common import Fid
from afsfuse.model import Inode
from afsfuse.vfs.inodes import (
    ROOT_INODE,
    Mount,
    Node,
    NodeTable,
    VnodeNode,
    hash63,
    holders,
    identity,
)
from afsfuse.vfs.mountpoints import MountPoint, MountTarget, place_in
from tests.unit.afsfuse.vfs.world import World


def planted(table: NodeTable, *, cell: str = "home.org", volume: int = 7) -> Mount:
    """A table with a root that shows a volume."""
    root = MountPoint(
        ROOT_INODE, place=b"p" * 16, home={}, key=None, spec=MountTarget("#", cell, "v", "")
    )
    table.plant(root)
    fake = World().volume("v", cell=cell)
    fake.id = volume
    root.target = Mount(root, root.place, cast("Any", fake), Fid(volume, 1, 1))
    return root.target


def add(table: NodeTable, mount: Mount, vnode: int, unique: int = 1) -> VnodeNode:
    fid = Fid(mount.volume.id, vnode, unique)
    node = VnodeNode(table.number(identity(mount, fid)), mount, fid, (vnode, unique))
    table.add(node)
    return node


def test_numbers_are_the_same_after_a_remount() -> None:
    first, second = NodeTable(), NodeTable()
    numbers = [add(first, planted(first), vnode).inode for vnode in range(2, 50)]
    shuffled = list(range(2, 50))
    random.Random(3).shuffle(shuffled)
    mount = planted(second)
    again = {vnode: add(second, mount, vnode).inode for vnode in shuffled}
    assert numbers == [again[vnode] for vnode in range(2, 50)]


def test_numbers_have_63_bits_and_depend_on_cell_volume_vnode_and_unique() -> None:
    numbers = set()
    for cell in ("home.org", "other.org"):
        for volume in (7, 8):
            table = NodeTable()
            mount = planted(table, cell=cell, volume=volume)
            for vnode in (2, 4):
                for unique in (1, 2):
                    numbers.add(add(table, mount, vnode, unique).inode)
    assert len(numbers) == 16
    assert all(ROOT_INODE < number < 1 << 63 for number in numbers)
    assert max(numbers) > 1 << 60


def test_a_collision_gives_the_later_node_another_number() -> None:
    table = NodeTable(hasher=lambda data: hash63(data) & 0xFF)
    mount = planted(table)
    nodes = [add(table, mount, vnode) for vnode in range(2, 202)]
    assert len({node.inode for node in nodes} | {ROOT_INODE}) == 201
    for node in nodes:
        assert table.get(node.inode) is node
        assert mount.nodes[node.key] is node
    assert table.statistics().collisions > 20


def test_an_unknown_number_is_stale() -> None:
    with pytest.raises(StaleInode, match="12345"):
        NodeTable().get(Inode(12345))


def test_forgetting_the_last_reference_drops_the_node() -> None:
    table = NodeTable()
    mount = planted(table)
    node = add(table, mount, 2)
    table.hold(mount.point, b"a", node)
    table.hold(mount.point, b"a", node)
    table.forget([(node.inode, 1)])
    assert table.get(node.inode) is node
    table.forget([(node.inode, 1)])
    with pytest.raises(StaleInode):
        table.get(node.inode)
    assert not mount.nodes
    assert not mount.point.names


def test_an_open_node_outlives_its_references() -> None:
    table = NodeTable()
    mount = planted(table)
    node = add(table, mount, 2)
    table.hold(mount.point, b"a", node)
    node.handles += 1
    table.forget([(node.inode, 1)])
    assert table.get(node.inode) is node
    node.handles -= 1
    table.discard(node)
    assert not mount.nodes


def test_forgetting_too_much_or_nothing_known_is_only_logged(expected_warnings: Any) -> None:
    expected_warnings("forgot inode")
    table = NodeTable()
    mount = planted(table)
    node = add(table, mount, 2)
    table.hold(mount.point, b"a", node)
    table.forget([(node.inode, 5), (Inode(99), 1)])
    assert not mount.nodes


def test_the_root_stays() -> None:
    table = NodeTable()
    mount = planted(table)
    table.forget([(ROOT_INODE, 1)])
    assert table.get(ROOT_INODE) is mount.point


def test_a_mount_point_stays_while_something_is_known_below_it() -> None:
    table = NodeTable()
    outer = planted(table)
    fid = Fid(outer.volume.id, 4, 1)
    point = MountPoint(
        table.number(identity(outer, fid)),
        place=place_in(outer, fid),
        home=outer.nodes,
        key=(4, 1),
        mount=outer,
        fid=fid,
    )
    table.add(point)
    table.hold(outer.point, b"m", point)
    inner = point.target = Mount(point, point.place, outer.volume, outer.root)
    below = add(table, inner, 6)
    table.hold(point, b"x", below)
    table.forget([(point.inode, 1)])
    assert table.get(point.inode) is point
    table.forget([(below.inode, 1)])
    with pytest.raises(StaleInode):
        table.get(point.inode)


def test_a_long_chain_of_mount_points_goes_at_once() -> None:
    table = NodeTable()
    mount = planted(table)
    points = []
    for _ in range(5000):  # deeper than Python's stack
        fid = Fid(mount.volume.id, 4, 1)
        point = MountPoint(
            table.number(identity(mount, fid)),
            place=place_in(mount, fid),
            home=mount.nodes,
            key=(4, 1),
            mount=mount,
            fid=fid,
        )
        table.add(point)
        table.hold(mount.point, b"loop", point)
        mount = point.target = Mount(point, point.place, mount.volume, mount.root)
        points.append(point.inode)
    assert len(set(points)) == 5000
    table.forget([(inode, 1) for inode in points])
    assert table.statistics().nodes == 1


def test_hard_links_are_all_let_go() -> None:
    table = NodeTable()
    mount = planted(table)
    node = add(table, mount, 2)
    table.hold(mount.point, b"a", node)
    table.hold(mount.point, b"b", node)
    assert node.path() == "/b"
    assert table.unhold(mount.point, b"b")
    assert node.path() == "/a"
    table.hold(mount.point, b"b", node)
    table.forget([(node.inode, 3)])
    assert not mount.point.names


def test_a_name_that_moved_on_does_not_take_its_successor_along() -> None:
    table = NodeTable()
    mount = planted(table)
    old, new = add(table, mount, 2), add(table, mount, 4)
    table.hold(mount.point, b"a", old)
    table.hold(mount.point, b"a", new)
    table.forget([(old.inode, 1)])
    assert mount.point.names == {b"a": new}
    assert not table.unhold(mount.point, b"b")


def test_a_renamed_node_is_known_by_its_new_name_only() -> None:
    table = NodeTable()
    mount = planted(table)
    node = add(table, mount, 2)
    table.hold(mount.point, b"old", node)
    assert table.unhold(mount.point, b"old")
    table.hold(mount.point, b"new", node)
    assert node.links == ()
    assert node.path() == "/new"


def test_absent_names_are_bounded_and_swept() -> None:
    table = NodeTable(absent_limit=3)
    mount = planted(table)
    root = mount.point
    assert all(table.hold_absent(root, b"%d" % i, until=10.0, now=0.0) for i in range(3))
    assert not table.hold_absent(root, b"3", until=10.0, now=0.0)
    assert table.hold_absent(root, b"0", until=12.0, now=0.0)
    assert table.hold_absent(root, b"3", until=20.0, now=11.0)
    assert table.statistics().absent_names == 2
    assert table.unhold(root, b"3")
    assert not table.unhold(root, b"1")
    node = add(table, mount, 2)
    table.hold(root, b"0", node)
    assert table.statistics().absent_names == 0


def test_a_vnode_knows_the_nodes_that_show_it() -> None:
    table = NodeTable()
    mount = planted(table)
    vnode = cast("Any", type("FakeVnode", (), {"holder": None})())
    nodes: list[Node] = [add(table, mount, number) for number in (2, 4, 6)]
    for count, node in enumerate(nodes, 1):
        table.show(node, vnode)
        assert holders(vnode) == tuple(nodes[:count])
    table.show(nodes[1], vnode)
    table.show(nodes[1], None)
    assert holders(vnode) == (nodes[0], nodes[2])
    for node in nodes:
        table.hold(mount.point, b"n", node)
        table.forget([(node.inode, 1)])
    assert vnode.holder is None


def test_paths_for_messages() -> None:
    table = NodeTable()
    mount = planted(table)
    assert mount.point.path() == "/"
    parent: Node = mount.point
    for vnode in range(3, 203, 2):
        node = add(table, mount, vnode)
        table.hold(parent, b"d\xff", node)
        parent = node
    assert parent.path().startswith("/d\\xff/d\\xff/")
    assert len(parent.path()) < 1000


def test_a_node_with_its_name_takes_less_than_a_kibibyte() -> None:
    table = NodeTable()
    mount = planted(table)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(2000):
        table.hold(mount.point, b"some-file-name-%d" % number, add(table, mount, 2 * number + 2))
    each = (tracemalloc.get_traced_memory()[0] - before) / 2000
    tracemalloc.stop()
    assert each < 1024


class Forgetting(RuleBasedStateMachine):
    """Whatever the kernel is given and gives back, the table holds exactly what it must."""

    def __init__(self) -> None:
        super().__init__()
        self.table = NodeTable()
        self.mount = planted(self.table)
        self.counts: dict[int, int] = {}

    @rule(vnode=st.integers(1, 6), name=st.sampled_from([b"a", b"b", b"c"]))
    def hold(self, vnode: int, name: bytes) -> None:
        node = self.mount.nodes.get((vnode, 1)) or add(self.table, self.mount, vnode)
        self.table.hold(self.mount.point, name, node)
        self.counts[vnode] = self.counts.get(vnode, 0) + 1

    @rule(name=st.sampled_from([b"a", b"b", b"c"]))
    def unhold(self, name: bytes) -> None:
        self.table.unhold(self.mount.point, name)

    @rule(name=st.sampled_from([b"a", b"b", b"c"]))
    def absent(self, name: bytes) -> None:
        self.table.unhold(self.mount.point, name)
        self.table.hold_absent(self.mount.point, name, 100.0, 0.0)

    @rule(vnode=st.integers(1, 6), all_of_them=st.booleans())
    def forget(self, vnode: int, all_of_them: bool) -> None:
        held = self.counts.get(vnode, 0)
        if held:
            count = held if all_of_them else 1
            node = self.mount.nodes[vnode, 1]
            self.table.forget([(node.inode, count)])
            self.counts[vnode] = held - count

    @invariant()
    def balanced(self) -> None:
        alive = {vnode for vnode, count in self.counts.items() if count}
        assert {cast("Any", key)[0] for key in self.mount.nodes} == alive
        statistics = self.table.statistics()
        assert statistics.nodes == len(alive) + 1
        assert statistics.lookups == sum(self.counts.values()) + 1
        root = self.mount.point
        assert statistics.absent_names == len(root.absent or ())
        for name, node in (root.names or {}).items():
            assert self.mount.nodes[node.key] is node
            assert (node.parent, node.name) == (root, name) or (root, name) in node.links
        assert not set(root.names or ()) & set(root.absent or ())


TestForgetting = Forgetting.TestCase


def test_a_renamed_node_is_held_under_its_new_name_only() -> None:
    table = NodeTable()
    mount = planted(table)
    above, other = add(table, mount, 3), add(table, mount, 5)
    file, replaced = add(table, mount, 2), add(table, mount, 4)
    table.hold(above, b"old", file)
    table.hold(other, b"new", replaced)
    table.renamed(above, b"old", other, b"new", file)
    assert (above.names, other.names) == ({}, {b"new": file})
    assert (file.nlookup, file.parent, file.name) == (1, other, b"new")
    assert file.path().endswith("/new")
    assert replaced.nlookup == 1  # the kernel has it until it says otherwise
    table.forget([(file.inode, 1), (replaced.inode, 1)])
    assert other.names == {}


def test_a_renamed_node_that_the_kernel_does_not_hold_is_not_held() -> None:
    table = NodeTable()
    mount = planted(table)
    above, file = add(table, mount, 3), add(table, mount, 2)
    above.nlookup = file.handles = 1
    table.hold_absent(above, b"new", 100.0, 0.0)
    table.renamed(above, b"old", above, b"new", file)
    assert not above.names
    assert file.nlookup == 0
    assert table.statistics().absent_names == 0
