"""File servers that lie in their replies: an error or nonsense for that file, and for no other.

Every field of every reply that the client asks for is given wrong values in turn, while somebody
works in a directory of that server; what stands beside it must stay as it was.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.interfaces import fileserver as fs
from afsfuse.model import FileKind
from afsfuse.vfs.entry import Attributes
from tests.unit.afsfuse.vfs.naming import ADDRESS, NamingDesk, naming_desk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from rxrpc.rpc import Rpc
    from tests.conftest import ExpectedWarnings

WORDS = (0, 1, 2, 3, 7, 9, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TEXTS = (b"", b"\0", b"1\n0\n", b"9" * 300, b"-1\n0\n", b"1\n0\nsystem:anyuser\t99999999999\n")
BOUND = 400.0  # virtual seconds for one operation
RPCS: tuple[Rpc[Any, Any], ...] = (
    fs.FETCH_STATUS, fs.INLINE_BULK_STATUS, fs.FETCH_DATA64, fs.FETCH_ACL, fs.GET_VOLUME_STATUS,
    fs.CREATE_FILE, fs.MAKE_DIR, fs.SYMLINK, fs.LINK, fs.REMOVE_FILE, fs.REMOVE_DIR, fs.RENAME,
    fs.STORE_STATUS, fs.STORE_DATA64, fs.STORE_ACL, fs.SET_LOCK, fs.EXTEND_LOCK, fs.RELEASE_LOCK,
)  # fmt: skip


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in a reply something stands that can be wrong."""
    if hasattr(value, "_fields"):
        for name in value._fields:
            yield from places(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from places(each, (*path, number))
        yield path
    else:
        yield path


def changed(value: Any, path: tuple[str | int, ...], rng: random.Random) -> Any:
    """The reply with a lie in one place."""
    if not path:
        if isinstance(value, bytes):
            return rng.choice(TEXTS)
        if isinstance(value, tuple):
            return rng.choice([value[:-1], (*value, *value)[:50], ()])
        if value < 0:
            return -1
        return rng.choice([*WORDS, value + 1, max(0, value - 1)]) & 0xFFFFFFFF
    head, rest = path[0], path[1:]
    if isinstance(head, str):
        return value._replace(**{head: changed(getattr(value, head), rest, rng)})
    return (*value[:head], changed(value[head], rest, rng), *value[head + 1 :])


class Liar:
    """Somebody works in a directory whose server lies about it."""

    def __init__(self, desk: NamingDesk, rng: random.Random) -> None:
        self.desk = desk
        self.rng = rng
        self.refused = self.believed = 0
        self.numbers = iter(range(1, 1 << 30))

    async def round(self) -> None:
        desk = self.desk
        folder = f"one/lies{next(self.numbers)}"
        await desk.walk.mkdir(folder)
        await desk.walk.create(f"{folder}/file")
        await desk.walk.mkdir(f"{folder}/sub")
        lies = [self.rng.choice(RPCS) for _ in range(3)]
        for rpc in {rpc.name: rpc for rpc in lies}.values():
            desk.cell.faults.change(rpc, self.lie, times=self.rng.choice([1, 2, 100]))
        steps = self.steps(folder)
        self.rng.shuffle(steps)
        for step in steps:
            with trio.fail_after(BOUND):
                try:
                    await step()
                    self.believed += 1
                except (AfsError, FileNotFoundError):
                    self.refused += 1
        desk.cell.faults.clear()

    def lie(self, reply: Any) -> Any:
        for _ in range(self.rng.choice([1, 1, 2])):
            reply = changed(reply, self.rng.choice(list(places(reply))), self.rng)
        return reply

    def steps(self, folder: str) -> list[Callable[[], Awaitable[object]]]:
        walk = self.desk.walk
        return [
            lambda: walk.create(f"{folder}/new"),
            lambda: walk.mkdir(f"{folder}/dir"),
            lambda: walk.symlink(f"{folder}/link", b"file"),
            lambda: walk.link(f"{folder}/file", f"{folder}/again"),
            lambda: walk.rename(f"{folder}/file", f"{folder}/sub/moved"),
            lambda: walk.rename(f"{folder}/new", f"{folder}/newer"),
            lambda: walk.unlink(f"{folder}/file"),
            lambda: walk.rmdir(f"{folder}/sub"),
            lambda: walk.list(folder, writable=True),
            lambda: walk.read(f"{folder}/file", writable=True),
            lambda: walk.attribute(folder, b"afs.acl", writable=True),
            lambda: walk.set_acl(folder, b"1\n0\nsystem:anyuser\t127\n"),
            lambda: self.write(f"{folder}/file"),
            lambda: self.write(f"{folder}/file", truncate=True),
            lambda: self.chmod(f"{folder}/file"),
            lambda: self.others_change(f"{folder}/file"),
            lambda: self.space(folder),
        ]

    async def write(self, path: str, *, truncate: bool = False) -> None:
        flags = os.O_RDWR | (os.O_TRUNC if truncate else 0)
        handle = await self.desk.walk.open(path, writable=True, flags=flags)
        try:
            await self.desk.vfs.write(handle, self.rng.choice([0, 5, 70_000]), b"truth" * 9)
            await self.desk.vfs.flush(handle, owner=0)
        finally:
            self.desk.vfs.release(handle)

    async def chmod(self, path: str) -> None:
        inode = await self.desk.inode(path)
        await self.desk.vfs.setattr(inode, Attributes(mode=0o600), None, ANONYMOUS)

    async def space(self, path: str) -> None:
        await self.desk.vfs.statfs(await self.desk.inode(path), ANONYMOUS)

    async def others_change(self, path: str) -> None:
        """A callback comes, and everything is asked for anew."""
        self.desk.cache.break_callback((ADDRESS, 7000), [await self.desk.fid(path)])
        await self.desk.walk.read(path, writable=True)


@pytest.mark.parametrize(
    ("seed", "rounds"),
    [
        *((seed, 25) for seed in range(4)),
        *(pytest.param(seed, 300, marks=pytest.mark.soak) for seed in range(100, 104)),
    ],
)
async def test_lies_are_errors_of_that_file_only(
    autojump_clock: trio.testing.MockClock,
    expected_warnings: ExpectedWarnings,
    seed: int,
    rounds: int,
) -> None:
    print("seed", seed)
    expected_warnings(r"cannot be stored, and are kept|another client has changed|lock")
    async with naming_desk() as desk:
        await desk.walk.mkdir("one/beside")
        await desk.walk.create("one/beside/file")
        liar = Liar(desk, random.Random(seed))
        path = "one/beside/file"
        await liar.write(path)
        content = await desk.walk.read(path, writable=True)
        before = await desk.vnode(path)
        status = before.status
        for _ in range(rounds):
            await liar.round()
            assert await desk.walk.read(path, writable=True) == content
            after = await desk.vnode(path)
            assert (after.fid, after.status) == (before.fid, status)
            assert await desk.walk.list("one/beside", writable=True) == {"file"}
        print(f"{liar.refused} refused, {liar.believed} done")
        assert liar.refused > rounds
        await desk.walk.mkdir("one/after")
        assert await desk.names("one/after") == set()
        assert desk.on_server() >= {"beside", "after"}


@pytest.mark.parametrize("kind", [2, 3])
async def test_a_store_cannot_make_another_thing_of_a_file(
    autojump_clock: trio.testing.MockClock, expected_warnings: ExpectedWarnings, kind: int
) -> None:
    def of_kind(reply: Any) -> Any:
        return reply._replace(status=reply.status._replace(file_type=kind))

    expected_warnings("cannot be stored, and are kept")
    async with naming_desk() as desk:
        liar = Liar(desk, random.Random(1))
        await desk.walk.create("one/file")
        desk.cell.faults.change(fs.STORE_DATA64, of_kind)
        with pytest.raises(AfsError, match="another kind of file"):
            await liar.write("one/file")
        await trio.sleep(200)  # it is tried again
        vnode = await desk.vnode("one/file")
        assert vnode.dirty is None
        assert vnode.status.kind is FileKind.FILE
