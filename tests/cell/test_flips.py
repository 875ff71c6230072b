"""Access lists and tokens that change all the time, and a model that knows who may do what.

Everything but FUSE is real: servers with rxkad, callbacks, the cache and the vfs. After each change
users do whatever the kernel may ask for in their names; each outcome must be the model's. Where a
change and operations overlap, the outcome must be right before or after it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import Caller, Identity
from afsfuse.auth.security import Credentials
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import AccessList
from afsfuse.democell.trees import Link, MountPoint, plant
from afsfuse.errors import NotPermitted
from afsfuse.interfaces.protection import ANYUSER, AUTHUSER
from afsfuse.model import Inode, Rights
from rxrpc import NULL
from tests.cell.site import composed, in_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

    from afsfuse.cache import CacheManager
    from afsfuse.democell.vnode import Vnode
    from afsfuse.vfs import FileSystem
    from rxrpc import ClientSecurity

    Operation = Callable[["Users", int], Awaitable[bool]]

CELL = "flips.test"
ALICE, BOB, OTHER, SUPERUSER = UIDS = (1001, 1002, 65534, 0)
NAMES = {ALICE: "alice", BOB: "bob"}
LETTERS = {"l": Rights.LOOKUP, "r": Rights.READ, "k": Rights.LOCK}
PROMISE = 5 * 3600.0
"""Seconds; no promise is longer."""
SECRET = b"what only some may read\n"
TIMES = pytest.mark.parametrize(
    ("seed", "flips"),
    [
        (1, 700),
        (2, 700),
        pytest.param(3, 10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3000)]),
    ],
)


class Tokens(Credentials):
    """Who has a token now."""

    def __init__(self) -> None:
        self.held: dict[int, ClientSecurity] = {}

    def of(self, who: Identity, cell: str) -> ClientSecurity:
        return self.held.get(-1 if who.uid is None else who.uid, NULL)


class Model:
    """Who may do what, by letters: written without a look at the code that is tested."""

    def __init__(self) -> None:
        self.positive: dict[str, str] = {"anyuser": "rl"}
        self.negative: dict[str, str] = {}
        self.tokens: dict[int, str] = {}
        """Whose token each user has; it may be another one's."""

    def copy(self) -> Model:
        other = Model()
        other.positive, other.negative = dict(self.positive), dict(self.negative)
        other.tokens = dict(self.tokens)
        return other

    def rights(self, uid: int) -> set[str]:
        """As a server judges: with his token, if he has one."""
        groups = {"anyuser"}
        if uid in self.tokens:
            groups |= {"authuser", self.tokens[uid]}
        granted = set("".join(self.positive.get(one, "") for one in groups))
        granted -= set("".join(self.negative.get(one, "") for one in groups))
        return granted

    def outcomes(self, uid: int, letters: str) -> set[bool]:
        """Whether something that takes these rights is answered.

        Who is denied what anybody may, by a negative entry, has but to drop his token: he may be
        answered by what both of him may do, and may be refused.
        """
        own = self.rights(uid)
        return {set(letters) <= own, set(letters) <= own | self.rights(OTHER)}


class Users:
    """The directory `p`, those who work with it, and those who change its list."""

    def __init__(
        self, rng: random.Random, cell: DemoCell, filesystem: FileSystem, cache: CacheManager,
        tokens: Tokens,
    ) -> None:  # fmt: skip
        self.rng = rng
        self.cell = cell
        self.fs = filesystem
        self.cache = cache
        self.tokens = tokens
        self.model = Model()
        self.inodes: dict[bytes, Inode] = {}
        self.held: dict[int, int] = {}
        """A handle of the file, which each user opened when that was allowed."""

    def at(self, path: bytes) -> Inode:
        return self.inodes[path]

    async def walk(self) -> None:
        """Have the kernel know all inodes, as somebody with rights has had it once."""
        inode = Inode(1)
        for name in (CELL.encode(), b"p"):
            inode = (await self.fs.lookup(inode, name, caller(OTHER))).inode
        self.inodes[b"p"] = inode
        for name in (b"file", b"link", b"folder"):
            entry = await self.fs.lookup(inode, name, caller(OTHER))
            assert entry.inode
            self.inodes[name] = entry.inode

    def directory(self) -> Vnode:
        return directory(self.cell)

    async def change_list(
        self, positive: dict[str, str], negative: dict[str, str], *, told: bool = True
    ) -> None:
        """Another client stores a list. Returns when all who had promises have heard of it, or
        when these have ended.
        """
        numbers = {"anyuser": ANYUSER, "authuser": AUTHUSER, "alice": ALICE, "bob": BOB}
        lists = [
            {numbers[who]: int(sum(LETTERS[one] for one in text)) for who, text in entries.items()}
            for entries in (positive, negative)
        ]
        volume, changed = self.cell.volume("root.cell"), self.directory()
        changed.acl = AccessList(*lists)
        if told:
            await self.cell.servers["fs1"].changed(volume, volume.fid(changed), by=None)
        else:
            await trio.sleep(PROMISE)

    async def change_token(self, uid: int, name: str | None) -> None:
        """A user gets another token, perhaps of another principal, or drops his."""
        if name is not None:
            ticket = self.cell.token_for(name, lifetime=1e6)
            self.tokens.held[uid] = ticket.security(time.time)
        else:
            self.tokens.held.pop(uid, None)
        self.cache.token_changed(Identity(uid), CELL)

    def next_change(self) -> tuple[Model, Callable[[], Awaitable[None]]]:
        """What is so afterwards, and how it comes about."""
        rng, after = self.rng, self.model.copy()
        if rng.random() < 0.2:
            uid = rng.choice([ALICE, BOB])
            name = rng.choice([None, "alice", "bob"])
            after.tokens.pop(uid, None)
            if name is not None:
                after.tokens[uid] = name
            return after, lambda: self.change_token(uid, name)
        choices = ["", "", "l", "rl", "rl", "r", "rlk"]
        names = ["anyuser", "authuser", "alice", "bob"]
        after.positive = {who: rng.choice(choices) for who in names if rng.random() < 0.5}
        after.negative = {who: rng.choice(choices) for who in names[1:] if rng.random() < 0.15}
        positive, negative, told = after.positive, after.negative, rng.random() > 0.01
        return after, lambda: self.change_list(positive, negative, told=told)


def directory(cell: DemoCell, inner: bytes | None = None) -> Vnode:
    """The directory `p`, or one in it."""
    volume = cell.volume("root.cell")
    found = volume.root.directory.find(b"p")
    assert found is not None
    if inner is not None:
        found = volume.vnode(*found).directory.find(inner)
        assert found is not None
    return volume.vnode(*found)


def caller(uid: int) -> Caller:
    return Caller(uid, uid, 0)


# What can be asked, each with the letters that it takes. Each tells whether it was answered, and
# raises `NotPermitted` where it was not.


async def find_folder(users: Users, uid: int) -> bool:
    return bool((await users.fs.lookup(users.at(b"p"), b"folder", caller(uid))).inode)


async def find_link(users: Users, uid: int) -> bool:
    return bool((await users.fs.lookup(users.at(b"p"), b"link", caller(uid))).inode)


async def find_nothing(users: Users, uid: int) -> bool:
    return not (await users.fs.lookup(users.at(b"p"), b"nothing", caller(uid))).inode


async def find_file(users: Users, uid: int) -> bool:
    return (await users.fs.lookup(users.at(b"p"), b"file", caller(uid))).size == len(SECRET)


async def stat_link(users: Users, uid: int) -> bool:
    return bool((await users.fs.getattr(users.at(b"link"), caller(uid))).inode)


async def stat_folder(users: Users, uid: int) -> bool:
    return bool((await users.fs.getattr(users.at(b"folder"), caller(uid))).inode)


async def stat_file(users: Users, uid: int) -> bool:
    return (await users.fs.getattr(users.at(b"file"), caller(uid))).size == len(SECRET)


async def read_link(users: Users, uid: int) -> bool:
    return await users.fs.readlink(users.at(b"link"), caller(uid)) == b"file"


async def list_names(users: Users, uid: int) -> bool:
    handle = await users.fs.opendir(users.at(b"p"), caller(uid))
    try:
        page = await users.fs.readdir(handle, 0, 100)
    finally:
        users.fs.releasedir(handle)
    return {one.name for one in page} == {b".", b"..", b"file", b"link", b"folder"}


async def list_sizes(users: Users, uid: int) -> bool:
    """A listing brings attributes along; of files for readers only."""
    handle = await users.fs.opendir(users.at(b"p"), caller(uid))
    try:
        page = await users.fs.readdir(handle, 0, 100)
    finally:
        users.fs.releasedir(handle)
    (size,) = [one.entry.size for one in page if one.name == b"file"]
    if not size:
        raise NotPermitted("no size was told")
    return size == len(SECRET)


async def read(users: Users, uid: int) -> bool:
    opened = await users.fs.open(users.at(b"file"), os.O_RDONLY, caller(uid))
    try:
        return bytes(await users.fs.read(opened.handle, 0, 4096)) == SECRET
    finally:
        users.fs.release(opened.handle)


async def read_at_once(users: Users, uid: int) -> bool:
    """The short way, on which nobody is asked: what it gives it must be allowed to give."""
    opened = users.fs.open_at_once(users.at(b"file"), os.O_RDONLY, caller(uid))
    if opened is None:
        return await read(users, uid)
    try:
        data = users.fs.read_at_once(opened.handle, 0, 4096)
        return data is None or bytes(data) == SECRET
    finally:
        users.fs.release(opened.handle)


async def read_what_was_open(users: Users, uid: int) -> bool:
    if uid not in users.held:
        users.held[uid] = -1  # only once, also if two come together
        try:
            opened = await users.fs.open(users.at(b"file"), os.O_RDONLY, caller(uid))
        except NotPermitted:
            del users.held[uid]
            raise
        users.held[uid] = opened.handle
    if users.held[uid] < 0:
        return await read(users, uid)
    data = users.fs.read_at_once(users.held[uid], 0, 4096)
    if data is None:
        data = memoryview(await users.fs.read(users.held[uid], 0, 4096))
    return bytes(data) == SECRET


async def attribute(users: Users, uid: int) -> bool:
    return bool(await users.fs.getxattr(users.at(b"file"), b"afs.fid", caller(uid)))


async def attribute_of_link(users: Users, uid: int) -> bool:
    return bool(await users.fs.getxattr(users.at(b"link"), b"afs.fid", caller(uid)))


async def access_list(users: Users, uid: int) -> bool:
    return bool(await users.fs.getxattr(users.at(b"file"), b"afs.acl", caller(uid)))


async def ask_to_read(users: Users, uid: int) -> bool:
    if not await users.fs.access(users.at(b"file"), os.R_OK, caller(uid)):
        raise NotPermitted("it says no")
    return True


async def ask_to_search(users: Users, uid: int) -> bool:
    if not await users.fs.access(users.at(b"p"), os.X_OK, caller(uid)):
        raise NotPermitted("it says no")
    return True


OPERATIONS: dict[Operation, str] = {
    **dict.fromkeys(
        (find_folder, find_link, find_nothing, stat_link, stat_folder, read_link, list_names,
         attribute_of_link, ask_to_search),
        "l",
    ),
    **dict.fromkeys(
        (find_file, stat_file, list_sizes, read, read_at_once, read_what_was_open, attribute,
         access_list, ask_to_read),
        "lr",
    ),
}  # fmt: skip


def right(users: Users, operation: Operation, uid: int, models: list[Model]) -> set[bool]:
    """The outcomes that are right in one of these states."""
    outcomes = {one for model in models for one in model.outcomes(uid, OPERATIONS[operation])}
    if operation in (stat_file, attribute, access_list) and uid in users.held:
        outcomes.add(True)  # who has a file open may know what it is
    return outcomes


async def one_round(users: Users, counts: Counter[str]) -> list[str]:
    """A change, and what some users do after it or at the same time. -> what was wrong"""
    rng = users.rng
    if users.held and rng.random() < 0.3:
        users.fs.release(users.held.pop(rng.choice(sorted(users.held))))
    before = users.model
    after, change = users.next_change()
    overlap = rng.random() < 0.3
    models = [before, after] if overlap else [after]
    wrong: list[str] = []
    asked = [(rng.choice(list(OPERATIONS)), rng.choice(UIDS)) for _ in range(6)]

    async def judge(operation: Operation, uid: int, pause: float) -> None:
        await trio.sleep(pause)
        try:
            done = await operation(users, uid)
        except NotPermitted:
            done = False
        counts["done" if done else "refused"] += 1
        if done not in right(users, operation, uid, models):
            wrong.append(f"{operation.__name__} by {uid}: {done}; {vars(before)} -> {vars(after)}")

    if not overlap:
        await change()
    async with trio.open_nursery() as nursery:
        for operation, uid in asked:
            nursery.start_soon(judge, operation, uid, rng.choice([0.0, 0.0, rng.random() / 500]))
        if overlap:
            await change()
    users.model = after
    counts["overlapping"] += overlap
    return wrong


@TIMES
async def test_nobody_is_served_what_his_rights_lack(
    autojump_clock: MockClock, seed: int, flips: int
) -> None:
    cell = DemoCell(CELL, ["192.0.2.1"], rng=random.Random(seed))
    for uid, name in NAMES.items():
        cell.people.add_user(name, uid)
    public = AccessList({ANYUSER: int(Rights.LOOKUP | Rights.READ)})
    for volume in ("root.afs", "root.cell"):
        cell.create_volume(volume, acl=public)
    plant(cell.volume("root.afs"), {CELL.encode(): MountPoint(b"%root.cell.")})
    plant(
        cell.volume("root.cell"), {b"p": {b"file": SECRET, b"link": Link(b"file"), b"folder": {}}}
    )
    directory(cell, b"folder").acl = AccessList()  # who may look into it may know of it
    tokens, counts = Tokens(), Counter[str]()
    async with in_process(cell) as site, composed(site, tokens) as (filesystem, cache):
        users = Users(random.Random(seed), cell, filesystem, cache, tokens)
        await users.walk()
        for number in range(flips):
            wrong = await one_round(users, counts)
            assert not wrong, f"seed {seed}, change {number}: {wrong}"
        for handle in users.held.values():
            filesystem.release(handle)
    print(f"seed {seed}: {flips} changes, {dict(counts)}")
    assert min(counts["done"], counts["refused"]) > flips
