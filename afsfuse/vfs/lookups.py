"""Looking up names, and the attributes of what they stand for.

Nothing suspends as long as the cache holds valid promises: a warm lookup or stat runs from the
request to its answer in one piece.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.cache.doors import READ
from afsfuse.cache.vnodes import PROMISE_MARGIN
from afsfuse.errors import AfsError, NotPermitted, StaleInode
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind
from afsfuse.vfs import access, names
from afsfuse.vfs.ahead import LookAhead
from afsfuse.vfs.attributes import entry_of, faked_directory
from afsfuse.vfs.dynroot import DynamicLink, DynamicRoot
from afsfuse.vfs.entry import Entry, negative
from afsfuse.vfs.inodes import ROOT_INODE, Mount, Node, VnodeNode, identity
from afsfuse.vfs.mountpoints import MountPoint, place_in
from afsfuse.vfs.trees import name_timeout

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Directory, Vnode
    from afsfuse.vfs.dynroot import CellRoots
    from afsfuse.vfs.inodes import NodeTable
    from afsfuse.vfs.options import VfsOptions
    from afsfuse.vfs.resolving import Resolver

_MOUNTPOINT, _FILE, _DIRECTORY = FileKind.MOUNTPOINT, FileKind.FILE, FileKind.DIRECTORY


class Place(NamedTuple):
    """A directory that is being searched, and where its vnode lives."""

    node: Node
    mount: Mount
    fid: Fid
    who: Identity  # who searches


class Lookups:
    """Names to nodes, nodes to vnodes, vnodes to attributes."""

    def __init__(
        self,
        cache: CacheManager,
        nodes: NodeTable,
        resolver: Resolver,
        roots: CellRoots,
        options: VfsOptions,
    ) -> None:
        self._cache = cache
        self._ahead = LookAhead(cache)
        self._nodes = nodes
        self._resolver = resolver
        self._roots = roots
        self._options = options
        self._point_timeout = name_timeout(options.expire)
        self.sight = access.Sight(cache.doors, self.vnode)

    # Nodes.

    async def place(self, node: Node, who: Identity) -> tuple[Mount, Fid]:
        """Where the vnode that a node shows lives; mount points are entered for it."""
        if isinstance(node, VnodeNode):
            return node.mount, node.fid
        if isinstance(node, MountPoint):
            mount = await self._resolver.enter(node, who)
            return mount, mount.root
        raise AfsError(f"{node.path()}: not on any server")

    def child(self, mount: Mount, vnode: Vnode) -> Node:
        """The node of a vnode in a mount; a new one is not held by the kernel yet."""
        fid = vnode.fid
        key = (fid.vnode, fid.unique)
        node = mount.nodes.get(key)
        if vnode.status.kind is _MOUNTPOINT:
            if not isinstance(node, MountPoint):
                self._make_room(node)
                node = self._new_mountpoint(mount, fid, key)
        else:
            if not isinstance(node, VnodeNode):
                self._make_room(node)
                node = self.new_node(mount, fid, key)
            if node.vnode is not vnode:
                self._nodes.show(node, vnode)
        return node

    def _make_room(self, node: Node | None) -> None:
        """Let go of a node of the wrong kind, from a time when the kind was not known."""
        if node is not None:
            self._nodes.discard(node)

    def new_node(self, mount: Mount, fid: Fid, key: tuple[int, int]) -> VnodeNode:
        """A node for a fid that has none in this mount."""
        inode = self._nodes.number(identity(mount, fid))
        node = VnodeNode(inode, mount, fid, key)
        self._nodes.add(node)
        return node

    def _new_mountpoint(self, mount: Mount, fid: Fid, key: tuple[int, int]) -> MountPoint:
        inode = self._nodes.number(identity(mount, fid))
        point = MountPoint(
            inode, place=place_in(mount, fid), home=mount.nodes, key=key, mount=mount, fid=fid
        )
        self._nodes.add(point)
        return point

    def name_timeout(self, node: Node, timeout: float) -> float:
        """For how many of these seconds the kernel may keep a name of a node.

        Names of mount points it asks for again after a while: so it is seen that a tree is used.
        """
        return min(timeout, self._point_timeout) if isinstance(node, MountPoint) else timeout

    # Vnodes and attributes.

    async def vnode(self, node: Node, who: Identity) -> Vnode:
        """The vnode that a node shows, with a status that is true now; enters mount points.

        Whether `who` may be told is another question, see `sight`.
        """
        vnode = node.vnode
        if vnode is not None and vnode.valid(trio.current_time()):
            return vnode
        mount, fid = await self.place(node, who)
        above = node.parent.vnode if isinstance(node, VnodeNode) and node.parent else None
        if above is None or above.directory is None or above.volume is not mount.volume:
            vnode = await self._cache.status(mount.volume, fid, who)
        else:
            vnode = await self._ahead.status(mount.volume, above.fid, above.directory, fid, who)
        self._nodes.show(node, vnode)
        return vnode

    def public_attributes(self, node: Node) -> Entry | None:
        """What stat shows, if that is known and anybody may know it; else None."""
        vnode = node.vnode
        now = trio.current_time()
        if vnode is None or not vnode.valid(now):
            return None
        until = self.sight.open_until(node, vnode)
        return entry_of(node, vnode, now, 0.0, until) if until > now else None

    async def attributes(self, node: Node, who: Identity, entry_timeout: float = 0.0) -> Entry:
        """What stat shows, whoever asks. Mount points are looked at, not entered."""
        vnode = node.vnode
        now = trio.current_time()
        if vnode is not None and vnode.valid(now):
            return entry_of(node, vnode, now, entry_timeout, self.sight.open_until(node, vnode))
        if isinstance(node, MountPoint):
            await self._look(node, who)
            until = self.sight.open_until(node, node.vnode)
            return self.mountpoint_entry(node, trio.current_time(), entry_timeout, until)
        if isinstance(node, DynamicRoot):
            return self._roots.root_entry()
        if isinstance(node, DynamicLink):
            return self._roots.link_entry(node)
        vnode = await self.vnode(node, who)
        until = self.sight.open_until(node, vnode)
        return entry_of(node, vnode, trio.current_time(), entry_timeout, until)

    async def _look(self, point: MountPoint, who: Identity) -> None:
        point.handles += 1  # whatever the kernel forgets meanwhile, the node stays
        try:
            await self._resolver.look(point, who)
        except BaseException:  # cancelled: nobody is going to hold it
            point.handles -= 1
            self._nodes.discard(point)
            raise
        point.handles -= 1

    def mountpoint_entry(
        self,
        point: MountPoint,
        now: float,
        entry_timeout: float,
        open_until: float,
        *,
        looked: bool = True,
    ) -> Entry:
        """What a mount point shows without asking anybody.

        Before its target is known it is a directory by assumption, of the age of the mount point;
        that may be kept for a while if somebody `looked` or there is no use in it. Attributes that
        are out of date, since the target's server is slow, are shown but not to be kept.
        """
        vnode = point.vnode
        if vnode is not None:
            return entry_of(point, vnode, now, entry_timeout, open_until)
        point.faked = True
        own = self._cache.peek(point.mount.volume, point.fid) if point.mount and point.fid else None
        mtime = own.status.mtime if own else self._roots.mtime
        keep = looked or not self._resolver.worth_a_look(point, now)
        timeout = self._options.faked_attr_timeout if keep else 0.0
        timeout = access.kept_for(now + timeout, open_until, now)
        return faked_directory(point, mtime, timeout, entry_timeout)

    def root_listing_entry(self, node: Node) -> Entry:
        """What the dynamic root's listing shows: nobody is asked, also not by a stat after it."""
        if isinstance(node, DynamicLink):
            return self._roots.link_entry(node)
        assert isinstance(node, MountPoint)
        timeout = self.name_timeout(node, self._options.dynroot_timeout)
        return self.mountpoint_entry(node, trio.current_time(), timeout, math.inf)

    # Names.

    async def lookup(self, parent: Node, name: bytes, who: Identity) -> Entry:
        """The node behind a name, held by the kernel from now on; or a negative entry.

        Nobody who may not look into the directory learns anything.
        """
        names.check_length(name)
        if name in (b".", b".."):
            return await self._lookup_dots(parent, name, who)
        if isinstance(parent, DynamicRoot):
            return await self._lookup_cell(parent, name, who)
        mount, fid = await self.place(parent, who)
        return await self._search(Place(parent, mount, fid, who), name)

    async def _search(self, place: Place, name: bytes, *, again: bool = True) -> Entry:
        parent, mount, fid, who = place
        try:
            directory = await self._cache.directory(mount.volume, fid, who)
        except NotPermitted as exc:
            raise access.refusal(parent, exc) from None
        vnode = await self.directory_vnode(place)
        now = trio.current_time()
        found = directory.find(self.real_name(directory, name))
        if found is None:
            return self._absent(parent, name, trust(directory, vnode, now), now)
        child = Fid(fid.volume, *found)
        try:
            node, entry, now = await self._found(place, name, directory, vnode, child, now)
        except StaleInode:
            if not again:
                raise
            # The directory names a file that is gone. Its own status goes along with every bulk
            # request, so this one tells whether there is a newer version of it.
            await self._cache.statuses(mount.volume, fid, [child], who)
            return await self._search(place, name, again=False)
        entry.entry_timeout = self.name_timeout(node, trust(directory, vnode, now))
        return self._given(parent, name, node, entry)

    def at_once(self, parent: Node, name: bytes, who: Identity) -> Entry | None:
        """What `lookup` gives, if nobody has to be asked for that; else None.

        It is what programs that make files ask before each: nothing of that name is there.
        """
        above = parent.vnode
        if above is None or not isinstance(parent, VnodeNode) or name in (b".", b".."):
            return None
        names.check_length(name)
        directory = self._cache.peek_directory(above, who)
        if directory is None:
            return None
        now = trio.current_time()
        timeout = trust(directory, above, now)
        found = directory.find(self.real_name(directory, name))
        if found is None:
            return self._absent(parent, name, timeout, now)
        node = parent.mount.nodes.get(found)
        vnode = None if node is None else node.vnode
        if vnode is None or not isinstance(node, VnodeNode) or not vnode.valid(now):
            return None
        until = above.look_until
        if (kind := vnode.status.kind) is not _DIRECTORY:
            if vnode.status.parent_vnode != parent.fid.vnode:
                return None
            if kind is _FILE:
                until = above.read_until
                if until <= now and not self._cache.doors.lets_in(vnode, READ, who):
                    return None
        return self._given(parent, name, node, entry_of(node, vnode, now, timeout, until))

    def _given(self, parent: Node, name: bytes, node: Node, entry: Entry) -> Entry:
        """The kernel gets a node under a name."""
        self._nodes.hold(parent, name, node)
        if (tree := node.tree) is not None:
            tree.used = True
        return entry

    def again(self, parent: Node, name: bytes, node: Node) -> Entry:
        """The kernel gets a directory under a name that it held, and nothing that it may keep."""
        now = trio.current_time()
        if isinstance(node, MountPoint):
            entry = self.mountpoint_entry(node, now, 0.0, now)
        elif node.vnode is not None:
            entry = entry_of(node, node.vnode, now, 0.0, now)
        else:
            entry = faked_directory(node, self._roots.mtime, 0.0, 0.0)
        self._nodes.hold(parent, name, node)
        return entry

    async def directory_vnode(self, place: Place) -> Vnode:
        """The vnode of a directory that was just read, so the cache has it."""
        node, mount, fid, who = place
        vnode = node.vnode
        if (
            vnode is None
            or (vnode.fid is not fid and vnode.fid != fid)
            or not vnode.valid(trio.current_time())
        ):
            vnode = self._cache.peek(mount.volume, fid)
            vnode = vnode or await self._cache.status(mount.volume, fid, who)
            self._nodes.show(node, vnode)
        return vnode

    def real_name(self, directory: Directory, name: bytes) -> bytes:
        """The entry that a name stands for: another one if it ends in `@sys`."""
        if name.endswith(names.SYS_SUFFIX):
            for candidate in names.sys_candidates(name, self._options.sysnames):
                if candidate in directory:
                    return candidate
        return name

    async def _found(
        self,
        place: Place,
        name: bytes,
        directory: Directory,
        above: Vnode,
        fid: Fid,
        now: float,
    ) -> tuple[Node, Entry, float]:
        """The node of a fid, its attributes, and when that was: nothing was awaited since.

        `above` is the vnode of the directory, into which the asker may look.
        """
        mount = place.mount
        node = mount.nodes.get((fid.vnode, fid.unique))
        if node is None or node.vnode is None or not node.vnode.valid(now):
            vnode = await self._ahead.status(mount.volume, place.fid, directory, fid, place.who)
            node = self.child(mount, vnode)
            if isinstance(node, MountPoint):
                node.name_first(place.node, name)
                await self._look(node, place.who)
            now = trio.current_time()
        if isinstance(node, MountPoint):
            return node, self.mountpoint_entry(node, now, 0.0, above.look_until), now
        vnode = await self._child_vnode(node, fid, place, above)
        if self._nodes.find(node.inode) is not node:
            node = self.child(mount, vnode)  # nobody needed the other one, and it went meanwhile
        now = trio.current_time()
        until = above.read_until if vnode.status.kind is _FILE else above.look_until
        return node, entry_of(node, vnode, now, 0.0, until), now

    async def _child_vnode(self, node: Node, fid: Fid, place: Place, above: Vnode) -> Vnode:
        """What a child shows, if it may be told. Suspends for no public file."""
        vnode = node.vnode
        assert vnode is not None
        status = vnode.status
        if status.kind is _DIRECTORY:
            return vnode
        if status.parent_vnode != place.fid.vnode:
            # It was moved here, and its rights with it; nobody told us of the file itself.
            vnode = await self._cache.refetch(place.mount.volume, fid, place.who)
            self._nodes.show(node, vnode)
        closed = status.kind is _FILE and above.read_until <= trio.current_time()
        doors = self._cache.doors
        if closed and not await doors.allows(vnode, READ, place.who):
            raise access.refusal(node, doors.refusal(vnode.volume, place.who))
        return vnode

    def made(self, place: Place, name: bytes, vnode: Vnode) -> tuple[Node, Entry]:
        """The node of what was made in a directory just now, held by the kernel under `name`."""
        node = self.child(place.mount, vnode)
        now = trio.current_time()
        above = self._cache.peek(place.mount.volume, place.fid)
        timeout = until = 0.0
        if above is not None:
            until = above.read_until if vnode.status.kind is _FILE else above.look_until
            if above.directory is not None:
                timeout = trust(above.directory, above, now)
        entry = entry_of(node, vnode, now, timeout, until)
        self._nodes.hold(place.node, name, node)
        return node, entry

    def _absent(self, parent: Node, name: bytes, timeout: float, now: float) -> Entry:
        if timeout and not self._nodes.hold_absent(parent, name, now + timeout, now):
            timeout = 0.0
        return negative(timeout)

    async def _lookup_cell(self, root: DynamicRoot, name: bytes, who: Identity) -> Entry:
        found = await self._roots.lookup(name)
        if not isinstance(found, Node):
            return self._absent(root, name, found, trio.current_time())
        found.name_first(root, name)
        timeout = self.name_timeout(found, self._options.dynroot_timeout)
        return self._given(root, name, found, await self.attributes(found, who, timeout))

    async def _lookup_dots(self, node: Node, name: bytes, who: Identity) -> Entry:
        """What only file servers for other protocols ask for; counts as held like any other."""
        if name == b".." and node.inode != ROOT_INODE and node.parent is not None:
            node = node.parent
        entry = await self.attributes(node, who)
        await self.sight.require(node, node.vnode, who)
        node.nlookup += 1
        return entry


def trust(directory: Directory, vnode: Vnode, now: float) -> float:
    """For how many seconds a name found in `directory` may be kept by the kernel.

    Nothing if a newer version is known by now, be it that we have not seen it; nor if not anybody
    may look into the directory.
    """
    if directory.data_version != vnode.status.data_version:
        return 0.0
    return access.kept_for(vnode.expires - PROMISE_MARGIN, vnode.look_until, now)
