"""What changes nothing: statuses, data, access lists."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from afsfuse.democell.fileservice.access import open_vnode
from afsfuse.democell.refusal import Refused
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import OPAQUE_MAX, CapabilitiesReply, Fid
from rxrpc.rpc import Void

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.democell.fileservice.server import Request, Serve, Server

_LENGTH = struct.Struct("!i")
_LENGTH64 = struct.Struct("!q")
_LAST_32_BIT = 2**31 - 1
_SEND_BYTES = 1 << 20
_CAPABILITIES = (
    fs.Capability.ERROR_TRANSLATION | fs.Capability.FILES_64BIT | fs.Capability.WRITE_LOCK_ACL
)
_NOTHING_SAID = (0,) * 19


def register(server: Server, serve: Serve) -> None:
    """Bring the handlers in."""
    service = _Reading(server)
    serve(fs.FETCH_DATA, service.fetch_data)
    serve(fs.FETCH_DATA64, service.fetch_data64)
    serve(fs.FETCH_ACL, service.fetch_acl)
    serve(fs.FETCH_STATUS, service.fetch_status)
    serve(fs.BULK_STATUS, service.bulk_status)
    serve(fs.INLINE_BULK_STATUS, service.inline_bulk_status)
    serve(fs.LOOKUP, service.lookup)
    serve(fs.GIVE_UP_CALLBACKS, service.give_up_callbacks)
    serve(fs.GIVE_UP_ALL_CALLBACKS, service.give_up_all_callbacks)
    serve(fs.GET_CAPABILITIES, service.get_capabilities)
    serve(fs.FLUSH_CPS, service.flush_cps)


class _Reading:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def fetch_data(self, request: Request, args: fs.FetchDataArgs) -> fs.FetchStatusReply:
        return await self._fetch(request, args.fid, args.position, args.length, _LENGTH)

    async def fetch_data64(self, request: Request, args: fs.FetchData64Args) -> fs.FetchStatusReply:
        return await self._fetch(request, args.fid, args.position, args.length, _LENGTH64)

    async def _fetch(
        self, request: Request, fid: Fid, position: int, length: int, form: struct.Struct
    ) -> fs.FetchStatusReply:
        opened = open_vnode(self._server, request, fid)
        opened.check_fetch(data=True)
        if position < 0 or length < 0:
            raise Refused(errno.EINVAL)
        size = opened.vnode.length
        begin, end = min(position, size), min(position + length, size)
        if form is _LENGTH and end > _LAST_32_BIT:
            raise Refused(errno.EFBIG)
        # All that is told is of one moment, however long it takes to send it.
        reply = self._status_reply(request, fid)
        data = opened.vnode.data
        if end - begin > _SEND_BYTES:
            data = data.copy()

        def pieces() -> Iterator[bytes]:
            for at in range(begin, end, _SEND_BYTES):
                yield data.read(at, min(_SEND_BYTES, end - at))

        await request.send_data(form, end - begin, pieces())
        return reply

    async def fetch_status(self, request: Request, args: fs.FidArgs) -> fs.FetchStatusReply:
        return self._status_reply(request, args.fid)

    def _status_reply(self, request: Request, fid: Fid) -> fs.FetchStatusReply:
        opened = open_vnode(self._server, request, fid)
        if not opened.vnode.is_directory:
            opened.check_fetch()
        promise = self._server.promise(request, opened.volume, fid)
        return fs.FetchStatusReply(opened.status(), promise, opened.volume.sync)

    async def fetch_acl(self, request: Request, args: fs.FidArgs) -> fs.FetchAclReply:
        opened = open_vnode(self._server, request, args.fid)
        opened.check_fetch()
        acl = opened.volume.parent_of(opened.vnode).acl
        assert acl is not None
        text = acl.text(self._server.people)
        if len(text) > OPAQUE_MAX:
            raise Refused(errno.E2BIG)
        return fs.FetchAclReply(text, opened.status(), opened.volume.sync)

    async def bulk_status(self, request: Request, args: fs.FidsArgs) -> fs.BulkStatusReply:
        if not args.fids:
            raise Refused(errno.EINVAL, plain=True)
        replies = [self._status_reply(request, fid) for fid in args.fids]
        return fs.BulkStatusReply(
            tuple(reply.status for reply in replies),
            tuple(reply.callback for reply in replies),
            replies[0].sync,
        )

    async def inline_bulk_status(self, request: Request, args: fs.FidsArgs) -> fs.BulkStatusReply:
        if not args.fids:
            raise Refused(errno.EINVAL, plain=True)
        statuses, promises = [], []
        sync = fs.VolSync(0)
        for fid in args.fids:
            try:
                reply = self._status_reply(request, fid)
            except Refused as exc:
                code = self._server.told(request.host, exc) & 0xFFFFFFFF
                statuses.append(fs.FetchStatus(fs.STATUS_VERSION, *_NOTHING_SAID, code))
                promises.append(fs.CallBack(0, 0, 0))
            else:
                statuses.append(reply.status)
                promises.append(reply.callback)
                sync = sync if sync.creation_time else reply.sync
        return fs.BulkStatusReply(tuple(statuses), tuple(promises), sync)

    async def lookup(self, request: Request, args: fs.NameArgs) -> fs.CreateReply:
        """OpenAFS's servers have it for another kind of client only, and refuse it to all."""
        raise Refused(errno.EINVAL, plain=True)

    async def give_up_callbacks(self, request: Request, args: fs.GiveUpCallBacksArgs) -> Void:
        self._server.hosts.give_up(request.host, args.fids)
        return Void()

    async def give_up_all_callbacks(self, request: Request, args: Void) -> Void:
        self._server.hosts.give_up_all(request.host)
        return Void()

    async def get_capabilities(self, request: Request, args: Void) -> CapabilitiesReply:
        return CapabilitiesReply((int(_CAPABILITIES),))

    async def flush_cps(self, request: Request, args: fs.FlushCpsArgs) -> fs.FlushCpsReply:
        """Groups are looked up for each call, so there is nothing to forget."""
        if not request.who.administrator:
            raise Refused(errno.EPERM, plain=True)
        return fs.FlushCpsReply(0, 0)
