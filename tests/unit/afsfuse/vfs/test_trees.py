"""Which trees may go: judged without a kernel, a clock or a cell."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from afsfuse.interfaces.common import Fid
from afsfuse.vfs.inodes import Mount, NodeTable
from afsfuse.vfs.mountpoints import MountPoint, MountTarget, volume_root
from afsfuse.vfs.trees import Trees, depth, name_timeout, nesting


def volume(name: str = "v") -> Any:
    class FakeVolume:
        cell = SimpleNamespace(name="home.org")

    return FakeVolume()


class Forest:
    """Trees by name, each below another one."""

    def __init__(self) -> None:
        self.trees = Trees()
        top = volume_root(MountTarget("#", "home.org", "root.cell", ""), None)
        self.named: dict[str, Mount] = {}
        self.enter("top", top)

    def enter(self, name: str, point: MountPoint, shown: Any = None) -> Mount:
        tree = point.target = Mount(point, name.encode(), shown or volume(name), Fid(1, 1, 1))
        self.trees.entered(tree)
        self.named[name] = tree
        return tree

    def below(self, name: str, parent: str, shown: Any = None) -> Mount:
        around = self.named[parent]
        fid = Fid(1, len(self.named) * 2, 7)
        point = MountPoint(
            NodeTable().number(name.encode()), place=name.encode(), home=around.nodes,
            key=(fid.vnode, 7), mount=around, fid=fid,
        )  # fmt: skip
        around.nodes[fid.vnode, 7] = point
        return self.enter(name, point, shown)

    def idle(self, before: float, *kept: str) -> list[str]:
        names = {tree: name for name, tree in self.named.items()}
        return [names[tree] for tree in self.trees.idle(before, {self.named[k] for k in kept})]


@pytest.fixture
def forest() -> Forest:
    """`top` around `a` and `b`; `a` around `aa`, that around `aaa`."""
    forest = Forest()
    for name, parent in (("a", "top"), ("b", "top"), ("aa", "a"), ("aaa", "aa")):
        forest.below(name, parent)
    return forest


def test_a_new_tree_is_in_use(forest: Forest) -> None:
    assert forest.idle(math.inf) == []
    forest.trees.sweep(5.0)
    assert forest.idle(5.0) == []
    assert set(forest.idle(5.1)) == {"a", "b", "aa", "aaa"}


def test_children_go_before_their_parents(forest: Forest) -> None:
    forest.trees.sweep(0.0)
    due = forest.idle(1.0)
    assert due.index("aaa") < due.index("aa") < due.index("a")
    assert "top" not in due, "only umount ends the mount itself"


def test_what_is_used_stays_with_all_around_it(forest: Forest) -> None:
    forest.trees.sweep(0.0)
    forest.named["aa"].used = True
    assert set(forest.idle(1.0)) == {"aaa", "b"}
    forest.trees.sweep(2.0)
    assert not forest.named["aa"].used
    assert set(forest.idle(2.0)) == {"aaa", "b"}
    assert set(forest.idle(2.5)) == {"a", "aa", "aaa", "b"}


def test_what_is_kept_stays_with_all_around_it(forest: Forest) -> None:
    forest.trees.sweep(0.0)
    assert set(forest.idle(1.0, "aaa")) == {"b"}
    assert set(forest.idle(1.0, "b")) == {"a", "aa", "aaa"}


def test_all_below_a_tree(forest: Forest) -> None:
    names = {tree: name for name, tree in forest.named.items()}
    assert [names[tree] for tree in forest.trees.below(forest.named["a"])] == ["aaa", "aa", "a"]
    assert [names[tree] for tree in forest.trees.below(forest.named["b"])] == ["b"]
    assert [depth(forest.named[name]) for name in ("top", "a", "aaa")] == [0, 1, 3]


def test_many_come_and_go(forest: Forest) -> None:
    for _ in range(2):
        trees = [forest.below(f"{number}", "top") for number in range(100)]
        for tree in trees:
            forest.trees.left(tree)
        forest.trees.compact()
        assert len(forest.trees) == len(set(forest.trees)) == 5
        assert all(forest.trees.shown(forest.named[name].volume) for name in ("a", "aaa"))


def test_a_volume_is_bare_when_its_last_tree_has_left(forest: Forest) -> None:
    shown = volume()
    trees = [forest.below(name, "b", shown) for name in ("x", "y")]
    forest.trees.left(trees[0])
    forest.trees.left(trees[0])
    assert forest.trees.shown(shown)
    assert forest.trees.bare_volumes() == []
    forest.trees.left(trees[1])
    assert not forest.trees.shown(shown)
    assert forest.trees.bare_volumes() == [], "it has not been so for a whole period yet"
    assert forest.trees.bare_volumes() == [shown]
    assert forest.trees.bare_volumes() == []


def test_a_volume_that_is_shown_again_is_not_bare(forest: Forest) -> None:
    shown = volume()
    forest.trees.left(forest.below("x", "b", shown))
    assert forest.trees.bare_volumes() == []
    forest.below("y", "a", shown)
    assert forest.trees.bare_volumes() == []
    forest.trees.left(forest.named["y"])
    forest.trees.released(shown)
    assert [forest.trees.bare_volumes() for _ in range(2)] == [[], []]


def test_how_often_a_volume_stands_in_itself(forest: Forest) -> None:
    shown = volume()
    forest.below("x", "b", shown)
    forest.below("y", "x")
    forest.below("z", "y", shown)
    assert nesting(forest.named["z"], shown) == 2
    assert nesting(forest.named["y"], shown) == 1
    assert nesting(None, shown) == 0


def test_a_mount_point_is_asked_for_again_several_times_a_period() -> None:
    assert name_timeout(600.0) == 75.0
    assert name_timeout(0.0) == math.inf
