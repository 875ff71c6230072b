"""What every answer about a mount begins with: what is mounted where, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager
    from afsfuse.control.verbs import Peer
    from afsfuse.vfs.filesystem import FileSystem


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount, as those know it who answer for it."""

    filesystem: FileSystem
    cache: CacheManager
    directory: str
    """Where it is mounted."""
    device: Callable[[], str | None]
    """As what (`major:minor`); None before it is mounted."""
    identify: Callable[[Peer], Identity]
    """Who asks. Raises `ControlRefused` where that is not clear."""

    def shown(self, path: str) -> str:
        """A path from the mount's root, as people know it."""
        return self.directory.rstrip("/") + path.rstrip("/") or "/"
