"""Open directories: a snapshot of the names, and statuses fetched in bulk ahead of the reader.

The kernel lists with attributes (READDIRPLUS), and AFS keeps no types in directories, so every
entry needs its status. An open directory is worked through in *windows* of names. While the
kernel is given the entries of one, the statuses of the next are under way in the background; the
cache cuts a window into bulk calls that run side by side.

Attributes are put together only in the moment in which they are handed out, from what the cache
knows then: an entry that waited in a list could promise what a callback has broken meanwhile. So
between the end of `DirectoryHandle.read` and the kernel's having its answer nothing may await.
"""

from __future__ import annotations

import itertools
import logging
from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import trio

from afsfuse.cache.doors import LOOK, READ
from afsfuse.errors import AfsError
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind
from afsfuse.vfs.attributes import entry_of, unknown
from afsfuse.vfs.entry import Listing
from afsfuse.vfs.inodes import MIXED_PAGES, ROOT_INODE, Mount, Node
from afsfuse.vfs.lookups import trust
from afsfuse.vfs.mountpoints import MountPoint

if TYPE_CHECKING:
    from afsfuse.auth.identity import Caller, Identity
    from afsfuse.cache import CacheManager, Directory, DirectoryEntry, Vnode
    from afsfuse.vfs.background import Background
    from afsfuse.vfs.dynroot import CellRoots, DynamicRoot
    from afsfuse.vfs.entry import Entry
    from afsfuse.vfs.inodes import NodeTable
    from afsfuse.vfs.lookups import Lookups

FIRST_WINDOW = 147
"""Names of the first window: three bulk calls side by side, so that a listing starts soon."""

WINDOW = 588
"""Names of every further window: twelve bulk calls."""

log = logging.getLogger(__name__)

_FILE = FileKind.FILE
_SLOT = attrgetter("slot")
_DOT, _DOT_DOT = b".", b".."


class Window:
    """Some names in a row, at least one, and what the cache knows of them."""

    __slots__ = ("entries", "ready", "scope", "start", "version", "vnodes")

    def __init__(self, start: int, entries: list[DirectoryEntry], version: int) -> None:
        self.version = version
        """Of the directory when it was cut out."""
        self.start = start
        """The offset (slot number) at which this window begins."""
        self.entries = entries
        self.vnodes: list[Vnode | AfsError | None] = []
        """For each entry; None for mount points that are known, and for `.` and `..`."""
        self.ready = trio.Event()
        self.scope = trio.CancelScope()

    @property
    def end(self) -> int:
        """The offset behind the last entry."""
        return self.entries[-1].slot + 1

    def position(self, offset: int) -> int | None:
        """The index of the first entry at or behind `offset`; None if it is not in here."""
        if not self.start <= offset < self.end:
            return None
        return bisect_left(self.entries, offset, key=_SLOT)


class _Keep(NamedTuple):
    """Of a page of entries: what its reader may see, and what the kernel may keep."""

    rights: int
    names: float
    """Seconds for which a name may be kept."""
    look_until: float
    """Until when everybody may be told of directories and links (trio's time)."""
    read_until: float
    """... and of files."""


class DirectoryHandle:
    """An open directory of a volume."""

    def __init__(
        self,
        node: Node,
        mount: Mount,
        fid: Fid,
        directory: Directory,
        caller: Caller,
        who: Identity,
        reader: DirectoryReader,
    ) -> None:
        self.node = node
        self.caller = caller
        self.who = who
        """In whose name it is read, from whatever process."""
        self._mount = mount
        self._fid = fid
        self._directory = directory
        self._reader = reader
        self._current: Window | None = None
        self._next: Window | None = None
        self._offered: list[Node] = []
        self._begun = False

    async def read(self, offset: int, room: int) -> list[Listing]:
        """At most `room` entries from `offset` on; none at the end.

        Reading from the start shows the directory as it is now, as far as that is known; from then
        on it stays as it was, but for what was changed through this mount. What changed between
        opening and the first reading has to be seen, too: the kernel has been told of that already,
        and would keep what it lists now.
        """
        if offset == 0 and (self._begun or self._outdated()):
            cache = self._reader.cache
            self._restart(await cache.directory(self._mount.volume, self._fid, self.who))
        self._begun = True
        while True:
            window, index = self._window_at(offset)
            if window is None:
                return []
            await window.ready.wait()
            rights = await self._reader.rights(self._mount, self._fid, self.who)
            self._drop_offered()
            self._read_ahead(window)
            if page := self._page(window, index, room, rights):
                return page
            offset = window.entries[min(index + room, len(window.entries)) - 1].slot + 1

    def _outdated(self) -> bool:
        vnode = self._reader.cache.peek(self._mount.volume, self._fid)
        return vnode is not None and vnode.data_version != self._directory.data_version

    def _restart(self, directory: Directory) -> None:
        self._cancel()
        self._current = self._next = None
        self._directory = directory

    def _window_at(self, offset: int) -> tuple[Window | None, int]:
        """The window in which `offset` lies; fetched now if it is none that is under way."""
        for window in (self._current, self._next):
            index = window.position(offset) if window is not None else None
            if index is not None:
                self._current = window
                if window is self._next:
                    self._next = None
                return window, index
        self._restart(self._directory)
        self._current = self._start_window(offset, FIRST_WINDOW)
        return self._current, 0

    def _start_window(self, offset: int, size: int) -> Window | None:
        entries = list(itertools.islice(self._directory.entries_from(offset), size))
        if not entries:
            return None
        window = Window(offset, entries, self._directory.data_version)
        self._reader.fill(window, self._mount, self._fid, self.who)
        return window

    def _read_ahead(self, window: Window) -> None:
        if self._next is None:
            self._next = self._start_window(window.end, WINDOW)

    def _page(self, window: Window, index: int, room: int, rights: int) -> list[Listing]:
        """The entries to hand out to somebody with these rights. Free of await."""
        now = trio.current_time()
        vnode = self._reader.cache.peek(self._mount.volume, self._fid)
        keep = _Keep(rights, 0.0, 0.0, 0.0)
        if vnode is not None:
            timeout = trust(self._directory, vnode, now)
            keep = _Keep(rights, timeout, vnode.look_until, vnode.read_until)
        page: list[Listing] = []
        offered = self._offered
        directory = self._directory
        edited = directory.data_version != window.version
        for position in range(index, min(index + room, len(window.entries))):
            dirent = window.entries[position]
            name = dirent.name
            if edited and directory.find(name) != (dirent.vnode, dirent.unique):
                continue  # we removed it since the window was cut out, or moved another there
            entry: Entry | None
            if name in (_DOT, _DOT_DOT):
                entry = self._dot_entry(name, now)
            else:
                node, entry = self._reader.entry(
                    self._mount, self._fid.volume, dirent, window.vnodes[position], now, keep
                )
                offered.append(node)
                if entry is None or isinstance(node, MountPoint):
                    # The kernel is to list it again: that shows what is known then, and keeps
                    # names of mount points, each of whose trees would be used by a LOOKUP.
                    self.node.pages_version = MIXED_PAGES
                if entry is None:
                    entry = unknown(node, dirent.vnode)
            page.append(Listing(name, entry, dirent.slot + 1))
        return page

    def _dot_entry(self, name: bytes, now: float) -> Entry:
        node = self.node
        if name == _DOT_DOT and node.inode != ROOT_INODE and node.parent is not None:
            node = node.parent
        if node.vnode is not None:
            return entry_of(node, node.vnode, now, 0.0, 0.0)
        return unknown(node, 1)

    def listed(self, listing: Listing) -> None:
        """The kernel has taken this entry."""
        if listing.name not in (_DOT, _DOT_DOT):
            nodes = self._reader.nodes
            nodes.hold(self.node, listing.name, nodes.peek(listing.entry.inode))

    def _drop_offered(self) -> None:
        self._reader.drop(self._offered)
        self._offered = []

    def _cancel(self) -> None:
        for window in (self._current, self._next):
            if window is not None:
                window.scope.cancel()

    def close(self) -> None:
        """Nobody is interested any more."""
        self._cancel()
        self._drop_offered()


class DirectoryReader:
    """What open directories share: how statuses are had and entries are made."""

    def __init__(
        self, cache: CacheManager, nodes: NodeTable, lookups: Lookups, background: Background
    ) -> None:
        self.cache = cache
        self.nodes = nodes
        self._lookups = lookups
        self._background = background

    async def rights(self, mount: Mount, fid: Fid, who: Identity) -> int:
        """What an identity may see of the entries of a directory, `READ`, `LOOK` or nothing."""
        try:
            vnode = await self.cache.status(mount.volume, fid, who)
            for needed in (READ, LOOK):
                if await self.cache.doors.allows(vnode, needed, who):
                    return needed
        except AfsError as exc:  # the names are known; of the rest nobody can say who may see it
            log.debug("nothing but the names of %s: %s", fid, exc)
        return 0

    def fill(self, window: Window, mount: Mount, fid: Fid, who: Identity) -> None:
        """Have the statuses of a window; in the background if servers must be asked."""
        missing = self._known(window, mount, fid.volume)
        if missing:
            self._background.start(self._fetch, window, mount, fid, who, missing)
        else:
            window.ready.set()

    def _known(self, window: Window, mount: Mount, volume_id: int) -> list[tuple[int, Fid]]:
        """Note what needs no call; return positions and fids of the rest."""
        now = trio.current_time()
        missing: list[tuple[int, Fid]] = []
        nodes, volume, peek = mount.nodes, mount.volume, self.cache.peek
        vnodes = window.vnodes
        for position, (_, name, number, unique) in enumerate(window.entries):
            node = nodes.get((number, unique))
            vnode = None
            if not isinstance(node, MountPoint) and name not in (_DOT, _DOT_DOT):
                vnode = node.vnode if node is not None else None
                if vnode is None or not vnode.valid(now):
                    fid = Fid(volume_id, number, unique)
                    vnode = peek(volume, fid)
                    if vnode is None or not vnode.valid(now):
                        missing.append((position, fid))
            vnodes.append(vnode)
        return missing

    async def _fetch(
        self,
        window: Window,
        mount: Mount,
        fid: Fid,
        who: Identity,
        missing: list[tuple[int, Fid]],
    ) -> None:
        try:
            with window.scope:
                wanted = [wanted for _, wanted in missing]
                found = await self.cache.statuses(mount.volume, fid, wanted, who)
                for (position, _), vnode in zip(missing, found, strict=True):
                    window.vnodes[position] = vnode
        finally:
            window.ready.set()

    def entry(
        self,
        mount: Mount,
        volume_id: int,
        dirent: DirectoryEntry,
        vnode: Vnode | AfsError | None,
        now: float,
        keep: _Keep,
    ) -> tuple[Node, Entry | None]:
        """The node of a name and its attributes as they are known now, if they are to be known."""
        key = (dirent.vnode, dirent.unique)
        node = mount.nodes.get(key)
        if vnode is None or isinstance(vnode, AfsError):
            if node is None:
                fid = Fid(volume_id, dirent.vnode, dirent.unique)
                node = self._lookups.new_node(mount, fid, key)
        elif node is None or node.vnode is not vnode:
            node = self._lookups.child(mount, vnode)
        if isinstance(node, MountPoint):
            timeout = self._lookups.name_timeout(node, keep.names)
            return node, self._lookups.mountpoint_entry(
                node, now, timeout, keep.look_until, looked=False
            )
        if node.vnode is None or isinstance(vnode, AfsError):
            return node, None
        needed, until = LOOK, keep.look_until
        if node.vnode.status.kind is _FILE:
            needed, until = READ, keep.read_until
        if keep.rights & needed != needed:
            return node, None
        return node, entry_of(node, node.vnode, now, keep.names, until)

    def root_entry(self, node: Node) -> Entry:
        """What a listing shows of a name in the dynamic root."""
        return self._lookups.root_listing_entry(node)

    def drop(self, offered: list[Node]) -> None:
        """Of these nodes the kernel did not take all."""
        for node in offered:
            if not node.nlookup:
                self.nodes.discard(node)


class RootHandle:
    """The open dynamic root: a snapshot of its names, which asks nobody."""

    def __init__(
        self,
        root: DynamicRoot,
        roots: CellRoots,
        reader: DirectoryReader,
        caller: Caller,
        who: Identity,
    ) -> None:
        self.node = root
        self.caller = caller
        self.who = who
        self._roots = roots
        self._reader = reader
        self._names = self._all_names()
        self._offered: list[Node] = []

    async def read(self, offset: int, room: int) -> list[Listing]:
        """At most `room` entries from `offset` on; none at the end."""
        self._drop_offered()
        if offset == 0:
            self._names = self._all_names()
        page = []
        for position in range(offset, min(offset + room, len(self._names))):
            name = self._names[position]
            if name in (_DOT, _DOT_DOT):
                entry = self._roots.root_entry()
            else:
                node = self._roots.listed_node(name)
                self._offered.append(node)
                entry = self._reader.root_entry(node)
            page.append(Listing(name, entry, position + 1))
        return page

    def listed(self, listing: Listing) -> None:
        """The kernel has taken this entry."""
        if listing.name not in (_DOT, _DOT_DOT):
            nodes = self._reader.nodes
            nodes.hold(self.node, listing.name, nodes.peek(listing.entry.inode))

    def _all_names(self) -> list[bytes]:
        return [_DOT, _DOT_DOT, *self._roots.names()]

    def _drop_offered(self) -> None:
        self._reader.drop(self._offered)
        self._offered = []

    def close(self) -> None:
        """Nobody is interested any more."""
        self._drop_offered()
