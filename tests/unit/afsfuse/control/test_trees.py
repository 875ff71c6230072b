"""Who is told of which trees, and who may have one let go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS, Identity
from afsfuse.control.mounted import Mounted
from afsfuse.control.protocol import ANSWER_MAX, answer_line
from afsfuse.control.trees import TreeVerbs
from afsfuse.control.verbs import Peer
from afsfuse.errors import ControlRefused
from afsfuse.model import Rights
from afsfuse.vfs.expiry import KEEPS_TOLD
from afsfuse.vfs.trees import Keep, Survey
from tests.unit.afsfuse.vfs.kernel import Kernel, mounted
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from trio.testing import MockClock

ROOT = Peer(0, 0, 1)
OWNER = Peer(os.geteuid(), os.getegid(), 1)
OTHER = Peer(1001, 1001, 1)
SECRET = "secret.volume"


def world_of_two() -> World:
    """A volume that all may look into, and one whose place only some know."""
    world = World()
    for name in ("open.volume", SECRET):
        world.volume(name).file(b"file", b"text")
    world.home.mountpoint(b"open", b"#open.volume.")
    folder = world.home.directory(b"closed")
    folder.rights = Rights.NONE
    folder.permits[Identity(uid=ANONYMOUS.uid)] = Rights.LOOKUP | Rights.READ
    world.client.tokens.add(Identity(uid=ANONYMOUS.uid))
    world.home.mountpoint(b"place", b"#secret.volume.", at=folder)
    return world


def verbs_of(kernel: Kernel) -> TreeVerbs:
    fs, cache = kernel.m.fs, kernel.m.cache
    return TreeVerbs(
        Mounted(fs, cache, "/afs", lambda: "0:53", lambda peer: Identity(uid=peer.uid)), 600
    )


async def told(verbs: TreeVerbs, peer: Peer) -> dict[str, dict[str, Any]]:
    answer = await verbs.verbs["trees"]({}, peer)
    assert (answer["directory"], answer["expire"]) == ("/afs", 600)
    return {tree["path"]: tree for tree in answer["trees"]}


async def test_each_is_told_what_he_may_see_in_any_case(autojump_clock: MockClock) -> None:
    async with mounted(world_of_two(), expire=0.0) as kernel:
        await kernel.walk("home.org/closed/place/file")
        file = await kernel.walk("home.org/open/file")
        opened = await kernel.m.fs.open(file, 0, ANONYMOUS)
        verbs = verbs_of(kernel)
        everything = {"/afs/home.org", "/afs/home.org/open", "/afs/home.org/closed/place"}
        for peer in (ROOT, OWNER):
            trees = await told(verbs, peer)
            assert trees.keys() == everything
            (keep,) = trees["/afs/home.org/open"]["kept_by"]
            assert keep["what"] == "open file"
            assert "/home.org/open/file, opened by process" in keep["who"]
        trees = await told(verbs, OTHER)
        assert trees.keys() == everything - {"/afs/home.org/closed/place"}
        assert trees["/afs/home.org/open"]["kept_by"] == [
            {"what": "open file", "who": "another user"}
        ]
        assert "place" not in str(trees)
        assert SECRET not in str(trees)
        trees = await told(verbs, Peer(ANONYMOUS.uid, 1, 1))
        assert trees.keys() == everything
        assert "opened by" in trees["/afs/home.org/open"]["kept_by"][0]["who"]
        kernel.m.fs.release(opened.handle)


async def test_what_is_told_of_a_tree(autojump_clock: MockClock) -> None:
    async with mounted(world_of_two(), expire=0.0) as kernel:
        await kernel.walk("home.org/open/file")
        await told(verbs_of(kernel), ROOT)
        await trio.sleep(7)
        tree = (await told(verbs_of(kernel), ROOT))["/afs/home.org/open"]
        assert tree.pop("number") > 500_000_000
        assert tree.pop("memory") > 1000
        assert tree == {
            "path": "/afs/home.org/open", "volume": "open.volume", "cell": "home.org",
            "type": "read-write", "server": "192.0.2.1", "idle": 7.0, "kept_by": [],
            "kept": 0, "nodes": 2, "data": 0,
        }  # fmt: skip


async def test_the_answer_has_a_bound_for_each_tree(autojump_clock: MockClock) -> None:
    """However many processes may be in any of them, and however many are below one."""
    trees, processes = 300, 1000
    world = World()
    for number in range(trees):
        world.volume(f"v.{number}")
        world.home.mountpoint(b"%d" % number, b"#v.%d." % number)
    async with mounted(world, expire=0.0) as kernel:
        for number in range(trees):
            await kernel.list(f"home.org/{number}")
        unseen = [Keep("process that cannot be looked into", str(n)) for n in range(processes)]

        async def survey() -> Survey:
            return Survey([], [], unseen)

        kernel.m.fs.expiry.survey = survey
        told_all = await verbs_of(kernel).verbs["trees"]({}, ROOT)
        assert len(told_all["trees"]) == trees + 1
        for tree in told_all["trees"]:
            below = trees if tree["path"] == "/afs/home.org" else 0
            assert tree["kept"] == processes + below
            assert len(tree["kept_by"]) == KEEPS_TOLD
        assert len(answer_line(told_all)) < 1500 * (trees + 1) < ANSWER_MAX / 50


async def test_others_have_their_turn_while_very_many_are_told_of(
    autojump_clock: MockClock,
) -> None:
    """And one of them may let trees go meanwhile."""
    trees = 600
    world = World()
    for number in range(trees):
        world.volume(f"v.{number}")
        world.home.mountpoint(b"%d" % number, b"#v.%d." % number)
    async with mounted(world, expire=0.0) as kernel:
        for number in range(trees):
            inode = await kernel.walk(f"home.org/{number}")
            await kernel.list(f"home.org/{number}")
        expiry = kernel.m.fs.expiry
        last = expiry.find(inode)
        assert last is not None

        async def survey() -> Survey:
            nursery.start_soon(let_go)
            return Survey([], [], [])

        async def let_go() -> None:
            kernel.m.nodes.trees.left(last)

        expiry.survey = survey
        async with trio.open_nursery() as nursery:
            paths = (await told(verbs_of(kernel), ROOT)).keys()
        assert len(paths) == trees
        assert f"/afs/home.org/{trees - 1}" not in paths


async def test_only_root_and_the_owner_let_a_tree_go(autojump_clock: MockClock) -> None:
    async with mounted(world_of_two(), expire=0.0) as kernel:
        inode = await kernel.walk("home.org/open")
        let_go = verbs_of(kernel).verbs["let-go"]
        request = {"device": "0:53", "inode": inode}
        with pytest.raises(ControlRefused, match="only root and whoever mounted it"):
            await let_go(request, OTHER)
        assert await let_go({**request, "device": "0:54"}, OTHER) == {"other": True}
        with pytest.raises(ControlRefused, match="inode number"):
            await let_go({"device": "0:53"}, ROOT)
        assert await let_go({**request, "inode": 77}, ROOT) == {"missing": True}
        assert await let_go(request, OWNER) == {"using": []}
        assert await let_go(request, ROOT) == {"missing": True}


async def test_who_uses_a_tree_is_named(autojump_clock: MockClock) -> None:
    async with mounted(world_of_two(), expire=0.0) as kernel:
        inode = await kernel.walk("home.org")
        opened = await kernel.m.fs.open(await kernel.walk("home.org/open/file"), 0, ANONYMOUS)
        answer = await verbs_of(kernel).verbs["let-go"]({"device": "0:53", "inode": inode}, ROOT)
        (use,) = answer["using"]
        assert use["path"] == "/afs/home.org/open"
        assert use["what"] == "open file"
        kernel.m.fs.release(opened.handle)
