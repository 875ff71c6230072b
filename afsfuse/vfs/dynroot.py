"""The dynamic root: a directory of cells that is on no server.

    /afs/CELL     the cell's volume root.cell, its read-only replica when there is one
    /afs/.CELL    the same volume, read-write
    /afs/@cell    symbolic link to the local cell; /afs/.@cell likewise

Any cell that CellServDB or DNS knows can be entered by name. A listing shows those that
`VfsOptions.listed_cells` says, and contacts nobody: entries are mount points with made-up
attributes. A name that is an alias of a cell, such as one with capital letters, is a symbolic
link to the cell's own name.

The kernel may remember for `VfsOptions.retry_after` that nobody knows a cell. Names that cannot be
cells (see `names.may_name_a_cell`) never reach DNS, and stay absent for longer.
"""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

from afsfuse.errors import CellUnknown
from afsfuse.vfs.entry import BLOCK_SIZE, Entry, VolumeSpace
from afsfuse.vfs.inodes import ROOT_INODE, Node, digest
from afsfuse.vfs.mountpoints import MountPoint, MountTarget
from afsfuse.vfs.names import NAME_MAX, may_name_a_cell
from afsfuse.vfs.options import ListedCells

if TYPE_CHECKING:
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.model import Inode
    from afsfuse.vfs.inodes import NodeTable
    from afsfuse.vfs.options import VfsOptions

ROOT_CELL = "root.cell"
"""The volume that every cell has at its top. Source: every AFS client's dynamic root."""

_LINKS = (b"@cell", b".@cell")


class MadeUp(Node):
    """A node that is on no server and leads to none."""

    __slots__ = ()


class DynamicRoot(MadeUp):
    """The root directory itself."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ROOT_INODE, 1, {}, None)


class DynamicLink(MadeUp):
    """A symbolic link in the root: `@cell`, `.@cell`, or an alias of a cell."""

    __slots__ = ("body",)

    def __init__(self, inode: Inode, home: dict[object, Node], name: bytes, body: bytes) -> None:
        super().__init__(inode, 1, home, name)
        self.body = body


class CellRoots:
    """What the names in the dynamic root stand for."""

    def __init__(self, cells: CellDirectory, nodes: NodeTable, options: VfsOptions) -> None:
        self._cells = cells
        self._nodes = nodes
        self._options = options
        self._born = int(time.time())
        self._children: dict[object, Node] = {}
        self.root = DynamicRoot()

    async def lookup(self, name: bytes) -> Node | float:
        """The node behind a name; else for how many seconds there is none.

        May ask DNS, so it may take as long as `CellDirectory.find` takes. An error of DNS is
        passed on; that nobody knows the name is an answer.
        """
        if name in _LINKS:
            local = self._cells.this_cell
            return self._options.retry_after if local is None else self._cell_link(name, local)
        dot = b"." if name.startswith(b".") else b""
        asked = name[len(dot) :]
        try:
            cell_name = asked.decode("ascii")
        except UnicodeDecodeError:
            return self._options.dynroot_timeout
        if not self._cells.configured(cell_name) and not may_name_a_cell(asked):
            return self._options.dynroot_timeout
        try:
            cell = await self._cells.find(cell_name)
        except CellUnknown:
            return self._options.retry_after
        canonical = cell.name.encode()
        if canonical != asked:
            return self._link(name, dot + canonical)
        return self.cell_node(name)

    def _cell_link(self, name: bytes, local: str) -> Node:
        dot = b"." if name.startswith(b".") else b""
        return self._link(name, dot + local.encode())

    def _link(self, name: bytes, body: bytes) -> Node:
        node = self._children.get(name)
        if not isinstance(node, DynamicLink) or node.body != body:
            inode = self._nodes.number(digest(b"dynamic link", name, body))
            node = DynamicLink(inode, self._children, name, body)
            self._nodes.add(node)
        return node

    def cell_node(self, name: bytes) -> Node:
        """The mount point `CELL` or `.CELL`."""
        node = self._children.get(name)
        if not isinstance(node, MountPoint):
            kind, cell = ("%", name[1:]) if name.startswith(b".") else ("#", name)
            place = digest(b"dynamic cell", name)
            node = MountPoint(
                self._nodes.number(place),
                place=place,
                home=self._children,
                key=name,
                spec=MountTarget(kind, cell.decode("ascii"), ROOT_CELL, ""),
            )
            self._nodes.add(node)
        return node

    def known(self, name: bytes) -> Node | None:
        """The node of a name that somebody has looked up; asks nobody."""
        return self._children.get(name)

    def names(self) -> list[bytes]:
        """What a listing of the root shows, sorted; asks nobody."""
        listed = self._options.listed_cells
        known = {*self._cells.used_cells()}
        all_known = self._cells.known_cells()
        if listed is ListedCells.CONFIGURED or (
            listed is ListedCells.AUTO and len(all_known) <= self._options.listed_cells_limit
        ):
            known.update(all_known)
        cells = {cell.encode() for cell in known}
        names = cells | {b"." + cell for cell in cells}
        if self._cells.this_cell is not None:
            names |= {*_LINKS}
        return sorted(names)

    def listed_node(self, name: bytes) -> Node:
        """The node of a name that `names` gave."""
        if name in _LINKS:
            assert self._cells.this_cell is not None
            return self._cell_link(name, self._cells.this_cell)
        return self.cell_node(name)

    def link_entry(self, link: DynamicLink) -> Entry:
        """Attributes of a symbolic link."""
        return self._entry(link, stat.S_IFLNK | 0o777, 1, len(link.body))

    def root_entry(self) -> Entry:
        """Attributes of the root."""
        return self._entry(self.root, stat.S_IFDIR | 0o555, 2, BLOCK_SIZE)

    def _entry(self, node: Node, mode: int, nlink: int, size: int) -> Entry:
        timeout = self._options.dynroot_timeout
        return Entry(
            node.inode, node.generation, mode, nlink, 0, 0, size, self._born, BLOCK_SIZE,
            timeout, timeout,
        )  # fmt: skip

    @property
    def mtime(self) -> int:
        """Unix seconds: when this root came into being."""
        return self._born


DYNAMIC_SPACE = VolumeSpace(
    block_size=1024, blocks=0, blocks_free=0, files=0, files_free=0, name_max=NAME_MAX
)
"""The dynamic root has no room, so `df` leaves it out like other virtual file systems."""
