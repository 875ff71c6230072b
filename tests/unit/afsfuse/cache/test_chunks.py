"""The chunk store: its bound, its order, and joining without needless copies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.chunks import Chunk, ChunkStore, FileData, join
from afsfuse.cache.disk import NoFile
from afsfuse.cache.vnodes import Vnode
from tests.unit.afsfuse.cache.fakes import fid, make_status, make_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.cache.journal import Buffer

SIZE = 4096


def make_file(length: int = 10 * SIZE, number: int = 2) -> FileData:
    vnode = Vnode(make_volume(), fid(number), make_status(length=length))
    vnode.data = FileData(vnode, 1, length)
    return vnode.data


def fill(store: ChunkStore, file: FileData, first: int, count: int) -> list[Chunk]:
    chunks = []
    for index, buffer in enumerate(store.buffers(file, first, count), first):
        store.reserve(len(buffer))
        buffer[:] = bytes([index % 251]) * len(buffer)
        chunks.append(Chunk(file, index, buffer))
        store.add(chunks[-1])
    return chunks


@pytest.mark.parametrize("size", [0, 1, 4095, 2048, 5000, 2 << 20])
def test_chunk_sizes_that_cannot_be(size: int) -> None:
    with pytest.raises(ValueError, match="no power of two"):
        ChunkStore(1 << 20, size)


def test_the_bound_is_kept_by_dropping_the_least_used() -> None:
    store = ChunkStore(4 * SIZE, SIZE)
    file = make_file()
    chunks = fill(store, file, 0, 4)
    store.touch(chunks[0])
    fill(store, file, 4, 2)
    assert sorted(file.chunks) == [0, 3, 4, 5]
    assert store.used == 4 * SIZE
    assert store.evicted == 2
    assert len(store) == 4
    store.touch(chunks[1])  # it has left and stays out
    assert sorted(file.chunks) == [0, 3, 4, 5]


def test_room_is_made_before_a_fetch_and_given_back_after_it() -> None:
    store = ChunkStore(4 * SIZE, SIZE)
    file = make_file()
    fill(store, file, 0, 4)
    store.reserve(2 * SIZE)
    assert store.used == 4 * SIZE
    assert len(store) == 2
    store.release(2 * SIZE)
    assert store.used == 2 * SIZE


def test_dropping_a_file_leaves_the_others() -> None:
    store = ChunkStore(100 * SIZE, SIZE)
    one, two = make_file(number=2), make_file(number=4)
    fill(store, one, 0, 3)
    fill(store, two, 0, 3)
    store.drop(one)
    assert not one.chunks
    assert len(two.chunks) == 3
    assert store.used == 3 * SIZE


def test_the_last_buffer_ends_where_the_file_ends() -> None:
    store = ChunkStore(100 * SIZE, SIZE)
    file = make_file(length=2 * SIZE + 100)
    assert [len(buffer) for buffer in store.buffers(file, 0, 5)] == [SIZE, SIZE, 100]
    assert [len(buffer) for buffer in store.buffers(file, 2, 1)] == [100]
    assert store.buffers(file, 3, 1) == []


def test_one_chunk_is_not_copied() -> None:
    store = ChunkStore(100 * SIZE, SIZE)
    (chunk,) = fill(store, make_file(), 0, 1)
    view = join([chunk], 10, 100)
    assert isinstance(view, memoryview)
    assert view.obj is chunk.buffer
    assert len(view) == 100


@pytest.mark.parametrize(("start", "size"), [(0, 3 * SIZE), (1, 2 * SIZE), (SIZE - 1, SIZE + 2)])
def test_chunks_are_joined(start: int, size: int) -> None:
    store = ChunkStore(100 * SIZE, SIZE)
    chunks = fill(store, make_file(length=3 * SIZE), 0, 3)
    whole = b"".join(chunk.buffer for chunk in chunks)
    used = chunks[: (start + size - 1) // SIZE + 1]
    assert join(used, start, size) == whole[start : start + size]


def test_a_view_outlives_its_chunk() -> None:
    store = ChunkStore(SIZE, SIZE)
    file = make_file()
    (chunk,) = fill(store, file, 7, 1)
    view = join([chunk], 0, SIZE)
    fill(store, file, 8, 1)
    assert 7 not in file.chunks
    assert bytes(view) == bytes([7]) * SIZE


def test_chunks_follow_what_is_stored() -> None:
    """A random walk of stores and cuts, against the bytes of the file."""
    rng = random.Random(5)
    store = ChunkStore(1 << 20, 4096)
    content = bytearray(rng.randbytes(10_000))
    file = make_file(len(content))
    for index in range(3):
        buffer = bytearray(content[index * 4096 : (index + 1) * 4096])
        store.reserve(len(buffer))
        store.add(Chunk(file, index, buffer))
    for version in range(2, 300):
        if rng.random() < 0.3:
            length = rng.randrange(len(content) + 1)
            del content[length:]
            store.cut(file, length)
        pieces = []
        for _ in range(rng.randrange(3)):
            start, data = rng.randrange(30_000), rng.randbytes(rng.choice((1, 100, 4096, 9000)))
            if start > len(content):
                content.extend(bytes(start - len(content)))
            content[start : start + len(data)] = data
            pieces.append((start, memoryview(data)))
        span = (0, 0)
        if len(pieces) == 1 and rng.random() < 0.5:  # the middle of it is not known
            ((start, view),) = pieces
            span = start, start + len(view)
            first, last = sorted(rng.randrange(len(view) + 1) for _ in range(2))
            ends = (start, view[:first]), (start + last, view[last:])
            pieces = [(start, piece) for start, piece in ends if piece]
        store.advance(file, version, len(content), pieces, span)
        assert (file.data_version, file.length) == (version, len(content))
        for index, chunk in file.chunks.items():
            assert bytes(chunk.buffer) == content[index * 4096 : (index + 1) * 4096]
        assert store.used == sum(len(chunk.buffer) for chunk in file.chunks.values())
        assert len(store) == len(file.chunks)
        if rng.random() < 0.1 and file.chunks:
            store._replace(file, rng.choice(list(file.chunks)), None)
    assert file.chunks


class Paper(NoFile):
    """A disk that remembers what it was given, of this version and of those that follow."""

    def __init__(self) -> None:
        self.chunks: dict[int, bytes] = {}
        self.following: Paper | None = None

    def put(self, first: int, buffers: Sequence[Buffer]) -> None:
        if self.following is None:
            for index, buffer in enumerate(buffers, first):
                self.chunks.setdefault(index, bytes(buffer))

    def moved(
        self, version: int, before: int, length: int, changed: Sequence[tuple[int, int]]
    ) -> NoFile:
        self.following = Paper()
        return self.following


@pytest.mark.parametrize("limit", [1, 3, 6])
@pytest.mark.parametrize("length", [6 * SIZE, 6 * SIZE + 100])
def test_what_leaves_for_what_was_stored_is_of_its_version(limit: int, length: int) -> None:
    """Chunks are evicted, first those of the very range that was stored: the disk must not have
    their bytes for those of the new version.
    """
    rng = random.Random(limit)
    for _ in range(100):
        store = ChunkStore(limit * SIZE, SIZE)
        file = make_file(length)
        file.disk = paper = Paper()
        content = bytearray(bytes([i // SIZE % 251 for i in range(length)]))
        fill(store, file, rng.randrange(3), rng.randrange(1, 4))
        start, end = sorted(rng.randrange(length + SIZE) for _ in range(2))
        middle = rng.randrange(start, end + 1)
        new = rng.randbytes(end - start)
        content[len(content) :] = bytes(max(0, start - length))
        content[start:end] = new
        pieces = [(start, memoryview(new)[: middle - start]),
                  (middle, memoryview(new)[middle - start :])]  # fmt: skip
        pieces = [(offset, view) for offset, view in pieces if view]
        store.advance(file, 2, len(content), pieces)
        store.save()
        following = paper.following
        assert following is not None
        for index, chunk in file.chunks.items():
            assert bytes(chunk.buffer) == content[index * SIZE : (index + 1) * SIZE]
        for index, data in following.chunks.items():
            assert data == content[index * SIZE : (index + 1) * SIZE], index
        assert store.used == sum(len(chunk.buffer) for chunk in file.chunks.values())
        assert store.used <= store.limit
