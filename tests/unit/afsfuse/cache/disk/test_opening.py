"""With a cache on disk where there can be one, and without one everywhere else."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.cache.disk import DiskCache, NoDisk, VolumeInstance, open_cache
from afsfuse.cache.disk.folder import take
from tests.mount.harness import wait_until
from tests.unit.afsfuse.cache.disk.desk import CHUNK, Desk, contents, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

LIMIT = 16 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a tmpfs")


@contextmanager
def small_disk(where: Path, options: str) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def test_without_a_folder_or_with_no_room_there_is_none(tmp_path: Path) -> None:
    assert type(open_cache(None, LIMIT, CHUNK)) is NoDisk
    assert type(open_cache(tmp_path / "cache", 0, CHUNK)) is NoDisk
    assert not list(tmp_path.iterdir())


async def test_without_one_nothing_is_kept(nursery: trio.Nursery) -> None:
    disk = NoDisk()
    await nursery.start(disk.run)
    file = disk.file(VolumeInstance("test.afs", 1, 1, False), 2, 1, 1, 0, 100)
    file.put(0, [bytearray(100)])
    assert not file.has(0)
    assert not file.holds(0, 0)
    assert file.peek(0, 100) is None
    assert await file.read(0, 100) is None
    assert disk.statistics().limit == 0


async def test_one_works_until_it_is_cancelled(tmp_path: Path) -> None:
    volume = VolumeInstance("test.afs", 1, 1, False)
    for _ in range(2):
        disk = open_cache(tmp_path / "cache", None, CHUNK)
        assert isinstance(disk, DiskCache)
        async with trio.open_nursery() as nursery:
            await nursery.start(disk.run)
            await trio.to_thread.run_sync(accepting, disk)
            disk.file(volume, 2, 1, 1, 0, 100).put(0, [bytearray(100)])
            nursery.cancel_scope.cancel()
        assert not disk.usable
        assert disk.file(volume, 2, 1, 1, 0, 100).peek(0, 100) is None
    with opened(tmp_path / "cache") as desk:  # and its room is free
        assert desk.file(2, 100, volume=volume).cache.file(volume, 2, 1, 1, 0, 100).has(0)


def test_a_folder_that_is_refused_is_told_of(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("no cache on disk: .* holds other things")
    (tmp_path / "file").write_text("x")
    assert type(open_cache(tmp_path, LIMIT, CHUNK)) is NoDisk


def test_a_folder_in_the_mount_itself_is_refused(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("no cache on disk: .* lies in the mount itself")
    assert type(open_cache(tmp_path / "afs" / "x", LIMIT, CHUNK, tmp_path / "afs")) is NoDisk
    assert type(open_cache(tmp_path / "afs", LIMIT, CHUNK, tmp_path / "afs")) is NoDisk


def test_a_disk_without_room_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from afsfuse.cache.disk.folder import Room

    monkeypatch.setattr(Room, "default_limit", lambda room: 0)
    assert type(open_cache(tmp_path / "cache", None, CHUNK)) is NoDisk
    room = take(tmp_path / "cache")
    assert room.path.name == "0", "its room was given back"
    room.release()


@needs_root
def test_a_read_only_folder_is_not_used(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("no cache on disk: .*: Read-only file system")
    with small_disk(tmp_path / "disk", "size=32m") as disk:
        with opened(disk / "cache") as desk:
            desk.put(4, CHUNK)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert type(open_cache(disk / "cache", LIMIT, CHUNK)) is NoDisk
        assert type(open_cache(disk / "new", LIMIT, CHUNK)) is NoDisk


@needs_root
def test_a_full_disk_means_going_without(
    tmp_path: Path, expected_warnings: ExpectedWarnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there can be read, nothing comes in, nothing fails; and it goes on later."""
    from afsfuse.cache.disk import writer

    expected_warnings("nothing is cached on disk for now: .*No space left|database or disk is full")
    monkeypatch.setattr(writer, "PAUSE_SECONDS", 0.2)
    size = 1 << 20
    with small_disk(tmp_path / "disk", "size=12m") as disk, opened(disk / "c", 64 << 20) as desk:
        desk.put(2, size)
        desk.settle()
        ballast = disk / "ballast"
        free = os.statvfs(disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 2 * size))
        for vnode in range(4, 24, 2):
            desk.put(vnode, size)
            desk.settle(committed=False)
        assert desk.get(2, size) == contents(2, 1, size)
        assert desk.get(22, size) is None
        assert_all_right(desk, size)
        ballast.unlink()
        ballast.with_name("other").write_bytes(b"")
        accepting(desk.cache)
        desk.put(30, size)
        desk.settle()
        assert desk.get(30, size) == contents(30, 1, size)
        assert_all_right(desk, size)


@needs_root
def test_a_disk_that_is_full_from_the_start_is_no_obstacle(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("no cache on disk|nothing is cached on disk for now")
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        (disk / "ballast").write_bytes(bytes(1 << 20))
        assert type(open_cache(disk / "cache", LIMIT, CHUNK)) is NoDisk


def assert_all_right(desk: Desk, size: int) -> None:
    for vnode in range(2, 24, 2):
        assert desk.get(vnode, size) in (None, contents(vnode, 1, size))


def accepting(cache: DiskCache) -> None:
    """Wait until something would be written."""
    wait_until(lambda: cache.writer.accepts(1), "the disk is used")
