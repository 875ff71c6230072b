"""Mount points: what their bodies say, and the nodes that stand for their targets.

In AFS a mount point is a symbolic link without execute bits whose body names a volume:

    #volume.            a volume of the same cell: its read-only replica when the mount point
                        itself is in a read-only volume, else the read-write volume
    %volume.            the read-write volume
    #cell:volume.       of another cell, and then the replica is preferred in any case
    #volume.readonly.   that volume and no other; likewise `.backup`

Source: EvalMountData in afs_vnop_lookup.c, afs_HandleLink in afs_vnop_symlink.c of OpenAFS;
fs/afs/mntpt.c of Linux.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError
from afsfuse.vfs.inodes import ROOT_INODE, Mount, Node, digest

if TYPE_CHECKING:
    from afsfuse.interfaces.fileserver import Fid
    from afsfuse.model import Inode
    from afsfuse.vfs.resolving import Failure, Resolution

# Volume names are letters, digits, dots, hyphens and underscores, at most 63 bytes with suffix.
# Source: VOLSER_MAXVOLNAME and LEGALCHARS in OpenAFS. A colon after the volume would name a vnode
# in it, a form that only AFS clients' own dynamic roots use.
_BODY = re.compile(
    rb"""
    (?P<kind>[#%])
    (?: (?P<cell>[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}) : )?
    (?P<volume>[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}?)
    (?P<suffix>\.readonly|\.backup)?
    \.?[\n\0]*
    """,
    re.VERBOSE,
)
_BODY_SHOWN = 80  # bytes of a wrong body in the error message


@dataclass(frozen=True, slots=True)
class MountTarget:
    """What a mount point asks for."""

    kind: str
    """`#` or `%`."""
    cell: str | None
    """Lower case; None: the cell of the mount point itself."""
    volume: str
    """Name or decimal number, without suffix."""
    suffix: str
    """`readonly`, `backup` or nothing."""

    def __str__(self) -> str:
        cell = f"{self.cell}:" if self.cell else ""
        suffix = f".{self.suffix}" if self.suffix else ""
        return f"{self.kind}{cell}{self.volume}{suffix}"


def parse_mountpoint(body: bytes) -> MountTarget:
    """Read a mount point's body; `AfsError` with EINVAL if it is none.

    Every tool ends the body with a dot. OpenAFS cuts the last byte off whatever it is, Linux
    insists on the dot; here one final dot, line feeds and NULs behind it are cut off, and a body
    without them is taken as it stands.
    """
    match = _BODY.fullmatch(body)
    if match is None:
        raise AfsError(f"not a mount point's body: {body[:_BODY_SHOWN]!r}", errno=errno.EINVAL)
    cell = match["cell"]
    return MountTarget(
        match["kind"].decode(),
        cell.decode().lower() if cell else None,
        match["volume"].decode(),
        (match["suffix"] or b".").decode()[1:],
    )


class MountPoint(Node):
    """A mount point, shown as a directory: it stands for the root of the volume it leads to.

    `vnode` is that root once it is known. `resolving` finds it.
    """

    __slots__ = (
        "checked_until",
        "failure",
        "faked",
        "fid",
        "mount",
        "place",
        "resolution",
        "spec",
        "target",
    )

    def __init__(
        self,
        inode: Inode,
        *,
        place: bytes,
        home: dict[object, Node],
        key: object,
        mount: Mount | None = None,
        fid: Fid | None = None,
        spec: MountTarget | None = None,
    ) -> None:
        """Either one of a volume, with `mount` and `fid`, or a made-up one with `spec`."""
        super().__init__(inode, fid.unique if fid else 1, home, key)
        self.place = place
        """16 bytes for where the mount point stands, whatever it leads to."""
        self.mount = mount
        """The mount in which it stands."""
        self.fid = fid
        """Its own vnode there, the symbolic link."""
        self.spec = spec
        """What its body says, once it was read."""
        self.target: Mount | None = None
        """Where it leads to, once that was found."""
        self.checked_until = 0.0
        """Until when `target` counts without asking again (trio time)."""
        self.failure: Failure | None = None
        """Why it leads nowhere, and until when to believe that."""
        self.faked = False
        """Whether the kernel may hold attributes that were made up."""
        self.resolution: Resolution | None = None
        """The search that is under way."""

    @property
    def pinned(self) -> bool:
        """Nodes below need it, too: their numbers depend on it."""
        return (
            self.nlookup > 0
            or self.handles > 0
            or (self.target is not None and bool(self.target.nodes))
        )

    @property
    def is_directory(self) -> bool:
        """Always, whatever it leads to."""
        return True

    @property
    def mount_around(self) -> Mount | None:
        return self.mount

    def leave_tree(self) -> None:
        self.target = None  # each holds the other: this spares a search for garbage

    @property
    def tree(self) -> Mount | None:
        return self.target


def place_in(mount: Mount, fid: Fid) -> bytes:
    """The `MountPoint.place` of a mount point of a volume."""
    return digest(mount.digest, b"%d.%d" % (fid.vnode, fid.unique))


def volume_root(spec: MountTarget, local_cell: str | None) -> MountPoint:
    """The root of a mount that shows one volume.

    `AfsError` with EINVAL if `spec` names no cell and there is no local one.
    """
    cell = spec.cell or local_cell
    if cell is None:
        raise AfsError(f"{spec} names no cell, and no local cell is configured", errno=errno.EINVAL)
    spec = replace(spec, cell=cell)
    return MountPoint(ROOT_INODE, place=digest(b"root"), home={}, key=None, spec=spec)
