"""What can be set about the vfs, each with its unit."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from afsfuse.vfs.names import default_sysnames

DYNAMIC_ROOT = "afs"
"""The `VfsOptions.source` that shows the dynamic root."""


class ListedCells(enum.Enum):
    """Which cells a listing of the dynamic root shows; others can always be entered by name."""

    USED = "used"
    """The local cell, and cells that were used since the mount (OpenAFS: `-dynroot-sparse`)."""
    CONFIGURED = "configured"
    """These, and all that CellServDB names (OpenAFS: `-dynroot`)."""
    AUTO = "auto"
    """Like CONFIGURED while CellServDB names at most `listed_cells_limit` cells, else USED.

    The worldwide CellServDB names some 200 cells; file managers enter what they see, and many
    of those cells answer no more. A site's own CellServDB is short and means what it lists.
    """


@dataclass(frozen=True)
class VfsOptions:
    """Settings of the vfs; the defaults suit a desktop and a server alike."""

    source: str = DYNAMIC_ROOT
    """`afs` for the dynamic root, or for one volume a mount point's body: `#cell:volume.`."""

    sysnames: Sequence[bytes] = default_sysnames()
    """What `@sys` at the end of a name stands for, tried in order. A list that is changed later
    counts for all who were given it; see `Forgetting.set_sysnames`.
    """

    listed_cells: ListedCells = ListedCells.AUTO
    """Which cells a listing of the dynamic root shows."""

    listed_cells_limit: int = 32
    """Cells; see `ListedCells.AUTO`."""

    patience: float = 0.1
    """Seconds that looking at a mount point waits for its target; then attributes are faked."""

    refresh_patience: float = 0.5
    """Seconds that looking at a mount point waits for its target to confirm known attributes."""

    looking_budget: float = 1.0
    """Seconds that looking at the mount points in one volume may cost within `retry_after`."""

    retry_after: float = 10.0
    """Seconds for which a failed mount point, server or cell name is not tried again."""

    retry_entering: float = 1.0
    """... by somebody who enters, if the reason may pass without anybody's doing."""

    enter_timeout: float = 60.0
    """Seconds at most that entering a mount point may take, over all servers and retries."""

    target_lifetime: float = 600.0
    """Seconds after which entering a mount point asks again which volume it leads to."""

    expire: float = 600.0
    """Seconds between two ticks at which trees must have been idle to go; 0: they stay."""

    nesting_limit: int = 8
    """How often one volume may be mounted inside itself. The kernel has no loops of directories, so
    each round is a tree of its own, and programs that walk trees would go on for ever."""

    faked_attr_timeout: float = 10.0
    """Seconds for which the kernel may believe the faked attributes of a mount point."""

    dynroot_timeout: float = 3600.0
    """Seconds for which the kernel may believe a name in the dynamic root."""

    node_limit: int = 100_000
    """Nodes, of about 1 KiB with their vnode, above which the kernel is asked to forget some."""

    space_lifetime: float = 10.0
    """Seconds for which the space of a volume is not asked again."""
