"""What a volume is to contain: a tree described by values, with contents that need no memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BLOCK_BYTES = 1 << 20
EPOCH = 1_700_000_000  # the modification time of everything that says no other


class Content(Protocol):
    """The bytes of a file, produced on demand and always the same."""

    @property
    def length(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """The bytes at `offset`; fewer than `size` only at the end."""
        ...


@dataclass(frozen=True)
class Bytes:
    """Content that is held."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


@dataclass(frozen=True)
class PseudoRandom:
    """Content computed from a seed: block i of 1 MiB is SHAKE-128 of "seed/i"."""

    seed: str
    length: int

    def block(self, number: int) -> bytes:
        """One block, whole even where the content ends within it."""
        return hashlib.shake_128(f"{self.seed}/{number}".encode()).digest(BLOCK_BYTES)

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.length)
        if offset >= end:
            return b""
        first = offset // BLOCK_BYTES
        blocks = b"".join(self.block(i) for i in range(first, (end - 1) // BLOCK_BYTES + 1))
        return blocks[offset - first * BLOCK_BYTES : end - first * BLOCK_BYTES]


@dataclass(frozen=True)
class Sparse:
    """Zeros, but for the marks: offset -> bytes there. Marks do not overlap."""

    length: int
    marks: Mapping[int, bytes]

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.length - offset))
        piece = bytearray(size)
        for at, data in self.marks.items():
            start, end = max(at, offset), min(at + len(data), offset + size)
            if start < end:
                piece[start - offset : end - offset] = data[start - at : end - at]
        return bytes(piece)


def pieces(content: Content, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The whole content, a piece at a time."""
    for offset in range(0, content.length, size):
        yield content.read(offset, size)


def sha256(content: Content) -> str:
    """The hash that any reader of the file must come to."""
    digest = hashlib.sha256()
    for piece in pieces(content):
        digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class File:
    content: Content
    mode: int = 0o644
    mtime: int = EPOCH
    owner: int = 0


@dataclass(frozen=True)
class Symlink:
    target: bytes
    mtime: int = EPOCH


@dataclass(frozen=True)
class MountPoint:
    """A mount point; `body` as it is stored, such as b"#root.cell." (the final dot included)."""

    body: bytes
    mtime: int = EPOCH


@dataclass(frozen=True)
class Acl:
    """Rights by number of user or group. Source of the bits: prs_fs.h."""

    positive: Mapping[int, int]
    negative: Mapping[int, int] = field(default_factory=dict)


ANYUSER, AUTHUSER, ADMINISTRATORS = -101, -102, -204  # Source: ptserver's ptconst
READ, LOOKUP, ALL = 1, 8, 127
OPEN_TO_ALL = Acl({ANYUSER: ALL})


@dataclass(frozen=True)
class Directory:
    """A directory; names are laid down in the order of the mapping."""

    entries: Mapping[bytes, Node] = field(default_factory=dict)
    mode: int = 0o755
    mtime: int = EPOCH
    acl: Acl = OPEN_TO_ALL


Node = File | Symlink | MountPoint | Directory
