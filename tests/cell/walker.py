"""This project's client without FUSE: paths walked over the vfs, as the kernel would."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from afsfuse.auth.identity import ANONYMOUS
from afsfuse.errors import AfsError
from afsfuse.model import Inode

if TYPE_CHECKING:
    from afsfuse.cache import CacheManager
    from afsfuse.vfs import FileSystem
    from afsfuse.vfs.entry import Entry

ROOT_INODE = Inode(1)
_ROOM = 1 << 16


class Walker:
    """Paths are relative to the cell's root: read-only, or with `writable` the read-write one."""

    def __init__(self, filesystem: FileSystem, cell: str, cache: CacheManager) -> None:
        self.vfs = filesystem
        self.cache = cache
        self._cell = cell
        self.locking = filesystem.locking

    async def entry(self, path: str, *, writable: bool = False) -> Entry:
        """The node at the end of a path. Raises `FileNotFoundError` where a name is not."""
        top = f".{self._cell}" if writable else self._cell
        inode = ROOT_INODE
        found: Entry | None = None
        for name in (top, *filter(None, path.split("/"))):
            found = await self.vfs.lookup(inode, os.fsencode(name), ANONYMOUS)
            if not found.inode:
                raise FileNotFoundError(path)
            inode = found.inode
        assert found is not None
        return found

    async def read(self, path: str, *, writable: bool = False) -> bytes:
        """What is in a file."""
        entry = await self.entry(path, writable=writable)
        opened = await self.vfs.open(entry.inode, os.O_RDONLY, ANONYMOUS)
        try:
            parts = []
            offset = 0
            while part := bytes(await self.vfs.read(opened.handle, offset, 1 << 20)):
                parts.append(part)
                offset += len(part)
            return b"".join(parts)
        finally:
            self.vfs.release(opened.handle)

    async def open(self, path: str, *, writable: bool = False, flags: int = os.O_RDONLY) -> int:
        """The handle of a file, which stays open."""
        entry = await self.entry(path, writable=writable)
        return (await self.vfs.open(entry.inode, flags, ANONYMOUS)).handle

    async def list(self, path: str, *, writable: bool = False) -> set[str]:
        """The names in a directory."""
        entry = await self.entry(path, writable=writable)
        handle = await self.vfs.opendir(entry.inode, ANONYMOUS)
        try:
            names: set[str] = set()
            offset = 0
            while listings := await self.vfs.readdir(handle, offset, _ROOM):
                names |= {os.fsdecode(listing.name) for listing in listings}
                offset = listings[-1].next_offset
            return names - {".", ".."}
        finally:
            self.vfs.releasedir(handle)

    async def readlink(self, path: str) -> bytes:
        """Where a symbolic link points to."""
        return await self.vfs.readlink((await self.entry(path)).inode, ANONYMOUS)

    async def attribute(self, path: str, name: bytes, *, writable: bool = False) -> bytes:
        """An extended attribute."""
        entry = await self.entry(path, writable=writable)
        return await self.vfs.getxattr(entry.inode, name, ANONYMOUS)

    async def volume_of(self, path: str, *, writable: bool = False) -> int:
        """The number of the volume in which a path ends."""
        fid = await self.attribute(path, b"afs.fid", writable=writable)
        return int(fid.split(b":")[0], 16)

    async def error(self, path: str) -> int:
        """The errno of listing a directory, or of reading a file, that cannot be."""
        try:
            entry = await self.entry(path)
            if stat.S_ISDIR(entry.mode):
                await self.list(path)
            else:
                await self.read(path)
        except AfsError as exc:
            return exc.errno
        raise AssertionError(f"{path}: no error")
