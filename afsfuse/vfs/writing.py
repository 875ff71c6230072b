"""Changing files: who may, what becomes of a write, and what `close` says of it.

A write is kept by the cache and answered at once, as long as there is room. The kernel asks for a
flush at each close, and that returns when the server has everything, or with what went wrong.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.writeback import Writer
from afsfuse.errors import AfsError, NotPermitted, ReadOnlyVolume, StaleInode
from afsfuse.fileserver.changes import StatusChange
from afsfuse.model import FileKind, Rights, VolumeType
from afsfuse.vfs import access
from afsfuse.vfs.inodes import holders

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Vnode
    from afsfuse.vfs.entry import Attributes
    from afsfuse.vfs.files import FileHandle
    from afsfuse.vfs.inodes import Node
    from afsfuse.vfs.invalidation import KernelNotifier

log = logging.getLogger(__name__)

WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
"""The flags of open(2) of those who change a file."""

_WRITE = int(Rights.WRITE)
_PERMISSIONS = 0o7777


def _length(vnode: Vnode) -> int:
    """How long a file is for its writers here."""
    return vnode.status.length if vnode.dirty is None else vnode.dirty.length


def _end_is_known(vnode: Vnode) -> bool:
    """Whether no other client has made a file longer, or would have been heard of."""
    return vnode.dirty is not None or vnode.valid(trio.current_time())


def check_writable(node: Node, vnode: Vnode) -> None:
    """Refuse what nobody may write, whatever his rights.

    Of the mode bits the owner's count for everybody, as for all AFS clients.
    Source: afs_permission in fs/afs/security.c of Linux, afs_AccessOK in OpenAFS.
    """
    volume = vnode.volume
    if volume.type is not VolumeType.RW:
        raise ReadOnlyVolume(
            f"{node.path()}: the volume is read-only", cell=volume.cell.name, volume=volume.name
        )
    if not vnode.status.mode & stat.S_IWUSR:
        raise NotPermitted(f"{node.path()}: its mode does not let anybody write it")


class FileWriting:
    """Writes, truncates, and sets attributes, through handles and without."""

    def __init__(self, cache: CacheManager, notifier: KernelNotifier) -> None:
        self._cache = cache
        self._writes = cache.writes
        self._notifier = notifier

    # Rights

    def may_at_once(self, vnode: Vnode, who: Identity) -> bool:
        """Whether an identity is known to have the right to write; asks nobody."""
        rights = self._cache.doors.known_rights(vnode, who)
        return rights is not None and bool(rights & _WRITE)

    async def require(self, node: Node, vnode: Vnode, who: Identity) -> None:
        """`NotPermitted` unless an identity may write; asks the server if need be."""
        doors = self._cache.doors
        rights = await doors.rights(vnode, who)
        if rights & _WRITE:
            return
        if not (access.owner_may(vnode.status, os.W_OK, rights) and await doors.owns(vnode, who)):
            raise access.refusal(node, doors.refusal(vnode.volume, who))

    @staticmethod
    def check_end(node: Node, vnode: Vnode) -> None:
        """See that the kernel knows where a file ends that is opened to append to it.

        It does not ask before it appends: what another client has appended would be overwritten.
        ESTALE has it look the name up once more, and with that ask for the attributes, before it
        opens the file again; nobody sees that error (do_filp_open in fs/namei.c of Linux). It is
        given once, for there may be no name to look up.
        """
        length = _length(vnode)
        if node.shown_size not in (-1, length):
            node.shown_size = length
            raise StaleInode(f"{node.path()}: the kernel does not know yet where it ends")

    # Data

    def write_at_once(self, opened: FileHandle, offset: int, data: bytes) -> int | None:
        """Keep what is written, if there is room; else None. EBADF if it is not open for that."""
        vnode = opened.node.vnode
        if vnode is None or (opened.appends and not _end_is_known(vnode)):
            return None
        return self._keep(opened, vnode, offset, data)

    async def write(self, opened: FileHandle, offset: int, data: bytes) -> int:
        """The same, waiting for room, and to know where a file ends that is appended to. Raises why
        the file cannot be stored.
        """
        node = opened.node
        if opened.appends and node.vnode is not None and not _end_is_known(node.vnode):
            try:
                await self._cache.status(node.mount.volume, node.fid, opened.who)
            except AfsError as exc:  # it is kept where the file ended last, and stored some time
                log.debug("%s: nobody says where it ends: %s", node.path(), exc)
        while True:
            vnode = await self._vnode(opened)
            await self._writes.make_room(vnode, len(data), opened.who)
            done = self._keep(opened, vnode, offset, data)
            if done is not None:
                return done

    def _keep(self, opened: FileHandle, vnode: Vnode, offset: int, data: bytes) -> int | None:
        """Keep what is written, if there is room.

        What the kernel appends comes with the offset at which the file ended when it last asked.
        It does not ask before it appends, and another client may have appended since: then it is
        told to forget what it has put into its pages. And what it is answered it takes for old if
        its attributes were invalidated since it asked (fuse_change_attributes in fs/fuse/inode.c
        of Linux); then the file still ends for it where it wrote last.

        A write elsewhere is one of a handle that was opened to append and does not any more
        (F_SETFL): the kernel does not tell us of that.
        """
        writer = self._writer(opened)
        if not self._writes.has_room(vnode, len(data), writer.who):
            return None
        node = opened.node
        appended = opened.appends and offset in (node.shown_size, node.made_size)
        end = _length(vnode) if appended else offset
        self._writes.write(vnode, end, data, writer, node.path)
        kernels = offset + len(data)
        node.made_size = kernels if appended else max(node.shown_size, node.made_size, kernels)
        node.shown_size = max(node.shown_size, kernels)
        if end != offset:
            self._notifier.invalidate_data(node.inode)
        if isinstance(vnode.holder, tuple):
            self._tell_others(node, vnode)
        return len(data)

    def truncate(self, node: Node, vnode: Vnode, length: int, writer: Writer) -> None:
        """Give a file another length; it is stored like what is written."""
        self._writes.truncate(vnode, length, writer, node.path)
        node.shown_size = node.made_size = length
        self._tell_others(node, vnode)

    def _tell_others(self, node: Node, vnode: Vnode) -> None:
        """The kernel knows what it asked for, but not that another node shows the same file."""
        for other in holders(vnode):
            if other is not node:
                self._notifier.invalidate_data(other.inode)

    @staticmethod
    def _writer(opened: FileHandle) -> Writer:
        if opened.writer is None:
            raise AfsError(f"{opened.node.path()}: not open for writing", errno=errno.EBADF)
        return opened.writer

    async def _vnode(self, opened: FileHandle) -> Vnode:
        node = opened.node
        return node.vnode or await self._cache.status(node.mount.volume, node.fid, opened.who)

    # The end

    def is_settled(self, opened: FileHandle) -> bool:
        """Whether a handle has nothing to be told when it is closed."""
        writer = opened.writer
        if writer is None:
            return True
        vnode = opened.node.vnode
        dirty = None if vnode is None else vnode.dirty
        # Of a mapping the kernel writes pages through whichever handle it likes.
        if writer.lost is not None or (dirty is not None and writer.who in dirty.keys):
            return False
        writer.wrote = False
        return True

    async def settle(self, opened: FileHandle, *, safe: bool) -> None:
        """Return when everything that was done in the name of a handle is on the server.

        With `safe` on its disk. Raises why it is not.
        """
        vnode = opened.node.vnode
        if vnode is not None:
            writer = opened.writer or Writer(opened.who)
            # Who reads only may have no right to ask a server for more.
            safe = safe and opened.writer is not None
            await self._writes.settle(vnode, writer, safe=safe)

    def close(self, opened: FileHandle, vnode: Vnode) -> None:
        """The handle is gone. What was written after the last flush is stored in the background:
        pages of a mapping come that late.
        """
        if opened.writer is not None and vnode.dirty is not None:
            self._writes.rush(vnode.dirty)

    # Attributes

    async def set_attributes(
        self, node: Node, vnode: Vnode, wanted: Attributes, opened: FileHandle | None, who: Identity
    ) -> None:
        """Set what is wanted at the server; a length is stored later if a handle is open.

        Servers judge who may. Times have whole seconds.
        """
        if wanted.size is not None:
            await self._set_size(node, vnode, wanted.size, opened, who)
        mtime = wanted.mtime
        if mtime is not None and self._writes.stamp(vnode, mtime, who):
            if opened is None:
                await self._writes.settle(vnode, Writer(who))
            mtime = None
        elif mtime is not None and vnode.dirty is not None:
            vnode.dirty.mtime = mtime  # so that the next store does not set the other one again
        mode = None if wanted.mode is None else wanted.mode & _PERMISSIONS
        change = StatusChange(mode, wanted.uid, wanted.gid, mtime)
        if change != StatusChange():
            await self._writes.set_status(vnode, change, who)
            for other in holders(vnode):
                if other is not node:
                    self._notifier.invalidate_attributes(other.inode)

    async def _set_size(
        self, node: Node, vnode: Vnode, size: int, opened: FileHandle | None, who: Identity
    ) -> None:
        kind = vnode.status.kind
        if kind is not FileKind.FILE:
            number = errno.EISDIR if kind is FileKind.DIRECTORY else errno.EINVAL
            raise AfsError(f"{node.path()}: not a file", errno=number)
        if opened is not None and opened.writer is not None:
            self.truncate(node, vnode, size, opened.writer)
            return
        check_writable(node, vnode)
        await self.require(node, vnode, who)
        writer = Writer(who)
        self.truncate(node, vnode, size, writer)
        await self._writes.settle(vnode, writer)
