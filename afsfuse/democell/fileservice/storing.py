"""What changes a vnode and no name: data, statuses, access lists."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from afsfuse.democell import names
from afsfuse.democell.acl import AccessList
from afsfuse.democell.filedata import PIECE_BYTES
from afsfuse.democell.fileservice.access import open_vnode
from afsfuse.democell.refusal import Refused
from afsfuse.democell.vnode import blocks
from afsfuse.interfaces import fileserver as fs

if TYPE_CHECKING:
    from afsfuse.democell.fileservice.access import Opened
    from afsfuse.democell.fileservice.server import Request, Serve, Server

_LAST_32_BIT = 2**31 - 1
_LONGEST = 2**63 - 1
_SET_USER_ID = 0o4000


def register(server: Server, serve: Serve) -> None:
    """Bring the handlers in."""
    service = _Storing(server)
    serve(fs.STORE_DATA, service.store_data)
    serve(fs.STORE_DATA64, service.store_data64)
    serve(fs.STORE_STATUS, service.store_status)
    serve(fs.STORE_ACL, service.store_acl)
    serve(fs.OLD_STORE_ACL, service.store_acl)


class _Storing:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def store_data(self, request: Request, args: fs.StoreDataArgs) -> fs.StatusReply:
        if max(args.file_length, args.position + args.length) > _LAST_32_BIT:
            raise Refused(errno.EFBIG, plain=True)
        return await self._store(
            request,
            fs.StoreData64Args(*args),  # type: ignore[misc]  # it is a named tuple
        )

    async def store_data64(self, request: Request, args: fs.StoreData64Args) -> fs.StatusReply:
        if max(args.file_length, args.position + args.length) > _LONGEST:
            raise Refused(errno.EFBIG)
        return await self._store(request, args)

    async def _store(self, request: Request, args: fs.StoreData64Args) -> fs.StatusReply:
        """All bytes are taken first, then the file is changed at once.

        So a client that goes away in the middle leaves the file as it was.
        """
        self._open(request, args)
        server = self._server
        with server.partition.reserve(args.length, server.volumes.values()):
            pieces = []
            left = args.length
            while left:
                pieces.append(await request.call.receive_exactly(min(left, PIECE_BYTES)))
                left -= len(pieces[-1])
            opened, growth = self._open(request, args)
            volume = opened.volume
            vnode = volume.change(opened.vnode)
            data = vnode.file
            if args.file_length < data.length:
                data.resize(args.file_length)
            at = args.position
            for piece in pieces:
                data.write(at, piece)
                at += len(piece)
            if not args.length and args.position > data.length:
                data.resize(args.position)
        volume.charge(growth)
        vnode.version += 1
        vnode.mode &= ~_SET_USER_ID
        names.set_status(volume, vnode, args.status, request.who.id)
        safe = bool(args.status.mask & fs.StoreMask.FSYNC)
        status = opened.status_of(vnode)
        await server.changed(volume, args.fid, by=request.host, safe=safe)
        return fs.StatusReply(status, volume.sync)

    def _open(self, request: Request, args: fs.StoreData64Args) -> tuple[Opened, int]:
        """The file, if all of this may be stored in it, and by how many KiB it will grow."""
        opened = open_vnode(self._server, request, args.fid, directory=False, change=True)
        if opened.vnode.kind is not fs.FileType.FILE:
            raise Refused(errno.EISDIR)
        opened.check_store_data(args.status)
        length = opened.vnode.length
        new = max(min(length, args.file_length), args.position + args.length)
        growth = blocks(new) - blocks(length)
        opened.volume.check_room(growth, storing=True)
        return opened, growth

    async def store_status(self, request: Request, args: fs.StoreStatusArgs) -> fs.StatusReply:
        opened = open_vnode(self._server, request, args.fid, change=True)
        opened.check_store_status(args.status)
        is_link = opened.vnode.kind is fs.FileType.SYMLINK
        if is_link and args.status.mask & fs.StoreMask.MODE:
            raise Refused(errno.EINVAL, "a mode would make a mount point of a link")
        vnode = names.store_status(opened.volume, opened.vnode, args.status)
        status = opened.status_of(vnode)
        await self._server.changed(opened.volume, args.fid, by=request.host)
        return fs.StatusReply(status, opened.volume.sync)

    async def store_acl(self, request: Request, args: fs.StoreAclArgs) -> fs.StatusReply:
        if b"\0" not in args.access_list:
            raise Refused(errno.EINVAL)
        opened = open_vnode(self._server, request, args.fid, directory=True, change=True)
        opened.check_store_acl()
        acl = AccessList.parse(args.access_list, self._server.people)
        vnode = opened.volume.change(opened.vnode)
        vnode.acl = acl
        status = opened.status_of(vnode)
        await self._server.changed(opened.volume, args.fid, by=request.host)
        return fs.StatusReply(status, opened.volume.sync)
