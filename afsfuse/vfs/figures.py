"""What the vfs counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afsfuse.vfs.inodes import NodeStatistics


@dataclass(frozen=True, slots=True)
class VfsStatistics:
    """A snapshot of what the vfs holds."""

    nodes: NodeStatistics
    open_files: int
    open_directories: int
