"""What changes names: make, link, rename, remove."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from afsfuse.democell import names
from afsfuse.democell.fileservice.access import open_vnode
from afsfuse.democell.refusal import Refused
from afsfuse.interfaces import fileserver as fs
from afsfuse.model import Rights

if TYPE_CHECKING:
    from afsfuse.democell.fileservice.access import Opened
    from afsfuse.democell.fileservice.server import Request, Serve, Server

_EXECUTE_BITS = 0o111
_SPECIAL = (b"", b".", b"..")


def register(server: Server, serve: Serve) -> None:
    """Bring the handlers in."""
    service = _Naming(server)
    serve(fs.CREATE_FILE, service.create_file)
    serve(fs.MAKE_DIR, service.make_dir)
    serve(fs.SYMLINK, service.symlink)
    serve(fs.LINK, service.link)
    serve(fs.RENAME, service.rename)
    serve(fs.REMOVE_FILE, service.remove_file)
    serve(fs.REMOVE_DIR, service.remove_dir)


class _Naming:
    def __init__(self, server: Server) -> None:
        self._server = server

    def _directory(self, request: Request, fid: fs.Fid, right: Rights) -> Opened:
        """A directory in which the caller may do that."""
        opened = open_vnode(self._server, request, fid, directory=True, change=True)
        opened.need(right)
        return opened

    async def create_file(self, request: Request, args: fs.CreateArgs) -> fs.CreateReply:
        return await self._create(request, args, fs.FileType.FILE)

    async def make_dir(self, request: Request, args: fs.CreateArgs) -> fs.CreateReply:
        return await self._create(request, args, fs.FileType.DIRECTORY)

    async def _create(
        self, request: Request, args: fs.CreateArgs, kind: fs.FileType
    ) -> fs.CreateReply:
        names.check_name(args.name)
        opened = self._directory(request, args.directory, Rights.INSERT)
        volume = opened.volume
        parent, made = names.create(
            volume, opened.vnode, args.name, kind, status=args.status, who=request.who.id
        )
        fid = volume.fid(made)
        more = Rights.NONE if made.is_directory else Rights.ADMINISTER
        status, directory_status = opened.status_of(made, more), opened.status_of(parent)
        await self._server.changed(volume, args.directory, by=request.host)
        promise = self._server.promise(request, volume, fid)
        return fs.CreateReply(fid, status, directory_status, promise, volume.sync)

    async def symlink(self, request: Request, args: fs.SymlinkArgs) -> fs.SymlinkReply:
        names.check_name(args.name)
        opened = self._directory(request, args.directory, Rights.INSERT)
        status = args.status
        if status.mask & fs.StoreMask.MODE and not status.unix_mode_bits & _EXECUTE_BITS:
            opened.check_mount_point()
        volume = opened.volume
        parent, made = names.create(
            volume, opened.vnode, args.name, fs.FileType.SYMLINK,
            status=status, data=args.target, who=request.who.id,
        )  # fmt: skip
        reply = fs.SymlinkReply(
            volume.fid(made), opened.status_of(made), opened.status_of(parent), volume.sync
        )
        await self._server.changed(volume, args.directory, by=request.host)
        return reply

    async def link(self, request: Request, args: fs.LinkArgs) -> fs.LinkReply:
        if args.directory.volume != args.existing.volume:
            raise Refused(errno.EXDEV)
        names.check_name(args.name)
        opened = self._directory(request, args.directory, Rights.INSERT)
        if args.existing.vnode & 1:  # directories have odd numbers
            raise Refused(errno.EISDIR)
        volume = opened.volume
        existing = volume.vnode(args.existing.vnode, args.existing.unique)
        parent, file = names.link(volume, opened.vnode, args.name, existing, request.who.id)
        reply = fs.LinkReply(opened.status_of(file), opened.status_of(parent), volume.sync)
        await self._server.changed(volume, args.directory, args.existing, by=request.host)
        return reply

    async def remove_file(self, request: Request, args: fs.NameArgs) -> fs.StatusReply:
        return await self._remove(request, args, directory=False)

    async def remove_dir(self, request: Request, args: fs.NameArgs) -> fs.StatusReply:
        return await self._remove(request, args, directory=True)

    async def _remove(
        self, request: Request, args: fs.NameArgs, *, directory: bool
    ) -> fs.StatusReply:
        opened = self._directory(request, args.directory, Rights.DELETE)
        volume = opened.volume
        removal = names.remove(
            volume, opened.vnode, args.name, directory=directory, who=request.who.id
        )
        status = opened.status_of(removal.directory)
        await self._server.changed(volume, args.directory, by=request.host)
        await self._tell_of(removal, volume.fid(removal.target))
        return fs.StatusReply(status, volume.sync)

    async def _tell_of(self, removal: names.Removal, fid: fs.Fid) -> None:
        """Whoever has a file that lost one of its names hears of that, the remover, too: the
        reply does not have that file's status. Of a file that is gone nobody need hear.
        """
        if removal.gone:
            self._server.hosts.discard(fid)
        else:
            await self._server.hosts.break_promises([fid])

    async def rename(self, request: Request, args: fs.RenameArgs) -> fs.RenameReply:
        names.check_name(args.new_name)
        if args.old_directory.volume != args.new_directory.volume:
            raise Refused(errno.EXDEV)
        if args.old_name in _SPECIAL or args.new_name in _SPECIAL:
            raise Refused(errno.EINVAL)
        old = open_vnode(self._server, request, args.old_directory, directory=True, change=True)
        new = open_vnode(self._server, request, args.new_directory, directory=True, change=True)
        old.need(Rights.DELETE)
        new.need(Rights.INSERT)
        if args.old_name not in old.vnode.directory:
            raise Refused(errno.ENOENT)
        if args.new_name in new.vnode.directory:
            new.need(Rights.DELETE)
        volume = old.volume
        done = names.rename(
            volume, old.vnode, args.old_name, new.vnode, args.new_name, request.who.id
        )
        reply = fs.RenameReply(old.status_of(done.old), new.status_of(done.new), volume.sync)
        await self._server.changed(volume, args.new_directory, args.old_directory, by=request.host)
        if done.reparented:
            await self._server.hosts.break_promises([volume.fid(done.moved)])
        if done.replaced is not None:
            await self._tell_of(done.replaced, volume.fid(done.replaced.target))
        return reply
