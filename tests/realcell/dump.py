"""Volume dumps: written from a description of a tree, for `vos restore`, with no AFS client, and
read back from `vos dump`, to see what a server really holds.

A dump is a dump header, a volume header, vnodes (directories, then the others) and an end mark.
Each field is a tag byte and a big-endian value. Source of tags and their order: OpenAFS
src/volser/dump.h and dumpstuff.c; of vnode numbers and types: src/vol/vnode.h; of the ACL: acl.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.realcell import dirpages
from tests.realcell.contents import (
    Acl,
    Content,
    Directory,
    File,
    MountPoint,
    Node,
    Symlink,
    pieces,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGIN_MAGIC, _END_MAGIC, _VERSION = 0xB3A11322, 0x3A214B6E, 1
_DUMP_HEADER, _VOLUME_HEADER, _VNODE, _DUMP_END = b"\1", b"\2", b"\3", b"\4"
_TYPE_FILE, _TYPE_DIRECTORY, _TYPE_SYMLINK = 1, 2, 3
_ACL_BYTES = 192
_ACL_MAX_ENTRIES = 20
_MOUNT_POINT_MODE, _SYMLINK_MODE = 0o644, 0o755
_LARGEST_32_BIT = 0xFFFFFFFF
_WEEK_DAYS = 7
ROOT_VNODE = 1


@dataclass(frozen=True)
class Numbered:
    """A node with the numbers it gets in the volume."""

    vnode: int
    unique: int
    parent: int
    node: Node


class Numbering:
    """Gives every node of a tree its vnode number and uniquifier, in the tree's order: odd
    numbers to directories, even ones to all else. The root is 1.1."""

    def __init__(self, root: Directory) -> None:
        self.directories: list[tuple[Numbered, list[tuple[bytes, int, int]]]] = []
        self.others: list[Numbered] = []
        self.by_path: dict[tuple[bytes, ...], Numbered] = {}
        self.next_unique = 1
        self._number(root, (), parent=None)

    def _number(self, node: Node, path: tuple[bytes, ...], parent: Numbered | None) -> Numbered:
        """Number a node and what is below it."""
        unique = self.next_unique
        self.next_unique += 1
        above = parent.vnode if parent else 0
        if not isinstance(node, Directory):
            numbered = Numbered(2 * len(self.others) + 2, unique, above, node)
            self.others.append(numbered)
        else:
            numbered = Numbered(2 * len(self.directories) + 1, unique, above, node)
            up = parent or numbered
            names = [
                (b".", numbered.vnode, numbered.unique),
                (b"..", up.vnode, up.unique),
            ]
            self.directories.append((numbered, names))
            for name, child in node.entries.items():
                below = self._number(child, (*path, name), numbered)
                names.append((name, below.vnode, below.unique))
        self.by_path[path] = numbered
        return numbered


def write(root: Directory, *, name: str, quota: int = 0, data_version: int = 1) -> Iterator[bytes]:
    """The dump of a volume with this tree, a piece at a time.

    `quota` is in KiB, 0 for none. `vos restore` gives the volume its own id and name. Raises
    ValueError for an access list that is too long, Refused for names that no directory can hold."""
    numbering = Numbering(root)
    directories = [(numbered, dirpages.build(names)) for numbered, names in numbering.directories]
    blocks = sum(_kib(len(pages)) for _, pages in directories)
    blocks += sum(_kib(_length(numbered.node)) for numbered in numbering.others)
    count = len(directories) + len(numbering.others)
    yield _headers(name, quota, blocks, count, numbering.next_unique + 1)
    for numbered, pages in directories:
        yield _directory_vnode(numbered, pages, data_version)
    for numbered in numbering.others:
        yield from _other_vnode(numbered, data_version)
    yield _DUMP_END + struct.pack("!I", _END_MAGIC)


def _kib(length: int) -> int:
    return (length + 1023) // 1024


def _length(node: Node) -> int:
    return node.content.length if isinstance(node, File) else len(_link_body(node))


def _link_body(node: Node) -> bytes:
    if isinstance(node, Symlink):
        return node.target
    assert isinstance(node, MountPoint)
    return node.body


def _int(tag: str, value: int) -> bytes:
    return tag.encode() + struct.pack("!I", value)


def _short(tag: str, value: int) -> bytes:
    return tag.encode() + struct.pack("!H", value)


def _byte(tag: str, value: int) -> bytes:
    return tag.encode() + bytes([value])


def _string(tag: str, value: str) -> bytes:
    return tag.encode() + value.encode() + b"\0"


def _headers(name: str, quota: int, blocks: int, count: int, next_unique: int) -> bytes:
    """Dump header and volume header; ids are placeholders which `vos restore` replaces."""
    now = 1_700_000_000
    volume_id = 1
    return b"".join(
        [
            _DUMP_HEADER + struct.pack("!II", _BEGIN_MAGIC, _VERSION),
            _int("v", volume_id) + _string("n", name),
            b"t" + struct.pack("!HII", 2, 0, now),
            _VOLUME_HEADER,
            _int("i", volume_id) + _int("v", 1) + _string("n", name),
            _byte("s", 1) + _byte("b", 1),  # in service, blessed
            _int("u", next_unique) + _byte("t", 0),  # type 0: read-write
            _int("p", volume_id) + _int("c", 0) + _int("q", quota) + _int("m", 0),
            _int("d", blocks) + _int("f", count) + _int("a", 0) + _int("o", 0),
            _int("C", now) + _int("A", 0) + _int("U", now) + _int("E", 0) + _int("B", 0),
            _string("O", "") + _string("M", ""),
            b"W" + struct.pack(f"!H{_WEEK_DAYS}I", _WEEK_DAYS, *[0] * _WEEK_DAYS),
            _int("D", 0) + _int("Z", 0),
        ]
    )


def _vnode(
    numbered: Numbered, kind: int, links: int, mode: int, mtime: int, owner: int, version: int
) -> bytes:
    return b"".join(
        [
            _VNODE + struct.pack("!II", numbered.vnode, numbered.unique),
            _byte("t", kind) + _short("l", links) + _int("v", version) + _int("m", mtime),
            _int("a", owner) + _int("o", owner) + _short("b", mode),
            _int("p", numbered.parent) + _int("s", mtime),
        ]
    )


def _directory_vnode(numbered: Numbered, pages: bytes, version: int) -> bytes:
    directory = numbered.node
    assert isinstance(directory, Directory)
    below = sum(isinstance(child, Directory) for child in directory.entries.values())
    head = _vnode(numbered, _TYPE_DIRECTORY, 2 + below, directory.mode, directory.mtime, 0, version)
    return head + b"A" + acl_bytes(directory.acl) + _int("f", len(pages)) + pages


def _other_vnode(numbered: Numbered, version: int) -> Iterator[bytes]:
    node = numbered.node
    assert not isinstance(node, Directory)
    if isinstance(node, File):
        yield _vnode(numbered, _TYPE_FILE, 1, node.mode, node.mtime, node.owner, version)
        yield _file_length(node.content)
        yield from pieces(node.content)
        return
    mode = _MOUNT_POINT_MODE if isinstance(node, MountPoint) else _SYMLINK_MODE
    body = _link_body(node)
    yield _vnode(numbered, _TYPE_SYMLINK, 1, mode, node.mtime, 0, version)
    yield _int("f", len(body)) + body


def _file_length(content: Content) -> bytes:
    if content.length > _LARGEST_32_BIT:
        return b"h" + struct.pack("!Q", content.length)
    return _int("f", content.length)


def acl_bytes(acl: Acl) -> bytes:
    """An ACL as the server stores it: 192 bytes; negative entries grow from the end of the used
    part, after the positive ones."""
    total = len(acl.positive) + len(acl.negative)
    if total > _ACL_MAX_ENTRIES:
        raise ValueError(f"an ACL has {_ACL_MAX_ENTRIES} entries at most, not {total}")
    size = 20 + 8 * max(1, total)
    head = struct.pack("!5i", size, 1, total, len(acl.positive), len(acl.negative))
    entries = [*acl.positive.items(), *reversed(list(acl.negative.items()))]
    packed = b"".join(struct.pack("!ii", who, rights) for who, rights in entries)
    return (head + packed).ljust(_ACL_BYTES, b"\0")
