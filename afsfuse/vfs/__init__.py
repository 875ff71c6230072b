"""The file system: names, nodes, mount points, the dynamic root, access; `FileSystem` serves it.

Nothing here knows the kernel's interface. Who serves a kernel calls `FileSystem`; what the kernel
must forget comes out of `KernelInvalidator` through the protocol `KernelNotifier`.

Concurrency: everything runs on one event loop, and there are no locks. `inodes`, `invalidation`
and all that builds an answer is free of await, so it is atomic. After an await, whatever was
found before it is looked at again or pinned: `Node.handles` keeps a node that the kernel may
forget meanwhile. `lookups.trust` gives no time to a name found in a directory of which a newer
version has become known. Tasks of their own, in the nursery of `FileSystem.run`, are the search
for a mount point's target (`resolving`, one a mount point, shared by all who wait) and the
statuses of the next names of an open directory (`listings`, one or two a handle).
"""

from afsfuse.vfs.entry import NO_INODE, Entry, Listing, OpenFile, VolumeSpace
from afsfuse.vfs.figures import VfsStatistics
from afsfuse.vfs.filesystem import FileSystem
from afsfuse.vfs.inodes import ROOT_INODE, NodeTable
from afsfuse.vfs.invalidation import KernelInvalidator, KernelNotifier, NullNotifier
from afsfuse.vfs.mountpoints import MountTarget, parse_mountpoint
from afsfuse.vfs.options import ListedCells, VfsOptions

__all__ = [
    "NO_INODE",
    "ROOT_INODE",
    "Entry",
    "FileSystem",
    "KernelInvalidator",
    "KernelNotifier",
    "ListedCells",
    "Listing",
    "MountTarget",
    "NodeTable",
    "NullNotifier",
    "OpenFile",
    "VfsOptions",
    "VfsStatistics",
    "VolumeSpace",
    "parse_mountpoint",
]
