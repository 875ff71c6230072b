"""Locks for a file system in memory: the real ones, without any server."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afsfuse.auth.identity import NOBODY
from afsfuse.cache.locks import LockMode, Locks
from afsfuse.interfaces.common import Fid
from afsfuse.model import VolumeType
from afsfuse.vfs.locking import Locking
from tests.unit.afsfuse.vfs.worldfiles import FakeCell, FakeVolume

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.vfs.files import FileHandle, HandleTable
    from tests.mount.toyfs import Node

VOLUME = cast("Volume", FakeVolume(FakeCell("toy"), 1, "toy", VolumeType.RW, ()))


class _Mount:
    volume = VOLUME


class _Place:
    """What a `VnodeNode` is to locks."""

    mount = _Mount

    def __init__(self, inode: int) -> None:
        self.fid = Fid(1, inode, 1)


class _Opened:
    """What a `FileHandle` is to locks."""

    who = NOBODY

    def __init__(self, node: Node) -> None:
        self.node = _Place(node.inode)


class _Handles:
    """The toy's handles as a `HandleTable`."""

    def __init__(self, handles: dict[int, Node]) -> None:
        self._handles = handles

    def find(self, handle: int) -> _Opened | None:
        node = self._handles.get(handle)
        return None if node is None else _Opened(node)

    def get(self, handle: int) -> _Opened:
        return _Opened(self._handles[handle])


async def _look(volume: Volume, fid: Fid, anew: bool) -> bool:
    raise AssertionError("no server is ever asked")


async def _watch(volume: Volume, fid: Fid, who: Identity) -> object:
    raise AssertionError("no server is ever asked")


async def _store(volume: Volume, fid: Fid) -> None:
    raise AssertionError("no server is ever asked")


class ToyLocking(Locking):
    """Local locks on the files of a toy."""

    def __init__(self, handles: dict[int, Node]) -> None:
        client = cast("FileServerClient", None)
        locks = Locks(client, LockMode.LOCAL, look=_look, watch=_watch, store=_store)
        super().__init__(locks, cast("HandleTable[FileHandle]", _Handles(handles)))
