"""The standard contents of the real cell, in a cell in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.democell import DemoCell, names
from afsfuse.democell.acl import AccessList
from afsfuse.interfaces.fileserver import FileType, StoreMask, StoreStatus
from afsfuse.interfaces.protection import ADMINISTRATORS
from tests.realcell import contents, seed
from tests.realcell.configuration import CELL, USER_IDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afsfuse.democell.vnode import Vnode
    from afsfuse.democell.volume import Volume

ADDRESSES = ("192.0.2.11", "192.0.2.12")
VOLUMES = ("root.afs", "tree", "names", "links", "rights", "replicated", "scratch", "scratch2",
           "quota", "home.alice", "home.bob", "root.cell")  # fmt: skip
ADMIN_ID = 1
_LINK_MODE, _MOUNT_POINT_MODE = 0o755, 0o644


async def planted(
    volumes: Sequence[str] = VOLUMES,
    addresses: Sequence[str] = ADDRESSES,
    sites: Sequence[str] | None = None,
) -> DemoCell:
    """A cell with these volumes of `tests.realcell.seed`, on servers of the same names; replicas
    are at `sites`, by default where the real cell has them.
    """
    cell = DemoCell(CELL, addresses)
    for user, number in {"admin": ADMIN_ID, **USER_IDS}.items():
        cell.people.add_user(user, number)
    cell.people.add_member(ADMINISTRATORS, ADMIN_ID)
    for name in volumes:
        described = seed.VOLUMES[name]
        tree = described.tree()
        volume = cell.create_volume(
            name, server=described.server, quota=described.quota, acl=access_list(tree.acl)
        )
        plant(volume, tree, volume.root)
        root = volume.root
        root.mode, root.mtime, root.owner, root.version = tree.mode, tree.mtime, 0, 1
        if described.replicas:
            await cell.replicate(name, sites or described.replicas)
        if described.backup:
            await cell.backup(name)
    return cell


def access_list(acl: contents.Acl) -> AccessList:
    return AccessList(dict(acl.positive), dict(acl.negative))


def plant(volume: Volume, tree: contents.Directory, directory: Vnode) -> None:
    """Everything below a directory's description."""
    for name, node in tree.entries.items():
        kind, data, mode, owner = _facts(node)
        status = StoreStatus(
            StoreMask.MODE | StoreMask.MODIFICATION_TIME | StoreMask.OWNER,
            client_mod_time=node.mtime, unix_mode_bits=mode, owner=owner,
        )  # fmt: skip
        _, made = names.create(volume, directory, name, kind, status=status, data=data, who=owner)
        if isinstance(node, contents.Directory):
            made.acl = access_list(node.acl)
            plant(volume, node, made)
            made.mtime = node.mtime
        made.version = 1


def _facts(node: contents.Node) -> tuple[FileType, bytes, int, int]:
    match node:
        case contents.Directory():
            return FileType.DIRECTORY, b"", node.mode, 0
        case contents.File():
            return FileType.FILE, whole(node.content), node.mode, node.owner
        case contents.Symlink():
            return FileType.SYMLINK, node.target, _LINK_MODE, 0
        case contents.MountPoint():
            return FileType.SYMLINK, node.body, _MOUNT_POINT_MODE, 0


def whole(content: contents.Content) -> bytes:
    return content.read(0, content.length)
