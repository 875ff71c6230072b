"""Telling the kernel what it must ask again.

The cache says what became of vnodes and names; here that turns into inode numbers and into the
names that the kernel really holds, and goes up to a `KernelNotifier`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import trio

from afsfuse.model import Inode
from afsfuse.vfs.inodes import MIXED_PAGES, NO_PAGES, Node, holders
from afsfuse.vfs.names import SYS_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.cache import Vnode
    from afsfuse.vfs.inodes import NodeTable


class KernelNotifier(Protocol):
    """Who talks to the kernel. Every method returns at once; the work is done elsewhere.

    Invalidating from the event loop can deadlock for ever: the kernel may hold a lock for a
    request that only the event loop can answer.
    """

    def invalidate_attributes(self, inode: Inode) -> None:
        """The attributes must be asked again before they are used."""
        ...

    def invalidate_data(self, inode: Inode) -> None:
        """The attributes and all pages must go."""
        ...

    def invalidate_name(self, parent: Inode, name: bytes) -> None:
        """The name, or the knowledge that there is none, must be looked up again."""
        ...


class NullNotifier:
    """There is no kernel."""

    def invalidate_attributes(self, inode: Inode) -> None:
        """Nothing to do."""

    def invalidate_data(self, inode: Inode) -> None:
        """Nothing to do."""

    def invalidate_name(self, parent: Inode, name: bytes) -> None:
        """Nothing to do."""


class KernelInvalidator:
    """The listener of the cache. Synchronous; never raises, blocks, or calls the cache back."""

    def __init__(
        self, nodes: NodeTable, notifier: KernelNotifier, sysnames: Sequence[bytes]
    ) -> None:
        """`sysnames`: what `@sys` stands for, see `VfsOptions`."""
        self._nodes = nodes
        self._notifier = notifier
        self._sysnames = sysnames

    def interested(self, vnode: Vnode) -> bool:
        """Whether the kernel holds a node that shows this vnode."""
        return vnode.holder is not None

    def promise_broken(self, vnode: Vnode) -> None:
        """The attributes may be different from now on.

        So may be the names of a directory that somebody has open. Whoever lists it again from the
        start asks the kernel, which looks at the time of the last change, in whole seconds, and
        does not wait for us to find out what has changed.
        """
        for node in holders(vnode):
            if node.handles and node.is_directory and node.pages_version != NO_PAGES:
                self._notifier.invalidate_data(node.inode)
            else:
                self._notifier.invalidate_attributes(node.inode)

    def data_changed(self, vnode: Vnode) -> None:
        """Pages of the old version must go, if it was ever opened."""
        for node in holders(vnode):
            _outdated(self._notifier, node)

    def version_stored(self, vnode: Vnode, before: int) -> None:
        """The pages of the version before, with what the kernel has written, are those of now."""
        for node in holders(vnode):
            if node.pages_version == before:
                node.pages_version = vnode.status.data_version

    def names_changed(self, directory: Vnode, names: Iterable[bytes] | None) -> None:
        """These names mean something else now; None: any of them may."""
        changed = None if names is None else list(names)
        for node in holders(directory):
            if node.pages_version != NO_PAGES:
                _outdated(self._notifier, node)
            stale = _suspects(node, directory) if changed is None else self._with_sys(changed)
            for name in stale:
                if self._nodes.unhold(node, name):
                    self._notifier.invalidate_name(node.inode, name)

    def rights_narrowed(self, directory: Vnode) -> None:
        """All names in it, and what stands behind them, must be asked for by each user.

        Names of directories, too: a process that works in one loses its path until somebody looks
        the name up again, but else everybody would go through it.
        """
        for node in holders(directory):
            for child in (node.names or {}).values():
                self._notifier.invalidate_attributes(child.inode)
            for name in [*(node.names or ()), *(node.absent or ())]:
                if self._nodes.unhold(node, name):
                    self._notifier.invalidate_name(node.inode, name)

    def vnode_dropped(self, vnode: Vnode) -> None:
        """The cache forgot the vnode; nodes that showed it ask for it again."""
        for node in holders(vnode):
            self._nodes.show(node, None)

    def _with_sys(self, names: list[bytes]) -> Iterator[bytes]:
        """The names, and those ending in `@sys` that may have stood for them."""
        for name in names:
            yield name
            yield from _aliases(name, self._sysnames)


Settle = Callable[[Iterable[Inode]], Awaitable[object]]


class OwnChanges:
    """Tells the kernel of changes that it asked for itself, as far as it cannot know of them.

    The node through which a change was asked shows it already. What the kernel does not know is
    that other nodes show the same directory, or the same file, and which names end in `@sys`.
    """

    def __init__(
        self,
        nodes: NodeTable,
        notifier: KernelNotifier,
        sysnames: Sequence[bytes],
        settle: Settle | None = None,
    ) -> None:
        """`settle` waits, for a short bounded time, until the kernel has done what it was told."""
        self._nodes = nodes
        self._notifier = notifier
        self._sysnames = sysnames
        self._settle = settle
        self._told: set[Inode] = set()

    async def settled(self) -> None:
        """Before the answer to a change: who made it shall not see the old state elsewhere."""
        if self._told:
            told, self._told = self._told, set()
            if self._settle is not None:
                await self._settle(told)

    def name_changed(self, directory: Vnode | None, name: bytes, asked: Node | None) -> None:
        """A name came, went or means something else, at the request of `asked`, if of anybody."""
        for node in () if directory is None else holders(directory):
            if node is not asked:
                self._drop(node, name)
                _outdated(self._notifier, node)
                if asked is not None:
                    self._told.add(node.inode)
            for alias in _aliases(name, self._sysnames):
                self._drop(node, alias)

    def name_gone(self, directory: Vnode | None, name: bytes) -> None:
        """A name went, and the kernel, which did not ask for that, knows nothing of it yet."""
        for node in () if directory is None else holders(directory):
            for each in (name, *_aliases(name, self._sysnames)):
                self._drop(node, each)
            _outdated(self._notifier, node)
            self._told.add(node.inode)

    def file_changed(self, file: Vnode | None, asked: Node | None) -> None:
        """A file has one name more or less."""
        for node in () if file is None else holders(file):
            if node is not asked:
                self._notifier.invalidate_attributes(node.inode)
                self._told.add(node.inode)

    def name_closed(self, parent: Node, name: bytes, child: Node) -> None:
        """What stands behind a name is not for everybody any more who was let in before."""
        self._notifier.invalidate_attributes(child.inode)
        self._drop(parent, name)

    def _drop(self, node: Node, name: bytes) -> None:
        if self._nodes.unhold(node, name):
            self._notifier.invalidate_name(node.inode, name)


def _outdated(notifier: KernelNotifier, node: Node) -> None:
    """What the kernel knows of a node is old."""
    if node.pages_version == NO_PAGES:
        notifier.invalidate_attributes(node.inode)
    else:
        # Whoever opens it before the kernel is told must not find it kept, be it that the version
        # is the same, as it can be in a volume that was restored.
        node.pages_version = MIXED_PAGES
        notifier.invalidate_data(node.inode)


def _aliases(name: bytes, sysnames: Sequence[bytes]) -> Iterator[bytes]:
    """The names ending in `@sys` that may stand for a name."""
    for sysname in sysnames:
        if name.endswith(sysname):
            yield name[: -len(sysname)] + SYS_SUFFIX


def _suspects(node: Node, vnode: Vnode) -> list[bytes]:
    """What the kernel holds below a directory and can not be shown to be right.

    When the cache has the version of a valid status, that is the judge. Otherwise nobody can be
    asked, as when a server went down: then everything goes but subdirectories. Dropping the name
    of a directory takes the path away from the processes that work in it, names of directories
    seldom change, and one that was removed still shows, since its own promise is void as well.
    """
    current = vnode.directory if vnode.valid(trio.current_time()) else None
    names, absent = node.names or {}, node.absent or {}
    if current is not None and current.data_version == vnode.status.data_version:
        return [name for name, child in names.items() if current.find(name) != child.key] + [
            name for name in absent if current.find(name) is not None or name.endswith(SYS_SUFFIX)
        ]
    return [name for name, child in names.items() if not child.is_directory] + list(absent)
