"""This project's client without FUSE: paths walked over the vfs, as the kernel would."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError
from afsfuse.model import Inode

if TYPE_CHECKING:
    from afsfuse.auth.identity import Caller
    from afsfuse.cache import CacheManager
    from afsfuse.vfs import FileSystem
    from afsfuse.vfs.entry import Entry

ROOT_INODE = Inode(1)
_ROOM = 1 << 16


class Walker:
    """Paths are relative to the cell's root: read-only, or with `writable` the read-write one."""

    def __init__(self, filesystem: FileSystem, cell: str, cache: CacheManager, who: Caller) -> None:
        self.vfs = filesystem
        self.cache = cache
        self.cell = cell
        self._who = who
        self.locking = filesystem.locking

    async def entry(self, path: str, *, writable: bool = False, who: Caller | None = None) -> Entry:
        """The node at the end of a path. Raises `FileNotFoundError` where a name is not."""
        top = f".{self.cell}" if writable else self.cell
        inode = ROOT_INODE
        found: Entry | None = None
        for name in (top, *filter(None, path.split("/"))):
            found = await self.vfs.lookup(inode, os.fsencode(name), who or self._who)
            if not found.inode:
                raise FileNotFoundError(path)
            inode = found.inode
        assert found is not None
        return found

    async def read(self, path: str, *, writable: bool = False) -> bytes:
        """What is in a file."""
        entry = await self.entry(path, writable=writable)
        opened = await self.vfs.open(entry.inode, os.O_RDONLY, self._who)
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
        return (await self.vfs.open(entry.inode, flags, self._who)).handle

    async def list(self, path: str, *, writable: bool = False) -> set[str]:
        """The names in a directory."""
        entry = await self.entry(path, writable=writable)
        handle = await self.vfs.opendir(entry.inode, self._who)
        try:
            names: set[str] = set()
            offset = 0
            while listings := await self.vfs.readdir(handle, offset, _ROOM):
                names |= {os.fsdecode(listing.name) for listing in listings}
                offset = listings[-1].next_offset
            return names - {".", ".."}
        finally:
            self.vfs.releasedir(handle)

    async def readlink(self, path: str, *, writable: bool = False) -> bytes:
        """Where a symbolic link points to."""
        entry = await self.entry(path, writable=writable)
        return await self.vfs.readlink(entry.inode, self._who)

    # Changes, all in the read-write tree

    async def parent(self, path: str) -> tuple[Inode, bytes]:
        """The directory of a path, and the last name."""
        above, _, name = path.rpartition("/")
        return (await self.entry(above, writable=True)).inode, os.fsencode(name)

    async def create(self, path: str, flags: int = os.O_EXCL, mode: int = 0o644) -> Entry:
        """A new file, closed again at once."""
        parent, name = await self.parent(path)
        opened, entry = await self.vfs.create(parent, name, mode, flags, self._who)
        self.vfs.release(opened.handle)
        return entry

    async def mkdir(self, path: str, mode: int = 0o755) -> Entry:
        return await self.vfs.mkdir(*await self.parent(path), mode, self._who)

    async def symlink(self, path: str, body: bytes) -> Entry:
        return await self.vfs.symlink(*await self.parent(path), body, self._who)

    async def link(self, existing: str, path: str) -> Entry:
        inode = (await self.entry(existing, writable=True)).inode
        return await self.vfs.link(inode, *await self.parent(path), self._who)

    async def unlink(self, path: str) -> None:
        await self.vfs.unlink(*await self.parent(path), self._who)

    async def rmdir(self, path: str) -> None:
        await self.vfs.rmdir(*await self.parent(path), self._who)

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        old_parent, old_name = await self.parent(old)
        new_parent, new_name = await self.parent(new)
        await self.vfs.rename(old_parent, old_name, new_parent, new_name, flags, self._who)

    async def attribute(
        self, path: str, name: bytes, *, writable: bool = False, who: Caller | None = None
    ) -> bytes:
        """An extended attribute."""
        entry = await self.entry(path, writable=writable, who=who)
        return await self.vfs.getxattr(entry.inode, name, who or self._who)

    async def set_acl(self, path: str, text: bytes, who: Caller | None = None) -> None:
        """Give a directory of the read-write tree an access list, by its extended attribute."""
        entry = await self.entry(path, writable=True, who=who)
        await self.vfs.setxattr(entry.inode, b"afs.acl", text, who or self._who)

    async def access(self, path: str, mask: int, who: Caller | None = None) -> bool:
        """What access(2) says of something in the read-write tree."""
        entry = await self.entry(path, writable=True, who=who)
        return await self.vfs.access(entry.inode, mask, who or self._who)

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
