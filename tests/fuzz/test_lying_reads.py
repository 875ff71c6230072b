"""A file server that lies about a file while it is read: an error, or the file's own bytes.

Of a file that is told about wrongly nothing but its own bytes in their places is ever read, what
stands beside it is as it was, each refusal is counted, and when the lies end all is well again.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.democell import names
from afsfuse.errors import AfsError
from afsfuse.fuse.convert import entry_attributes
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from afsfuse.refusals import Refused, counted
from tests.unit.afsfuse.vfs.naming import ADDRESS, NamingDesk, naming_desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxrpc.rpc import Rpc

CHUNK = 256 << 10
BODY = bytes(itertools.islice(itertools.cycle(range(251)), 3 * CHUNK + 1000))
SMALL = b"a small one that is read in one call"
BESIDE = b"it stands beside them"
OFTEN = 10_000
BOUND = 400.0  # virtual seconds for one read
STATUS_RPCS: tuple[Rpc[Any, Any], ...] = (fs.FETCH_STATUS, fs.FETCH_DATA64)


class Lie(NamedTuple):
    """What becomes of a status, given how often one was told; and of the length of the data."""

    status: Callable[[Any, int], dict[str, int]] = lambda status, turn: {}
    announce: Callable[[int], int] | None = None
    cut: int | None = None
    refused: bool = True
    """Whether nothing can be made of it."""


def turned(status: Any, turn: int) -> dict[str, int]:
    return {"file_type": 2 if status.file_type == 1 else 1}


LIES = {
    "less than it has": Lie(announce=lambda length: length // 2, cut=10),
    "nothing of it": Lie(announce=lambda length: 0, cut=0),
    "more than was asked for": Lie(announce=lambda length: length + 4096),
    "more than there is": Lie(announce=lambda length: 1 << 62),
    "a length below zero": Lie(announce=lambda length: -(1 << 62), cut=0),
    "less than was announced": Lie(cut=7),
    "a version with every answer, and less": Lie(
        lambda status, turn: {"data_version_low": 100 + turn}, lambda length: 1, 1
    ),
    "a version with every answer": Lie(
        lambda status, turn: {"data_version_low": 100 + turn}, refused=False
    ),
    "versions that go back": Lie(
        lambda status, turn: {"data_version_low": max(0, 100 - turn)}, refused=False
    ),
    "the highest version": Lie(
        lambda status, turn: {"data_version_low": 0xFFFFFFFF, "data_version_high": 0xFFFFFFFF},
        refused=False,
    ),
    "a size of 2^63": Lie(lambda status, turn: {"length_high": 0x80000000}),
    "a size of 2^62": Lie(lambda status, turn: {"length_high": 0x40000000}),
    "a size that grows": Lie(lambda status, turn: {"length_low": status.length_low + turn}),
    "a size that shrinks": Lie(
        lambda status, turn: {"length_low": max(0, status.length_low - turn)}, refused=False
    ),
    "no size": Lie(lambda status, turn: {"length_low": 0}, refused=False),
    "another kind": Lie(turned),
    "a kind that there is not": Lie(lambda status, turn: {"file_type": 0x7FFFFFFF}),
    "now this, now that kind": Lie(
        lambda status, turn: turned(status, turn) if turn % 2 else {}, refused=False
    ),
    "a status of another form": Lie(lambda status, turn: {"interface_version": 7}),
    "the latest time": Lie(lambda status, turn: {"client_mod_time": 0xFFFFFFFF}, refused=False),
    "no links": Lie(lambda status, turn: {"link_count": 0}, refused=False),
    "all links": Lie(lambda status, turn: {"link_count": 0xFFFFFFFF}, refused=False),
    "all modes": Lie(lambda status, turn: {"unix_mode_bits": 0xFFFFFFFF}, refused=False),
    "another parent": Lie(lambda status, turn: {"parent_vnode": 4444}, refused=False),
}


class Victim:
    """Files that somebody else has made, of which the server may lie."""

    def __init__(self, desk: NamingDesk) -> None:
        self.desk = desk
        self.turns = 0
        volume = desk.cell.volume("data")
        for name, data in ((b"long", BODY), (b"short", SMALL), (b"beside", BESIDE)):
            names.create(volume, volume.root, name, fs.FileType.FILE, data=data)

    async def told(self) -> None:
        """The client hears that the directory has changed."""
        volume = self.desk.cell.volume("data")
        await self.desk.cell.servers["fs1"].changed(volume, Fid(volume.id, 1, 1), by=None)
        await trio.sleep(1.0)

    def lie(self, lie: Lie) -> None:
        """From now on."""

        def changed(reply: Any) -> Any:
            if reply.status.file_type != fs.FileType.FILE:
                return reply  # of the directory in which they are
            self.turns += 1
            told = lie.status(reply.status, self.turns)
            return reply._replace(status=reply.status._replace(**told))

        for rpc in STATUS_RPCS:
            self.desk.cell.faults.spoil(
                rpc, changed, announce=lie.announce, cut=lie.cut, times=OFTEN
            )

    async def attempt(self, path: str, expected: bytes) -> bool:
        """Read it; whether that was refused. What is read are the file's own bytes."""
        with trio.fail_after(BOUND):
            try:
                data = await self.desk.walk.read(path, writable=True)
            except AfsError:
                return True
        assert expected.startswith(data) or data.rstrip(b"\0") == expected
        return False

    async def stat(self, path: str) -> None:
        """What the kernel is told fits into its fields, or it is told of an error."""
        with contextlib.suppress(AfsError):
            entry = await self.desk.walk.entry(path, writable=True)
            told = entry_attributes(await self.desk.vfs.getattr(entry.inode, ANONYMOUS))
            assert 0 <= told.st_size < 1 << 63


@pytest.mark.parametrize("name", ["long", "short"])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_lies_about_a_file_that_is_read(
    autojump_clock: trio.testing.MockClock, lie: Lie, name: str
) -> None:
    async with naming_desk() as desk:
        victim = Victim(desk)
        await victim.told()
        path, expected = f"one/{name}", BODY if name == "long" else SMALL
        before = counted()[Refused.REPLY]
        victim.lie(lie)
        await victim.stat(path)
        refused = await victim.attempt(path, expected)
        await victim.stat(path)
        if lie.refused:
            assert refused
            assert counted()[Refused.REPLY] > before
        desk.cell.faults.clear()
        assert await desk.walk.read("one/beside", writable=True) == BESIDE
        await victim.told()
        desk.cache.break_callback((ADDRESS, 7000), [await desk.fid(path)])
        assert await desk.walk.read(path, writable=True) == expected


async def test_a_file_that_is_removed_while_it_is_open_and_has_no_links(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It has one fewer than the server says, which says none."""
    async with naming_desk() as desk:
        victim = Victim(desk)
        await victim.told()
        inode = await desk.inode("one/short")
        handle = await desk.open("one/short")
        await desk.walk.unlink("one/short")
        victim.lie(LIES["no links"])
        vnode = desk.vfs._nodes.get(inode).vnode
        assert vnode is not None
        told = set()
        for _ in range(100):  # a bulk status, in which is no lie, may come in between
            desk.cache.break_callback((ADDRESS, 7000), [vnode.fid])
            assert entry_attributes(await desk.vfs.getattr(inode, ANONYMOUS)).st_nlink == 0
            told.add((vnode.status.links, vnode.unlinked))
            await trio.sleep(1.0)
        assert (0, 1) in told
        assert bytes(await desk.vfs.read(handle, 0, 100)) == SMALL
        desk.cell.faults.clear()
        desk.vfs.release(handle)


@pytest.mark.parametrize("turn", ["reversed", "rotated", "all the first", "shorter", "longer"])
async def test_statuses_of_others_in_a_bulk_status(
    autojump_clock: trio.testing.MockClock, turn: str
) -> None:
    """A status does not say whose it is, so one of the same kind is believed; never one of another
    kind, and never more or fewer than were asked for. No byte of one file is read as another's.
    """

    def mixed(reply: Any) -> Any:
        statuses = list(reply.statuses)
        match turn:
            case "reversed":
                statuses.reverse()
            case "rotated":
                statuses = statuses[1:] + statuses[:1]
            case "all the first":
                statuses = statuses[:1] * len(statuses)
            case "shorter":
                statuses.pop()
            case _:
                statuses.append(statuses[0])
        return reply._replace(statuses=tuple(statuses))

    async with naming_desk() as desk:
        volume = desk.cell.volume("data")
        victim = Victim(desk)
        names.create(volume, volume.root, b"folder", fs.FileType.DIRECTORY)
        desk.cell.faults.change(fs.INLINE_BULK_STATUS, mixed, times=OFTEN)
        await victim.told()
        contents = {"long": BODY, "short": SMALL, "beside": BESIDE}
        for name, expected in contents.items():
            try:
                data = await desk.walk.read(f"one/{name}", writable=True)
            except AfsError:
                continue
            assert expected.startswith(data), "its own bytes, if less of them"
        desk.cell.faults.clear()
        for name, expected in contents.items():
            desk.cache.break_callback((ADDRESS, 7000), [await desk.fid(f"one/{name}")])
            assert await desk.walk.read(f"one/{name}", writable=True) == expected
        assert await desk.names("one/folder") == set()
