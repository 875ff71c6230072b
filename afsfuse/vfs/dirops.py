"""Making, removing and moving names: what may be, what the kernel and other nodes must learn.

Whether somebody may do something the server judges. What is decided here is what a server cannot
know: that a name shows as a directory since it is a mount point, that a file is open here, that two
names are in different volumes.

A name is looked up in the cached directory before it is changed, so that we know which file is
meant; with a valid promise that costs nothing. It is not a lock: a server that knows better has the
last word, and then the directory is asked for anew.
"""

from __future__ import annotations

import errno
import logging
import stat
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.cache.manager import MAX_LINK
from afsfuse.errors import AfsError, NotFound, NotPermitted
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind
from afsfuse.vfs import access, names
from afsfuse.vfs.dynroot import MadeUp
from afsfuse.vfs.inodes import VnodeNode
from afsfuse.vfs.lookups import Place
from afsfuse.vfs.mountpoints import MountPoint, parse_mountpoint

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Directory, Vnode
    from afsfuse.vfs.entry import Entry
    from afsfuse.vfs.inodes import Node, NodeTable
    from afsfuse.vfs.invalidation import OwnChanges
    from afsfuse.vfs.lookups import Lookups
    from afsfuse.vfs.orphans import Kept, Orphans

log = logging.getLogger(__name__)

PERMISSIONS = 0o777
RENAME_NOREPLACE = 1  # Source: the kernel's include/uapi/linux/fs.h
_MOUNTPOINT_ENDS = (b"#", b"%"), b"."
# How a server refuses to move a directory below itself: FSERR_ELOOP, which is EMSGSIZE on Linux.
_SERVER_LOOP = errno.EMSGSIZE


class _Found(NamedTuple):
    """A name that is there, in a directory that is going to be changed."""

    place: Place
    name: bytes
    """The entry's own name, where `@sys` was asked for."""
    fid: Fid
    directory: Directory

    @property
    def is_directory(self) -> bool:
        """Whether the vnode is one; a mount point is not."""
        return bool(self.fid.vnode & 1)


def is_mountpoint_body(body: bytes) -> bool:
    """Whether a symbolic link with this body is to be a mount point.

    OpenAFS takes any body for one that begins with `#` or `%` and ends with a dot; here what
    stands between must name a volume, too. A mount point takes the right `a` in the directory
    beside `i`, which the server checks. Source: afs_symlink in afs_vnop_symlink.c.
    """
    starts, end = _MOUNTPOINT_ENDS
    if not body.startswith(starts) or not body.endswith(end):
        return False
    try:
        parse_mountpoint(body)
    except AfsError:
        return False
    return True


class DirectoryOperations:
    """What CREATE, MKDIR, MKNOD, SYMLINK, LINK, UNLINK, RMDIR and RENAME mean."""

    def __init__(
        self,
        cache: CacheManager,
        nodes: NodeTable,
        lookups: Lookups,
        own: OwnChanges,
        orphans: Orphans,
    ) -> None:
        self._cache = cache
        self._changer = cache.changer
        self._nodes = nodes
        self._lookups = lookups
        self._own = own
        self._orphans = orphans

    # What makes something: each gives the node, held once more by the kernel, and its entry.

    async def create(
        self, parent: Node, name: bytes, mode: int, who: Identity
    ) -> tuple[VnodeNode, Entry]:
        """A new empty file; EEXIST if the name is there."""
        place = await self._place(parent, name, who, new=True)
        volume = place.mount.volume
        vnode = await self._changer.create_file(volume, place.fid, name, mode & PERMISSIONS, who)
        node, entry = await self._made(place, name, vnode)
        assert isinstance(node, VnodeNode)
        return node, entry

    async def mkdir(self, parent: Node, name: bytes, mode: int, who: Identity) -> Entry:
        """A new directory; it inherits the access list of `parent`."""
        place = await self._place(parent, name, who, new=True)
        volume = place.mount.volume
        vnode = await self._changer.make_dir(volume, place.fid, name, mode & PERMISSIONS, who)
        return (await self._made(place, name, vnode))[1]

    async def symlink(self, parent: Node, name: bytes, body: bytes, who: Identity) -> Entry:
        """A symbolic link, or a mount point if the body is one's."""
        if len(body) > MAX_LINK:
            raise AfsError(f"{len(body)} bytes are too many for a link", errno=errno.ENAMETOOLONG)
        if is_mountpoint_body(body):
            return await self.mkmount(parent, name, body, who)
        place = await self._place(parent, name, who, new=True)
        vnode = await self._changer.symlink(place.mount.volume, place.fid, name, body, who)
        return (await self._made(place, name, vnode))[1]

    async def mkmount(self, parent: Node, name: bytes, body: bytes, who: Identity) -> Entry:
        """A mount point. `AfsError` with EINVAL if `body` is not that of one.

        Its entry is that of the symbolic link which the kernel asked for, and not to be kept: it
        refuses any other type as an answer. The next lookup shows the directory.
        """
        parse_mountpoint(body)
        place = await self._place(parent, name, who, new=True)
        vnode = await self._changer.symlink(
            place.mount.volume, place.fid, name, body, who, mountpoint=True
        )
        _, entry = await self._made(place, name, vnode)
        entry.mode = stat.S_IFLNK | stat.S_IMODE(entry.mode)
        entry.attr_timeout = entry.entry_timeout = 0.0
        return entry

    async def link(self, node: Node, parent: Node, name: bytes, who: Identity) -> Entry:
        """A further name for a file. Servers refuse one in another directory with EXDEV, and one
        for a symbolic link with EISDIR, for which POSIX has EPERM.
        """
        if isinstance(node, MadeUp | MountPoint):
            raise AfsError(f"{node.path()}: not a file", errno=errno.EPERM)
        place = await self._place(parent, name, who, new=True)
        assert isinstance(node, VnodeNode)
        if node.mount is not place.mount:
            raise _elsewhere(node)
        if (await self._lookups.vnode(node, who)).status.kind is not FileKind.FILE:
            raise AfsError(f"{node.path()}: not a file", errno=errno.EPERM)
        vnode = await self._changer.link(place.mount.volume, place.fid, name, node.fid, who)
        self._own.file_changed(vnode, node)
        return (await self._made(place, name, vnode))[1]

    # What takes something away

    async def unlink(self, parent: Node, name: bytes, who: Identity) -> None:
        """Remove a name of a file or symbolic link. A file that is open stays until it is not."""
        found = await self._find(parent, name, who)
        if found.is_directory or self._mountpoint(found):
            raise AfsError(f"{_path(parent, name)}: a directory", errno=errno.EISDIR)
        await self._remove(found, name, who)

    async def rmmount(self, parent: Node, name: bytes, who: Identity) -> None:
        """Remove a mount point; EINVAL for anything else.

        The kernel has no such request, so it is told that the name is gone.
        """
        found = await self._find(parent, name, who)
        vnode = await self._cache.status(found.place.mount.volume, found.fid, who)
        if vnode.status.kind is not FileKind.MOUNTPOINT:
            raise AfsError(f"{_path(parent, name)}: not a mount point", errno=errno.EINVAL)
        place, volume = found.place, found.place.mount.volume
        await self._changer.remove_file(volume, place.fid, found.name, found.fid, who)
        self._own.name_gone(self._directory(place), found.name)
        await self._own.settled()

    async def _remove(self, found: _Found, name: bytes, who: Identity) -> None:
        place, volume = found.place, found.place.mount.volume
        vnode = self._cache.peek(volume, found.fid)
        if vnode is not None and await self._orphans.must_stay(vnode, who):
            silly = await self._orphans.put_aside(volume, place.fid, found.name, vnode, who)
            self._own.name_changed(self._directory(place), silly, None)
        else:
            await self._changer.remove_file(volume, place.fid, found.name, found.fid, who)
            if vnode is not None:
                self._orphans.removed(vnode, found.name)
        self._own.file_changed(vnode, place.mount.nodes.get((found.fid.vnode, found.fid.unique)))
        await self._gone(place, name, found.name)

    async def rmdir(self, parent: Node, name: bytes, who: Identity) -> None:
        """Remove an empty directory; ENOTEMPTY if it is not."""
        found = await self._find(parent, name, who)
        if self._mountpoint(found):
            # A server would say ENOTDIR, as it does to OpenAFS's and the kernel's client.
            raise _busy(parent, name)
        if not found.is_directory:
            raise AfsError(f"{_path(parent, name)}: not a directory", errno=errno.ENOTDIR)
        place = found.place
        with _NotEmpty():
            await self._changer.remove_dir(
                place.mount.volume, place.fid, found.name, found.fid, who
            )
        await self._gone(place, name, found.name)

    # What moves something

    async def rename(
        self,
        old_parent: Node,
        old_name: bytes,
        new_parent: Node,
        new_name: bytes,
        flags: int,
        who: Identity,
    ) -> None:
        """Move a name within a volume, over another one perhaps.

        RENAME_NOREPLACE is honoured by looking first: servers have no such call, so a name that
        another client makes in that very moment is replaced.
        """
        if flags & ~RENAME_NOREPLACE:
            raise AfsError(f"renaming with the flags {flags:#x}", errno=errno.EINVAL)
        old = await self._find(old_parent, old_name, who)
        there = await self._place(new_parent, new_name, who)
        if old.place.mount is not there.mount:
            raise _elsewhere(new_parent)
        directory = await self._read(there)
        new_real = self._lookups.real_name(directory, new_name)
        target = directory.find(new_real)
        if target is None:
            _check_new(new_name)
        replaced = None if target is None else Fid(old.fid.volume, *target)
        if replaced is not None:
            if flags & RENAME_NOREPLACE:
                raise _exists(new_parent, new_name)
            if replaced == old.fid:
                return  # two names of one file: POSIX has that do nothing
            self._check_target(old, _Found(there, new_real, replaced, directory), new_name)
        await self._move(old, there, new_real, replaced, who)
        self._moved(old, old_name, there, new_name, new_real)
        await self._own.settled()

    def _check_target(self, old: _Found, new: _Found, name: bytes) -> None:
        """Refuse what a server would see in another way than the kernel."""
        if self._mountpoint(new):
            raise _busy(new.place.node, name)
        if self._mountpoint(old) and new.is_directory:
            raise _busy(old.place.node, old.name)

    async def _move(
        self, old: _Found, there: Place, name: bytes, replaced: Fid | None, who: Identity
    ) -> None:
        volume = there.mount.volume
        vnode = None if replaced is None else self._cache.peek(volume, replaced)
        kept: Kept | None = None
        if vnode is not None and await self._orphans.must_stay(vnode, who):
            kept = await self._orphans.keep(volume, there.fid, name, vnode, who)
            self._own.name_changed(self._directory(there), kept.name, None)
            if not kept.linked:
                replaced = None
        with _NotEmpty():
            try:
                await self._changer.rename(
                    volume, old.place.fid, old.name, there.fid, name, who,
                    moved=old.fid, replaced=replaced,
                )  # fmt: skip
            except BaseException as exc:
                if vnode is not None and kept is not None:
                    await self._orphans.not_replaced(vnode, kept, name, exc)
                raise
        if vnode is not None:
            if kept is not None:
                self._orphans.replaced(vnode, kept)
            known = there.mount.nodes.get((vnode.fid.vnode, vnode.fid.unique))
            self._own.file_changed(vnode, known)

    def _moved(
        self, old: _Found, old_name: bytes, there: Place, new_name: bytes, new_real: bytes
    ) -> None:
        """Have the nodes be where the kernel has them by now."""
        above = self._directory(there)
        node = there.mount.nodes.get((old.fid.vnode, old.fid.unique))
        if node is not None:
            self._nodes.renamed(old.place.node, old_name, there.node, new_name, node)
        else:
            self._nodes.unhold(old.place.node, old_name)
            self._nodes.unhold(there.node, new_name)
        self._cache.writes.renamed(
            lambda: _path(old.place.node, old_name), lambda: _path(there.node, new_name)
        )
        self._own.name_changed(self._directory(old.place), old.name, old.place.node)
        self._own.name_changed(above, new_real, there.node)
        if old.place.fid == there.fid or node is None:
            return
        # The kernel keeps the moved name for as long as it was to be kept in the old directory.
        if (
            above is None
            or not above.look_until > trio.current_time()
            or (
                node.vnode is not None
                and node.vnode.status.kind is FileKind.FILE
                and not above.read_until > trio.current_time()
            )
        ):
            self._own.name_closed(there.node, new_name, node)

    # What they have in common

    async def _place(self, parent: Node, name: bytes, who: Identity, *, new: bool = False) -> Place:
        """The directory in which a name is to be changed."""
        names.check_length(name)
        if isinstance(parent, MadeUp):
            raise AfsError(f"{parent.path()}: shows cells and nothing else", errno=errno.EROFS)
        if new:
            _check_new(name)
        mount, fid = await self._lookups.place(parent, who)
        place = Place(parent, mount, fid, who)
        directory = await self._read(place)
        if new and name in directory:
            raise _exists(parent, name)
        await self._lookups.directory_vnode(place)
        return place

    async def _read(self, place: Place) -> Directory:
        try:
            return await self._cache.directory(place.mount.volume, place.fid, place.who)
        except NotPermitted as exc:
            raise access.refusal(place.node, exc) from None

    async def _find(self, parent: Node, name: bytes, who: Identity) -> _Found:
        place = await self._place(parent, name, who)
        directory = await self._read(place)
        real = self._lookups.real_name(directory, name)
        found = directory.find(real)
        if found is None:
            raise NotFound(f"{_path(parent, name)}: not there")
        return _Found(place, real, Fid(place.fid.volume, *found), directory)

    def _mountpoint(self, found: _Found) -> bool:
        """Whether the kernel was shown a mount point there."""
        node = found.place.mount.nodes.get((found.fid.vnode, found.fid.unique))
        return isinstance(node, MountPoint)

    def _directory(self, place: Place) -> Vnode | None:
        return self._cache.peek(place.mount.volume, place.fid)

    async def _made(self, place: Place, name: bytes, vnode: Vnode) -> tuple[Node, Entry]:
        self._own.name_changed(self._directory(place), name, place.node)
        await self._own.settled()
        return self._lookups.made(place, name, vnode)

    async def _gone(self, place: Place, name: bytes, real: bytes) -> None:
        """The kernel has dropped `name`, which stood for the entry `real`."""
        self._nodes.unhold(place.node, name)
        # The kernel may hold the entry under its own name, too, where `@sys` was removed.
        asked = place.node if name == real else None
        self._own.name_changed(self._directory(place), real, asked)
        await self._own.settled()


class _NotEmpty:
    """Says ENOTEMPTY and EINVAL where servers say EEXIST and EMSGSIZE."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AfsError):
            if error.errno == errno.EEXIST:
                error.errno = errno.ENOTEMPTY
            elif error.errno == _SERVER_LOOP:
                error.errno = errno.EINVAL


def _check_new(name: bytes) -> None:
    """Refuse names that stand for others: a server says EINVAL, too. Source: FileNameOK."""
    if name.endswith(names.SYS_SUFFIX):
        raise AfsError("no name that ends in @sys can be made", errno=errno.EINVAL)


def _path(parent: Node, name: bytes) -> str:
    return f"{parent.path().rstrip('/')}/{name.decode('utf-8', 'backslashreplace')}"


def _busy(parent: Node, name: bytes) -> AfsError:
    return AfsError(f"{_path(parent, name)}: a mount point", errno=errno.EBUSY)


def _exists(parent: Node, name: bytes) -> AfsError:
    return AfsError(f"{_path(parent, name)}: it is there already", errno=errno.EEXIST)


def _elsewhere(node: Node) -> AfsError:
    return AfsError(f"{node.path()}: in another volume", errno=errno.EXDEV)
