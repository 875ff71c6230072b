"""What the cache counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afsfuse.cache.disk import DiskStatistics


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A snapshot of the cache. Counts are since the start unless they say what there is."""

    vnodes: int
    directories: int
    directory_bytes: int
    data_bytes: int  # buffers of fetches under way included
    data_limit: int  # bytes that `data_bytes` may come to
    chunks: int
    chunks_evicted: int
    status_fetches: int
    status_shared: int  # requests that waited for a fetch of the same status
    bulk_calls: int
    directory_fetches: int
    directory_disk_hits: int
    reads: int
    read_bytes: int  # that readers were given
    chunk_hits: int
    disk_hits: int  # chunks
    chunk_misses: int
    chunk_waits: int
    data_fetches: int
    ahead_fetches: int
    fetched_bytes: int
    read_restarts: int
    dirty_bytes: int  # written and not stored yet, as far as they are in memory
    dirty_limit: int  # bytes
    written_bytes: int  # by writers
    stores: int
    stored_bytes: int
    store_failures: int
    store_conflicts: int  # times that another client was seen to store between our own calls
    breaks: int  # of promises
    server_breaks: int  # of all promises of a server at once
    revalidated: int
    revalidation_failures: int
    revalidation_queue: int
    given_up: int  # promises that were not needed any more
    disk: DiskStatistics
