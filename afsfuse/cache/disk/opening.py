"""Opening the cache on disk, or going without one."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from afsfuse.cache.disk.budget import SPARED
from afsfuse.cache.disk.folder import FolderRefused, take
from afsfuse.cache.disk.store import DiskCache, NoDisk

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def open_cache(
    folder: Path | None, limit: int | None, chunk_size: int, mount_point: Path | None = None
) -> NoDisk:
    """The cache in a folder, of at most `limit` bytes; None: a share of what is free.

    A mount is of use without a cache on disk: if there can be none, the log says why, and file
    data is kept in memory only. So it is, without a word, without a folder and with a limit of 0.
    """
    if folder is None or limit == 0:
        return NoDisk()
    if mount_point is not None and mount_point in (folder, *folder.parents):
        log.warning("no cache on disk: %s lies in the mount itself", folder)
        return NoDisk()
    try:
        room = take(folder)
    except FolderRefused as exc:
        log.warning("no cache on disk: %s", exc)
        return NoDisk()
    try:
        if limit is None:
            limit = room.default_limit()
        if limit:
            log.info("cache in %s, at most %d MiB", room.path, limit >> 20)
            return DiskCache(room, limit, chunk_size, spare=limit // SPARED)
        log.info("no cache on disk: too little is free at %s", room.path)
    except (OSError, sqlite3.Error) as exc:
        log.warning("no cache on disk: %s: %s", room.path, exc)
    with suppress(OSError):
        room.release()
    return NoDisk()
