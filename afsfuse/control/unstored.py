"""What was written through a mount and is not on its server: told to commands, and given up."""

from __future__ import annotations

import logging
import os.path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.writeback import Unstored

log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Something that keeps changes until they are stored."""

    def unstored(self) -> list[Unstored]: ...

    def discard(self, path: str, who: Identity | None) -> int: ...


class UnstoredFiles:
    """The changes that one mount has not stored yet, under the paths that people know."""

    def __init__(self, keepers: Sequence[Keeper], directory: str) -> None:
        """`directory` is where the mount is."""
        self._keepers = keepers
        self._directory = directory.rstrip("/")

    def listed(self, who: Identity | None) -> list[dict[str, Any]]:
        """All changes of an identity, or of everybody: oldest first."""
        return [
            {
                "path": self._shown(one),
                "cell": one.cell,
                "volume": one.volume,
                "identity": one.who.text,
                "bytes": one.size,
                "since": one.since,
                "error": one.error,
                "next_try": one.next_try,
            }
            for keeper in self._keepers
            for one in keeper.unstored()
            if who in (None, one.who)
        ]

    def of_path(self, path: str, who: Identity) -> list[dict[str, Any]]:
        """The changes of an identity to the file at a path from the mount's root."""
        shown = self._directory + path
        return [one for one in self.listed(who) if one["path"] == shown]

    def discard(self, path: str, who: Identity | None) -> list[dict[str, Any]]:
        """Give up the changes of a file, of an identity or of everybody; returns what is lost."""
        path = os.path.normpath(path)
        lost = []
        for keeper in self._keepers:
            for one in keeper.unstored():
                if who not in (None, one.who) or self._shown(one) != path:
                    continue
                lost.append(one)
                keeper.discard(one.path, one.who)
                log.warning("%s: %d bytes of %s were given up by a person", path, one.size, one.who)
        return [{"path": path, "identity": one.who.text, "bytes": one.size} for one in lost]

    def _shown(self, one: Unstored) -> str:
        return self._directory + one.path
