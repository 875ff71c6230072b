"""What files, directories and links hold, on disk: a bounded store that outlives the daemon, and a
journal of what was written.

Rooms: `folder` (where, and whose), `index` (SQLite), `budget` (the limit), `parts` (the bytes),
`writer` (the thread that writes), `files` (what the event loop asks of one file), `store` (the
facade), `journal` (dirty data). docs/cache.md says what all this guarantees.

What is read from the disk is not put into the memory's chunks: the kernel keeps the pages of the
parts, and reading them costs as much as joining chunks.
"""

from afsfuse.cache.disk.files import NO_FILE, NoFile
from afsfuse.cache.disk.folder import default_folder
from afsfuse.cache.disk.opening import open_cache
from afsfuse.cache.disk.store import DiskCache, DiskStatistics, NoDisk, VolumeInstance

__all__ = [
    "NO_FILE",
    "DiskCache",
    "DiskStatistics",
    "NoDisk",
    "NoFile",
    "VolumeInstance",
    "default_folder",
    "open_cache",
]
