"""A journal in memory, which tells what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.cache.journal import DirtyKey, JournalLost, RecoveredFile, path_after

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from afsfuse.cache.journal import Buffer


class MemoryJournal:
    """Keeps everything, and nothing beyond the end of the test."""

    def __init__(self) -> None:
        self.files: dict[DirtyKey, RecoveredFile] = {}
        self.records: list[bytes] = []

    def opened(self, key: DirtyKey, base_version: int, length: int, path: str) -> None:
        assert key not in self.files
        self.files[key] = RecoveredFile(key, base_version, length, path)

    def written(self, key: DirtyKey, offset: int, data: Buffer) -> int | None:
        self.files[key].extents.append((offset, bytes(data)))
        self.records.append(bytes(data))
        return len(self.records) - 1

    def resized(self, key: DirtyKey, length: int) -> None:
        self.files[key].length = length

    def renamed(self, old: str, new: str) -> None:
        for file in self.files.values():
            file.path = path_after(file.path, old, new)

    def mark(self) -> int:
        return len(self.records)

    def stored(
        self,
        key: DirtyKey,
        start: int,
        end: int,
        mark: int,
        version: int,
        beside: Sequence[DirtyKey] = (),
    ) -> None:
        assert mark <= len(self.records)
        self.files[key].base_version = version

    def read(self, token: int, start: int, size: int) -> bytes:
        data = self.records[token][start : start + size]
        if len(data) != size:
            raise JournalLost("it was never written")
        return data

    def clean(self, key: DirtyKey) -> None:
        del self.files[key]

    def recovered(self) -> list[RecoveredFile]:
        return []

    def taking_over(self, keys: Collection[DirtyKey]) -> None:
        raise AssertionError("nothing was left")

    def taken_over(self, key: DirtyKey) -> None:
        assert key in self.files

    def forgotten(self, key: DirtyKey) -> None:
        raise AssertionError("nothing was left")

    def close(self) -> None:
        assert not self.files

    def kept(self) -> list[RecoveredFile]:
        """What another daemon would find."""
        return list(self.files.values())
