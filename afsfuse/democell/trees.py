"""Contents of a volume, described by nested mappings.

::

    plant(volume, {b"README": b"hello\\n", b"folder": {b"link": Link(b"../README")}})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.democell import names
from afsfuse.interfaces.fileserver import FileType, StoreMask, StoreStatus

if TYPE_CHECKING:
    from afsfuse.democell.vnode import Vnode
    from afsfuse.democell.volume import Volume

_ADMINISTRATOR = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: bytes


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where another volume is seen: `#volume.`, or `%volume.` for the read/write one."""

    body: bytes


Tree = Mapping[bytes, "Tree | Link | MountPoint | bytes"]


def plant(volume: Volume, tree: Tree, directory: Vnode | None = None) -> None:
    """Put these names into a volume, below its root or a directory of it."""
    directory = directory or volume.root
    for name, content in tree.items():
        match content:
            case Link(target):
                _make(volume, directory, name, FileType.SYMLINK, 0o755, target)
            case MountPoint(body):
                _make(volume, directory, name, FileType.SYMLINK, 0o644, body)
            case bytes():
                _make(volume, directory, name, FileType.FILE, 0o644, content)
            case _:
                made = _make(volume, directory, name, FileType.DIRECTORY, 0o755)
                plant(volume, content, made)
        directory = volume.vnodes[directory.number]


def _make(
    volume: Volume, directory: Vnode, name: bytes, kind: FileType, mode: int, data: bytes = b""
) -> Vnode:
    status = StoreStatus(StoreMask.MODE, unix_mode_bits=mode)
    _, made = names.create(
        volume, directory, name, kind, status=status, data=data, who=_ADMINISTRATOR
    )
    if kind is FileType.FILE:
        made.version = 1
    return made
