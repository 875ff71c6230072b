"""What access(2) says, against what servers do; and access lists set by this client."""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING

import pytest

from afsfuse.acl import AccessList
from afsfuse.auth.identity import ANONYMOUS, Caller
from afsfuse.errors import AfsError, NotPermitted
from afsfuse.interfaces import fileserver as fs
from rxrpc import CallAborted
from tests.cell.raw import RawClient, code_name, mode
from tests.cell.site import UserTokens, raw_client, walker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from afsfuse.interfaces.common import Fid
    from tests.cell.site import Site
    from tests.cell.walker import Walker

pytestmark = pytest.mark.parametrize("caller", ["anonymous"], indirect=True)
"""Each of these has callers of its own, beside nobody."""

ADMIN, ALICE, BOB = (Caller(uid, uid, uid + 1) for uid in (1, 1001, 1002))
NAMES = {ADMIN: "admin", ALICE: "alice", BOB: "bob", ANONYMOUS: "anonymous"}
MODES = (0o644, 0o444, 0o200)
PATH = "scratch/rights"
OPEN = b"1\n0\nsystem:anyuser rlidwka\n"


@pytest.fixture
async def alice(site: Site) -> AsyncIterator[RawClient]:
    async with raw_client(site, security=site.security("alice")) as made:
        yield made


@pytest.fixture
async def admin(site: Site) -> AsyncIterator[RawClient]:
    async with raw_client(site, security=site.security("admin")) as made:
        yield made


@pytest.fixture
async def walk(site: Site) -> AsyncIterator[Walker]:
    users = {who.uid: name for who, name in NAMES.items() if who is not ANONYMOUS}
    async with walker(site, UserTokens(site, users)) as made:
        yield made


@pytest.fixture
async def directory(
    client: RawClient, alice: RawClient, admin: RawClient, root: Fid, walk: Walker
) -> AsyncIterator[Fid]:
    """A directory whose list can be changed by an administrator; it goes with all that is in it,
    while all who have promises still answer.
    """
    made = await client.make_dir(root, b"rights")
    yield made
    await walk.set_acl(PATH, OPEN, ADMIN)
    for name in await walk.list(PATH, writable=True):
        await client.remove(made, name.encode())
    await client.remove_dir(root, b"rights")


class Judge:
    """What a server lets somebody do."""

    def __init__(self, client: RawClient, known: Fid) -> None:
        """`known` is something that he may ask for."""
        self.client = client
        self._known = known

    async def allows(self, action: Awaitable[object]) -> bool:
        """Whether a server does something, or refuses it for want of rights."""
        try:
            await action
        except CallAborted as exc:
            if code_name(exc) != "UAEACCES":
                raise
            # OpenAFS keeps back for 3 s what it refuses when it has refused ten calls in a row.
            await self.client.status(self._known)
            return False
        return True


async def may_change_names(judge: Judge, keeper: RawClient, directory: Fid) -> bool:
    """Whether somebody can make a name or take one away."""
    made = await judge.allows(judge.client.create(directory, b"made"))
    if not made:
        await keeper.create(directory, b"made")
    removed = await judge.allows(judge.client.remove(directory, b"made"))
    if not removed:
        await keeper.remove(directory, b"made")
    return made or removed


async def plant(directory: Fid, owners: dict[str, RawClient]) -> dict[str, Fid]:
    """A file of each owner with each mode."""
    files = {}
    for owner, client in owners.items():
        for bits in MODES:
            name = f"{owner}-{bits:o}"
            file = files[name] = await client.create(directory, name.encode(), b"data")
            await client.call(fs.STORE_STATUS, fs.StoreStatusArgs(file, mode(bits)))
    return files


async def test_access_says_what_servers_do(
    walk: Walker,
    client: RawClient,
    alice: RawClient,
    admin: RawClient,
    directory: Fid,
    root: Fid,
) -> None:
    """Each set of rights, each mode, whoever owns the file and whoever asks.

    But for what docs/users.md says: the mode bits of a file bind its owner, too, and without the
    right to read nothing can be done to files, since servers do not even tell what they are.
    """
    owners = {"anonymous": client, "alice": alice, "admin": admin}
    files = await plant(directory, owners)
    judges = {ANONYMOUS: Judge(client, root), ALICE: Judge(alice, root)}
    wrong = []
    letters_of = ("".join(chosen) for n in range(5) for chosen in itertools.combinations("ridw", n))
    for rights in letters_of:
        text = b"2\n0\nsystem:administrators rlidwka\nsystem:anyuser l%s\n" % rights.encode()
        await walk.set_acl(PATH, text, ADMIN)
        for who, judge in judges.items():
            for name, file in files.items():
                bits = int(name.partition("-")[2], 8) if "r" in rights else 0
                reads = await judge.allows(judge.client.fetch(file)) and bool(bits & 0o400)
                storing = judge.client.store(file, b"", length=len(b"data"))
                writes = await judge.allows(storing) and bool(bits & 0o200)
                truth = {os.R_OK: reads, os.W_OK: writes, os.R_OK | os.W_OK: reads and writes}
                for mask, allowed in truth.items():
                    said = await says(walk, f"{PATH}/{name}", mask, who)
                    if said is not allowed:
                        wrong.append((rights, NAMES[who], name, mask, said, allowed))
            allowed = await may_change_names(judge, admin, directory)
            if await walk.access(PATH, os.W_OK, who) is not allowed:
                wrong.append((rights, NAMES[who], "directory", os.W_OK, not allowed, allowed))
    assert not wrong, "\n".join(map(str, wrong))


async def says(walk: Walker, path: str, mask: int, who: Caller) -> bool:
    """What a program is told that asks access(2); servers do not even show some files."""
    try:
        return await walk.access(path, mask, who)
    except NotPermitted:
        return False


async def test_a_list_is_read_and_set(walk: Walker, client: RawClient, directory: Fid) -> None:
    """What is read can be set again, with rights of one's own; negative entries stay negative."""
    text = b"3\n2\nalice rlidwkaAH\nsystem:administrators all\nsystem:anyuser read\nbob d\nalice B"
    await walk.set_acl(PATH, text, ADMIN)
    told = await walk.attribute(PATH, b"afs.acl", writable=True, who=ADMIN)
    acl = AccessList.from_server(told)
    assert dict(acl.positive) == {
        b"alice": 127 | 1 << 24 | 1 << 31, b"system:administrators": 127, b"system:anyuser": 9,
    }  # fmt: skip
    assert dict(acl.negative) == {b"bob": 16, b"alice": 1 << 25}
    assert acl.text() == told
    await walk.set_acl(PATH, told, ADMIN)
    assert await walk.attribute(PATH, b"afs.acl", writable=True, who=ADMIN) == told
    assert (await client.call(fs.FETCH_ACL, fs.FidArgs(directory))).access_list == told + b"\0"


async def test_what_one_user_takes_away_another_one_has_no_more(
    walk: Walker, directory: Fid, client: RawClient
) -> None:
    """At once: the server tells everybody of the change but the host that made it."""
    await client.create(directory, b"file", b"data")
    await walk.set_acl(PATH, b"3\n0\nalice all\nbob read\nsystem:anyuser rliw\n", ADMIN)
    for who in (ALICE, BOB, ANONYMOUS):
        assert await walk.access(f"{PATH}/file", os.R_OK, who)
        assert await walk.access(f"{PATH}/file", os.W_OK, who)
    await walk.set_acl(PATH, b"2\n0\nalice all\nbob read\n", ALICE)
    assert await walk.access(f"{PATH}/file", os.R_OK, BOB)
    assert not await walk.access(f"{PATH}/file", os.W_OK, BOB)
    assert not await says(walk, f"{PATH}/file", os.F_OK, ANONYMOUS)
    await walk.set_acl(PATH, b"2\n1\nalice all\nbob all\nbob read\n", ALICE)
    assert not await says(walk, f"{PATH}/file", os.F_OK, BOB)
    with pytest.raises(NotPermitted):
        await walk.set_acl(PATH, OPEN, ANONYMOUS)


async def test_lists_that_servers_do_not_take(
    walk: Walker, directory: Fid, client: RawClient
) -> None:
    await client.create(directory, b"file")
    before = await walk.attribute(PATH, b"afs.acl", writable=True)
    for path, text, code in (
        (PATH, b"1\n0\nnobody-has-this-name rl\n", errno.EINVAL),
        (PATH, b"25\n0\n" + b"".join(b"%d rl\n" % n for n in range(25)), errno.EINVAL),
        (f"{PATH}/file", OPEN, errno.ENOTDIR),
        ("links/mount-replicated-readonly", OPEN, errno.EROFS),
    ):  # fmt: skip
        with pytest.raises(AfsError) as caught:
            await walk.set_acl(path, text, ADMIN)
        assert caught.value.errno == code, path
    assert await walk.attribute(PATH, b"afs.acl", writable=True) == before
