"""The way up: how the layer above hears that something which it shows has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.cache.vnodes import Vnode


class KernelListener(Protocol):
    """Told of changes to what the kernel may hold.

    All methods are called in the middle of the cache's sections that must not be interrupted:
    they must not block, await, raise, or call the cache back. Queue the work.
    """

    def interested(self, vnode: Vnode) -> bool:
        """Whether the kernel holds this vnode. If so it stays in the table and is revalidated."""
        ...

    def promise_broken(self, vnode: Vnode) -> None:
        """The attributes of the vnode may be different from now on."""
        ...

    def data_changed(self, vnode: Vnode) -> None:
        """The bytes of a file or symlink are of another version, or could not be checked."""
        ...

    def version_stored(self, vnode: Vnode, before: int) -> None:
        """The version of a file that comes after `before` was made by our own writers alone."""
        ...

    def names_changed(self, directory: Vnode, names: Iterable[bytes] | None) -> None:
        """These names appeared, vanished or mean another file; None: nobody knows which."""
        ...

    def rights_narrowed(self, directory: Vnode) -> None:
        """Anybody may do less in this directory than before: nobody may be let in unasked."""
        ...

    def vnode_dropped(self, vnode: Vnode) -> None:
        """The vnode has left the table; it hears of no more breaks."""
        ...


class NullListener:
    """Nobody is listening."""

    def interested(self, vnode: Vnode) -> bool:
        """Hold nothing."""
        return False

    def promise_broken(self, vnode: Vnode) -> None:
        """Ignore it."""

    def data_changed(self, vnode: Vnode) -> None:
        """Ignore it."""

    def version_stored(self, vnode: Vnode, before: int) -> None:
        """Ignore it."""

    def names_changed(self, directory: Vnode, names: Iterable[bytes] | None) -> None:
        """Ignore it."""

    def rights_narrowed(self, directory: Vnode) -> None:
        """Ignore it."""

    def vnode_dropped(self, vnode: Vnode) -> None:
        """Ignore it."""
