"""Extended attributes: what AFS knows of a file beyond its status.

The same names and forms as the kernel's own AFS client. Source: fs/afs/xattr.c of Linux.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from afsfuse.acl import AccessList
from afsfuse.errors import AfsError, NotPermitted, ReadOnlyVolume
from afsfuse.vfs.dynroot import MadeUp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid
    from afsfuse.vfs.inodes import Node
    from afsfuse.vfs.lookups import Lookups

log = logging.getLogger(__name__)

CELL, VOLUME, FID, ACL = b"afs.cell", b"afs.volume", b"afs.fid", b"afs.acl"
NAMES = (ACL, CELL, FID, VOLUME)
"""They are to be asked for by name and are not listed: programs that copy files with all that is
listed (shutil, rsync -X) would fail to set them, or open a directory to those of another.
"""


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
    hexadecimal. Raises `DataCorrupt` for a list that is none.
    """
    if name == CELL:
        return volume.cell.name.encode()
    if name == VOLUME:
        return volume.name.encode()
    if name == FID:
        return b"%x:%x:%x" % (fid.volume, fid.vnode, fid.unique)
    if name == ACL:
        # The server sends its string with the NUL that ends it in C.
        text = (await client.fetch_acl(volume, fid, who)).rstrip(b"\0")
        AccessList.from_server(text)
        return text
    raise no_such_attribute(name)


def refuse_setting(name: bytes) -> AfsError:
    """The answer for all that cannot be set: programs that copy attributes take it for a no."""
    return AfsError(f"the extended attribute {name!r} cannot be set", errno=errno.EOPNOTSUPP)


async def set_acl(
    client: FileServerClient,
    cache: CacheManager,
    volume: Volume,
    fid: Fid,
    text: bytes,
    who: Identity,
) -> AccessList:
    """Give a directory another access list, in the name of `who`.

    `text` is in the form of `afs.acl`; rights may also be letters (`rlidwka`). When this returns,
    nobody is judged by the list before. Raises `AfsError`: EINVAL and E2BIG for what is no list,
    ENOTDIR for files, for which the list of their directory counts, and whatever the server says.
    """
    wanted = AccessList.from_user(text)
    if not fid.vnode & 1:  # directories have odd numbers
        raise AfsError("only directories have an access list of their own", errno=errno.ENOTDIR)
    try:
        await client.changes.store_acl(volume, fid, wanted.text() + b"\0", who)
    except (NotPermitted, ReadOnlyVolume):
        raise  # nothing was done
    except BaseException:  # nobody knows whether it was, also if it was cancelled
        cache.rights_changed(volume, fid)
        raise
    cache.rights_changed(volume, fid)
    await cache.learn_rights(volume, fid, who)
    return wanted


class ExtendedAttributes:
    """Those of all nodes."""

    def __init__(
        self,
        client: FileServerClient,
        cache: CacheManager,
        lookups: Lookups,
        require_sight: Callable[[Node, Identity], Awaitable[None]],
    ) -> None:
        """`require_sight` raises `NotPermitted` for whom a node may not be shown."""
        self._client = client
        self._cache = cache
        self._lookups = lookups
        self._require_sight = require_sight

    async def get(self, node: Node, name: bytes, who: Identity) -> bytes:
        """The value of an attribute; ENODATA if there is none."""
        if name not in NAMES or isinstance(node, MadeUp):
            raise no_such_attribute(name)
        mount, fid = await self._lookups.place(node, who)
        await self._lookups.vnode(node, who)
        await self._require_sight(node, who)
        return await value(self._client, mount.volume, fid, name, who)

    async def set(self, node: Node, name: bytes, text: bytes, who: Identity) -> None:
        """Set `afs.acl`, see `set_acl`; of a mount point that of its target.

        EOPNOTSUPP for any other attribute, and for what is made up.
        """
        if name != ACL or isinstance(node, MadeUp):
            raise refuse_setting(name)
        mount, fid = await self._lookups.place(node, who)
        try:
            acl = await set_acl(self._client, self._cache, mount.volume, fid, text, who)
        except AfsError as exc:
            log.info("%s: the access list was not set: %s", node.path(), exc)
            raise
        log.info("%s: the access list is now: %s", node.path(), acl)

    async def remove(self, node: Node, name: bytes, who: Identity) -> None:
        """Nothing can be removed: EPERM for what is there, ENODATA for what is not."""
        if name not in NAMES or isinstance(node, MadeUp):
            raise no_such_attribute(name)
        await self._require_sight(node, who)
        raise AfsError(f"the extended attribute {name!r} cannot be removed", errno=errno.EPERM)
