"""Nodes: what stands behind the inode numbers that the kernel holds.

A node is one vnode at one place of the tree. The place matters: the kernel allows a directory one
parent, and one volume can be mounted at several points, so a node's identity is a pair of *mount*
(a volume at one mount point) and fid. A mount point is a node of its own, which shows the root of
its target.

Inode numbers are 63-bit hashes of that identity: the same after a remount, and distinct over all
cells and volumes. Should two nodes that live at the same time have one hash, the later one gets
another number.

Every vnode that a node shows knows it through `Vnode.holder`, a field that the cache leaves to
the vfs: that is how a callback break finds the inodes to invalidate. Nothing here awaits, so every
method is atomic for the tasks of the event loop.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import struct
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.cell.tables import compacted
from afsfuse.errors import StaleInode
from afsfuse.model import FileKind, Inode
from afsfuse.vfs.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from afsfuse.cache import Vnode
    from afsfuse.cell.volumes import Volume
    from afsfuse.interfaces.fileserver import Fid

log = logging.getLogger(__name__)

_FID = struct.Struct("!III")

ROOT_INODE = Inode(1)
NO_PAGES = -1
"""It was never opened."""
MIXED_PAGES = -2
"""They are of no version, and must not be used again."""
_PATH_DEPTH = 64  # components of a path in an error message
_MANY = 200  # nodes and vnodes that go before it is worth while to give their memory back
_PURGE_STEP = 64  # absent names that may expire in a directory before they are swept


def digest(*parts: bytes) -> bytes:
    """16 bytes that identify a place; no two lists of parts run into one."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(len(part).to_bytes(2, "big") + part)
    return hasher.digest()


def hash63(identity: bytes) -> int:
    """63 bits of a BLAKE2b hash: positive as a signed number, too."""
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big") >> 1


class Node:
    """What all nodes have. Slots, since there is one for every name the kernel remembers."""

    __slots__ = (
        "absent",
        "generation",
        "handles",
        "home",
        "inode",
        "key",
        "links",
        "made_size",
        "name",
        "names",
        "nlookup",
        "pages_version",
        "parent",
        "shown_size",
        "vnode",
    )

    def __init__(
        self, inode: Inode, generation: int, home: dict[object, Node], key: object
    ) -> None:
        self.inode = inode
        self.generation = generation
        """The uniquifier; fixed for the life of the node."""
        self.home = home
        self.key = key
        """`home[key]` is this node."""
        self.nlookup = 0
        """How often the kernel was given this node and has not forgotten it."""
        self.handles = 0
        """Open files and directories."""
        self.vnode: Vnode | None = None
        """The vnode that this node shows, as far as it is known."""
        self.pages_version = NO_PAGES
        """Data version of the pages that the kernel may hold: of a file what was read, of a
        directory what was listed. Or `NO_PAGES`, or `MIXED_PAGES`."""
        self.shown_size = -1
        """Of a file: the length that the kernel was told last, or has made it; -1: none."""
        self.made_size = -1
        """... or that it made last by writing. It still believes in this one if what it was told
        since came while its attributes were being invalidated: it takes that for old."""
        self.parent: Node | None = None
        self.name = b""
        """Where the node was last seen."""
        self.links: tuple[tuple[Node, bytes], ...] = ()
        """Further places under which the kernel may hold it: hard links."""
        self.names: dict[bytes, Node] | None = None
        """Of a directory: what the kernel holds below it."""
        self.absent: dict[bytes, float] | None = None
        """Of a directory: names that the kernel holds as absent, and until when (trio time)."""

    @property
    def pinned(self) -> bool:
        """Whether the node must stay."""
        return self.nlookup > 0 or self.handles > 0

    @property
    def is_directory(self) -> bool:
        """Whether the kernel holds it as a directory, as far as that is known."""
        return self.vnode is not None and self.vnode.status.kind is FileKind.DIRECTORY

    @property
    def mount_around(self) -> Mount | None:
        """The mount in which the node stands."""
        return None

    @property
    def tree(self) -> Mount | None:
        """The mount that is used by whoever uses the node: a mount point belongs to its target."""
        return None

    def leave_tree(self) -> None:
        """The node has left the table, and leads nowhere any more."""

    def name_first(self, parent: Node, name: bytes) -> None:
        """Where a node is seen for the first time, for messages about it before it is held."""
        if self.parent is None:
            self.parent, self.name = parent, name

    def places(self) -> list[tuple[Node, bytes]]:
        """The directories and names under which the kernel holds the node."""
        places = [*self.links]
        if self.parent is not None:
            places.append((self.parent, self.name))
        return [
            (parent, name)
            for parent, name in places
            if parent.names is not None and parent.names.get(name) is self
        ]

    def path(self) -> str:
        """Where the node was last seen, from the root of the mount, for messages."""
        parts: list[bytes] = []
        node: Node | None = self
        while node is not None and node.inode != ROOT_INODE and len(parts) < _PATH_DEPTH:
            parts.append(node.name)
            node = node.parent
        return "/" + b"/".join(reversed(parts)).decode("utf-8", "backslashreplace")


class Mount:
    """One volume at one place of the tree."""

    __slots__ = ("__weakref__", "digest", "idle_since", "nodes", "point", "root", "used", "volume")

    def __init__(self, point: Node, place: bytes, volume: Volume, root: Fid) -> None:
        self.point = point
        """The node that shows the root of the volume."""
        self.volume = volume
        self.root = root
        self.digest = digest(place, volume.cell.name.encode())
        """What the inode numbers of all nodes below are hashed with."""
        self.nodes: dict[object, Node] = {}
        """The nodes of this mount by (vnode, uniquifier); not the root."""
        self.used = True
        """Whether it was used since somebody last looked, see `Trees.sweep`."""
        self.idle_since = math.inf
        """When it was last seen in use (trio time)."""

    @property
    def around(self) -> Mount | None:
        """The mount in which the mount point stands."""
        return self.point.mount_around


class VnodeNode(Node):
    """A file, directory or symbolic link of a volume."""

    __slots__ = ("fid", "mount")

    def __init__(self, inode: Inode, mount: Mount, fid: Fid, key: object) -> None:
        super().__init__(inode, fid.unique, mount.nodes, key)
        self.mount = mount
        self.fid = fid

    @property
    def mount_around(self) -> Mount | None:
        return self.mount

    @property
    def tree(self) -> Mount | None:
        return self.mount


def identity(mount: Mount, fid: Fid) -> bytes:
    """What the inode number of a fid in a mount is hashed from."""
    return mount.digest + _FID.pack(fid.volume, fid.vnode, fid.unique)


class NodeStatistics(NamedTuple):
    """How many things the table holds."""

    nodes: int
    lookups: int
    """References that the kernel has to give back."""
    absent_names: int
    collisions: int
    """Nodes that did not get the inode number they hash to."""


class NodeTable:
    """All nodes by inode number, and what the kernel holds of them."""

    def __init__(
        self, *, absent_limit: int = 65536, hasher: Callable[[bytes], int] = hash63
    ) -> None:
        """`absent_limit`: names that the kernel may hold as absent, over all directories."""
        self._by_inode: dict[int, Node] = {}
        self._hasher = hasher
        self._absent_limit = absent_limit
        self._absent_count = 0
        self._collisions = 0
        self.trees = Trees()
        """The mounts that were entered; each leaves with its mount point."""
        self.gone = 0
        """Nodes and vnodes that went since somebody last set this to 0."""
        self.emptied: Callable[[], object] = lambda: None
        """Called when many have gone since, and more than there are nodes left."""

    def statistics(self) -> NodeStatistics:
        lookups = sum(node.nlookup for node in self._by_inode.values())
        return NodeStatistics(len(self._by_inode), lookups, self._absent_count, self._collisions)

    # Finding and adding.

    def get(self, inode: Inode) -> Node:
        """The node that the kernel asks about, whose tree is used by that; `StaleInode` if its
        number was never given out.
        """
        node = self.peek(inode)
        tree = node.tree
        if tree is not None:
            tree.used = True
        return node

    def peek(self, inode: Inode) -> Node:
        """The node of a number, about which nobody asks; `StaleInode` likewise."""
        try:
            return self._by_inode[inode]
        except KeyError:
            raise StaleInode(f"inode {inode} is not known") from None

    def find(self, inode: int) -> Node | None:
        """The node of a number, about which nobody asks, if there is one."""
        return self._by_inode.get(inode)

    def at(self, path: bytes) -> Node | None:
        """The node that the kernel holds at a path from the root of the mount, or the last one on
        the way there.
        """
        node = self._by_inode.get(ROOT_INODE)
        for name in path.split(b"/"):
            if node is None or not name:
                continue
            below = (node.names or {}).get(name)
            if below is None:
                break
            node = below
        return node

    def plant(self, root: Node) -> None:
        """Make `root` the root of the mount; the kernel holds it from the start."""
        root.nlookup = 1
        self._by_inode[ROOT_INODE] = root

    def compact(self) -> None:
        """Give back the room of nodes and trees that have gone."""
        self._by_inode = compacted(self._by_inode)
        self.trees.compact()

    def number(self, identity: bytes) -> Inode:
        """A free inode number for a new node; the same for the same identity unless it is taken."""
        candidate = self._hasher(identity)
        salt = 0
        while candidate <= ROOT_INODE or candidate in self._by_inode:
            if not salt:
                self._collisions += 1
            salt += 1
            candidate = self._hasher(identity + salt.to_bytes(4, "big"))
        return Inode(candidate)

    def add(self, node: Node) -> None:
        """Enter a new node; a node that stood at its place before goes when it is forgotten."""
        self._by_inode[node.inode] = node
        node.home[node.key] = node

    def __len__(self) -> int:
        return len(self._by_inode)

    def __iter__(self) -> Iterator[Node]:
        """All nodes; none must be added or dropped meanwhile."""
        return iter(self._by_inode.values())

    def oldest(self, count: int) -> list[Node]:
        """The nodes that were entered first; from now on they count as the youngest."""
        nodes = list(itertools.islice(self._by_inode.values(), count))
        for node in nodes:
            del self._by_inode[node.inode]
            self._by_inode[node.inode] = node
        return nodes

    def show(self, node: Node, vnode: Vnode | None) -> None:
        """Tie a node to the vnode whose status it shows."""
        old = node.vnode
        if old is vnode or (vnode is not None and self._by_inode.get(node.inode) is not node):
            return  # a node that is not in the table would keep the vnode for ever
        if old is not None:
            _release(old, node)
        node.vnode = vnode
        if vnode is not None:
            holder = vnode.holder
            if holder is None:
                vnode.holder = node
            elif isinstance(holder, tuple):
                vnode.holder = (*holder, node)
            else:
                vnode.holder = (holder, node)

    def went(self, count: int) -> None:
        """So many nodes or vnodes are gone."""
        self.gone += count
        if self.gone >= _MANY and self.gone >= len(self._by_inode):
            self.emptied()

    # What the kernel holds.

    def hold(self, parent: Node, name: bytes, node: Node) -> None:
        """The kernel is given `node` as `name` of `parent`: one reference more."""
        node.nlookup += 1
        names = parent.names
        if names is None:
            names = parent.names = {}
        known = names.get(name)
        if known is not node:
            if known is not None:
                _leave(known, parent, name)
            names[name] = node
            self._move(node, parent, name)
        if parent.absent is not None and parent.absent.pop(name, None) is not None:
            self._absent_count -= 1

    @staticmethod
    def _move(node: Node, parent: Node, name: bytes) -> None:
        """The kernel has one more name for a node; the last one counts for messages."""
        before, old_name = node.parent, node.name
        if before is not None and before.names is not None and before.names.get(old_name) is node:
            node.links = (*node.links, (before, old_name))
        node.parent, node.name = parent, name

    def unhold(self, parent: Node, name: bytes) -> bool:
        """Whether the kernel held `name`, be it as absent; from now on it does not."""
        node = parent.names.pop(name, None) if parent.names is not None else None
        if node is not None:
            _leave(node, parent, name)
        absent = parent.absent is not None and parent.absent.pop(name, None) is not None
        self._absent_count -= absent
        return node is not None or absent

    def renamed(self, old: Node, old_name: bytes, new: Node, new_name: bytes, node: Node) -> None:
        """The kernel moved its name for `node`, whether or not we thought that it had one."""
        self.unhold(old, old_name)
        self.unhold(new, new_name)
        if node.nlookup:
            node.nlookup -= 1  # `hold` counts the reference that came along
            self.hold(new, new_name, node)

    def hold_absent(self, parent: Node, name: bytes, until: float, now: float) -> bool:
        """The kernel is told that `parent` has no `name`; False if it must not remember that."""
        absent = parent.absent
        if absent is None:
            absent = parent.absent = {}
        if name not in absent:
            if self._absent_count >= self._absent_limit or len(absent) % _PURGE_STEP == 0:
                self._purge(absent, now)
            if self._absent_count >= self._absent_limit:
                return False
            self._absent_count += 1
        absent[name] = until
        return True

    def _purge(self, absent: dict[bytes, float], now: float) -> None:
        for name in [name for name, until in absent.items() if until <= now]:
            del absent[name]
            self._absent_count -= 1

    # Letting go.

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        """The kernel gives references back. Never raises: there is nobody to tell."""
        for inode, count in pairs:
            node = self._by_inode.get(inode)
            if node is None:
                log.warning("the kernel forgot inode %d, which it was never given", inode)
                continue
            if count > node.nlookup:
                log.warning(
                    "the kernel forgot inode %d %d times, but had it %d times",
                    inode, count, node.nlookup,
                )  # fmt: skip
                count = node.nlookup
            node.nlookup -= count
            self.discard(node)

    def discard(self, node: Node) -> None:
        """Drop a node if nothing needs it, and then the mount points that only it kept."""
        while not node.pinned and node.inode != ROOT_INODE:
            if self._by_inode.get(node.inode) is not node:
                return
            self._drop(node)
            mount = node.mount_around
            if mount is None or mount.nodes:
                return
            node = mount.point

    def _drop(self, node: Node) -> None:
        del self._by_inode[node.inode]
        self.went(1)
        if node.home.get(node.key) is node:
            del node.home[node.key]
        if node.parent is not None:
            _unname(node.parent, node.name, node)
        for parent, name in node.links:
            _unname(parent, name, node)
        if node.absent:
            self._absent_count -= len(node.absent)
        node.absent = node.names = None
        self.show(node, None)
        tree = node.tree
        if tree is not None and tree.point is node:
            self.trees.left(tree)
            node.leave_tree()


def holders(vnode: Vnode) -> tuple[Node, ...]:
    """The nodes that show a vnode."""
    holder = vnode.holder
    if holder is None:
        return ()
    if isinstance(holder, tuple):
        return holder
    assert isinstance(holder, Node)
    return (holder,)


def _release(vnode: Vnode, node: Node) -> None:
    left = tuple(other for other in holders(vnode) if other is not node)
    vnode.holder = None if not left else left[0] if len(left) == 1 else left


def _unname(parent: Node, name: bytes, node: Node) -> None:
    if parent.names is not None and parent.names.get(name) is node:
        del parent.names[name]


def _leave(node: Node, parent: Node, name: bytes) -> None:
    """A name of `node` went; another one, if there is any, takes its place in messages."""
    if node.parent is not parent or node.name != name:
        node.links = tuple(link for link in node.links if link != (parent, name))
    elif node.links:
        (node.parent, node.name), *rest = node.links
        node.links = tuple(rest)
