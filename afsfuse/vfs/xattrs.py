"""Extended attributes: what AFS knows of a file beyond its status.

The same names and forms as the kernel's own AFS client. Source: fs/afs/xattr.c of Linux.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid

CELL, VOLUME, FID, ACL = b"afs.cell", b"afs.volume", b"afs.fid", b"afs.acl"
NAMES = (ACL, CELL, FID, VOLUME)


def no_such_attribute(name: bytes) -> AfsError:
    """The answer to all other names, which programs ask for very often."""
    return AfsError(f"no extended attribute {name!r}", errno=errno.ENODATA)


async def value(
    client: FileServerClient, volume: Volume, fid: Fid, name: bytes, who: Identity
) -> bytes:
    """The value of one of `NAMES` for a fid; the server is asked in the name of `who`.

    `afs.acl` is the access list as the server writes it, of a file that of its directory: a line
    with the number of positive entries, one with that of negative ones, then the entries, each a
    name, a tab and the rights as a decimal number. `afs.fid` is volume, vnode and uniquifier in
    hexadecimal.
    """
    if name == CELL:
        return volume.cell.name.encode()
    if name == VOLUME:
        return volume.name.encode()
    if name == FID:
        return b"%x:%x:%x" % (fid.volume, fid.vnode, fid.unique)
    if name == ACL:
        # The server sends its string with the NUL that ends it in C.
        return (await client.fetch_acl(volume, fid, who)).rstrip(b"\0")
    raise no_such_attribute(name)
