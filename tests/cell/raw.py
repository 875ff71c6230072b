"""A client that is nothing but its calls: what tests ask a file server with."""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio

from afsfuse.errors import abort_name
from afsfuse.interfaces import callback as cb
from afsfuse.interfaces import fileserver as fs
from rxrpc import NULL, CallAborted, Endpoint, ServerCall, Service
from rxrpc.rpc import Rpc, RxgenCode, Void

if TYPE_CHECKING:
    from afsfuse.interfaces.common import Fid
    from rxrpc import ClientSecurity, Connection

A = TypeVar("A")
R = TypeVar("R")

NOTHING = fs.StoreStatus(fs.StoreMask.NONE)
_ZEROS = (0,) * cb.INTERFACES_MAX
_BREAK_SECONDS = 5.0


def mode(bits: int) -> fs.StoreStatus:
    """Permission bits to be set."""
    return fs.StoreStatus(fs.StoreMask.MODE, unix_mode_bits=bits)


class RawClient:
    """One client of one file server, which remembers what promises were broken."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.uuid = uuid.uuid4()
        self.broken: list[Fid] = []
        self.resets = 0
        self._news = trio.Event()
        self._server: Connection | None = None
        endpoint.add_service(self._callback_service())

    def use(self, server: tuple[str, int], security: ClientSecurity = NULL) -> None:
        """Call this server from now on, as nobody or with an identity."""
        self._server = self.endpoint.connect(server, fs.SERVICE_ID, security=security)

    async def call(self, rpc: Rpc[A, R], args: A) -> R:
        assert self._server is not None
        return await self._server.call(rpc, args)

    async def refusal(self, rpc: Rpc[A, R], args: A) -> str:
        """The name of the code with which the server refuses a call."""
        with pytest.raises(CallAborted) as caught:
            await self.call(rpc, args)
        return code_name(caught.value)

    # What is needed often

    async def make_dir(self, directory: Fid, name: bytes) -> Fid:
        reply = await self.call(fs.MAKE_DIR, fs.CreateArgs(directory, name, mode(0o755)))
        return reply.fid

    async def create(self, directory: Fid, name: bytes, data: bytes = b"") -> Fid:
        reply = await self.call(fs.CREATE_FILE, fs.CreateArgs(directory, name, mode(0o644)))
        if data:
            await self.store(reply.fid, data)
        return reply.fid

    async def store(
        self,
        fid: Fid,
        data: bytes,
        position: int = 0,
        length: int | None = None,
        status: fs.StoreStatus = NOTHING,
    ) -> fs.FetchStatus:
        """Store bytes; `length` is what the file is cut to before, by default where they end."""
        assert self._server is not None
        length = position + len(data) if length is None else length
        args = fs.StoreData64Args(fid, status, position, len(data), length)
        async with self._server.stream(fs.STORE_DATA64, args) as call:
            await call.send(data)
            return (await call.finish()).status

    async def fetch(self, fid: Fid, position: int = 0, size: int = 1 << 30) -> bytes:
        """A file's bytes."""
        assert self._server is not None
        args = fs.FetchData64Args(fid, position, size)
        async with self._server.stream(fs.FETCH_DATA64, args) as call:
            (length,) = struct.unpack("!q", await call.receive_exactly(8))
            data = await call.receive_exactly(length)
            await call.finish()
        return data

    async def status(self, fid: Fid) -> fs.FetchStatus:
        return (await self.call(fs.FETCH_STATUS, fs.FidArgs(fid))).status

    async def remove(self, directory: Fid, name: bytes) -> fs.FetchStatus:
        return (await self.call(fs.REMOVE_FILE, fs.NameArgs(directory, name))).status

    async def remove_dir(self, directory: Fid, name: bytes) -> fs.FetchStatus:
        return (await self.call(fs.REMOVE_DIR, fs.NameArgs(directory, name))).status

    async def set_acl(self, fid: Fid, text: bytes) -> fs.FetchStatus:
        """Store an access list, by the older procedure where a server has no other."""
        args = fs.StoreAclArgs(fid, text)
        try:
            return (await self.call(fs.STORE_ACL, args)).status
        except CallAborted as exc:
            if exc.code != RxgenCode.OPCODE:
                raise
        return (await self.call(fs.OLD_STORE_ACL, args)).status

    async def acl_refusal(self, fid: Fid, text: bytes) -> str:
        """The name of the code with which an access list is refused."""
        with pytest.raises(CallAborted) as caught:
            await self.set_acl(fid, text)
        return code_name(caught.value)

    # Broken promises

    async def broken_within_moments(self, fid: Fid) -> bool:
        """Whether the promise for a vnode is broken soon; the break is taken off the list."""
        with trio.move_on_after(_BREAK_SECONDS):
            while fid not in self.broken:
                self._news = trio.Event()
                await self._news.wait()
        if fid not in self.broken:
            return False
        self.broken.remove(fid)
        return True

    def _callback_service(self) -> Service:
        service = Service(cb.RXAFSCB)
        service.handles(cb.CALL_BACK)(self._call_back)
        service.handles(cb.INIT_CALL_BACK_STATE3)(self._reset)
        service.handles(cb.PROBE)(self._probe)
        service.handles(cb.PROBE_UUID)(self._probe_uuid)
        service.handles(cb.TELL_ME_ABOUT_YOURSELF)(self._tell)
        return service

    async def _call_back(self, call: ServerCall, args: cb.CallBackArgs) -> Void:
        self.broken += args.fids
        self._news.set()
        return Void()

    async def _reset(self, call: ServerCall, args: cb.UuidArgs) -> Void:
        self.resets += 1
        return Void()

    async def _probe(self, call: ServerCall, args: Void) -> Void:
        return Void()

    async def _probe_uuid(self, call: ServerCall, args: cb.UuidArgs) -> Void:
        if args.uuid != self.uuid:
            raise CallAborted(1)
        return Void()

    async def _tell(self, call: ServerCall, args: Void) -> cb.TellMeAboutYourselfReply:
        interfaces = cb.InterfaceAddresses(0, self.uuid, _ZEROS, _ZEROS, _ZEROS)
        return cb.TellMeAboutYourselfReply(
            interfaces, (int(cb.ClientCapability.ERROR_TRANSLATION),)
        )


def code_name(exc: CallAborted) -> str:
    """`UAEEXIST`, `VNOVNODE`; a number where the code has no name."""
    return abort_name(exc.code).rpartition(" ")[2]


def same_but(before: Any, after: Any, *fields: str) -> bool:
    """Whether two structures differ in these fields only, and in all of them."""
    differing = {name for name in before._fields if getattr(before, name) != getattr(after, name)}
    return differing == set(fields)
