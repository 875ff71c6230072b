"""One file server: its volumes, its clients, and the way of a call to its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from afsfuse.democell.fileservice import locking, naming, reading, storing, volumes
from afsfuse.democell.hosts import HostTable
from afsfuse.democell.partition import Partition
from afsfuse.democell.people import identity_of
from afsfuse.democell.refusal import Refused
from afsfuse.errors import ViceCode, unified
from afsfuse.interfaces import fileserver as fs
from rxrpc import CallAborted, Service
from rxrpc.security.null import NULL

if TYPE_CHECKING:
    import struct
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from afsfuse.democell.faults import Faults, Plan
    from afsfuse.democell.hosts import Host
    from afsfuse.democell.people import Identity, People
    from afsfuse.democell.volume import Volume
    from afsfuse.interfaces.common import Fid
    from rxrpc import Endpoint, ServerCall
    from rxrpc.rpc import Rpc
    from rxrpc.security.base import ServerSecurity

A = TypeVar("A")
R = TypeVar("R")

MAX_CALLS = 128


@dataclass(frozen=True, slots=True)
class Request:
    """One call, as handlers see it."""

    call: ServerCall
    host: Host
    who: Identity
    plan: Plan

    async def send_data(self, form: struct.Struct, length: int, pieces: Iterable[bytes]) -> None:
        """Send what stands in front of the reply of a fetch: the length, then the bytes."""
        length = self.plan.announced(length)
        left = self.plan.cut
        await self.call.send(form.pack(length))
        for piece in pieces:
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            await self.call.send(piece)


Handler = Callable[[Request, A], Awaitable[R]]


class Server:
    """One file server."""

    def __init__(
        self,
        name: str,
        uuid: UUID,
        people: People,
        faults: Faults,
        keep: Callable[[Volume, bool], None],
        security: Sequence[ServerSecurity] = (NULL,),
    ) -> None:
        """`keep` is called after each change of a volume; its flag asks for what survives a
        failure of power. `security`: the classes that clients may come with.
        """
        self._security = security
        self.name = name
        self.uuid = uuid
        self.people = people
        self.faults = faults
        self.keep = keep
        self.partition = Partition()
        self.volumes: dict[int, Volume] = {}
        self.gone: dict[int, int] = {}
        """What is answered for volumes that were here."""
        self.hosts = HostTable(faults)
        self.started = 0.0
        self.endpoint: Endpoint | None = None

    def start(self, endpoint: Endpoint, now: float) -> None:
        """Serve at an endpoint, knowing no client."""
        self.endpoint = endpoint
        self.started = now
        self.hosts.start(endpoint, self.uuid)
        endpoint.add_service(self._service())

    def volume(self, number: int) -> Volume:
        """A volume that is here and on line; refuses others as clients know it."""
        volume = self.volumes.get(number)
        if volume is None:
            raise Refused(self.gone.get(number, ViceCode.VNOVOL))
        if volume.state is not None:
            raise Refused(volume.state)
        return volume

    async def changed(
        self, volume: Volume, *fids: Fid, by: Host | None, safe: bool = False
    ) -> None:
        """A volume was changed: keep it, then tell the clients that have promises."""
        self.keep(volume, safe)
        await self.hosts.break_promises(fids, by=by)

    def promise(self, request: Request, volume: Volume, fid: Fid) -> fs.CallBack:
        """A promise for a vnode; in a read-only volume for all of it."""
        if not volume.writable:
            fid = fs.Fid(volume.id, 0, 0)
        return self.hosts.promise(request.host, fid)

    def _service(self) -> Service:
        service = Service(fs.RXAFS, security=self._security, max_calls=MAX_CALLS)

        def serve(rpc: Rpc[A, R], handler: Handler[A, R]) -> None:
            async def guarded(call: ServerCall, args: A) -> R:
                return await self._serve(rpc, handler, call, args)

            service.handles(rpc)(guarded)

        reading.register(self, serve)
        storing.register(self, serve)
        naming.register(self, serve)
        locking.register(self, serve)
        volumes.register(self, serve)
        return service

    async def _serve(self, rpc: Rpc[A, R], handler: Handler[A, R], call: ServerCall, args: A) -> R:
        """The way of every call: orders of tests, who the client is, the work, its refusal."""
        plan = await self.faults.begin(rpc)
        host = await self.hosts.meet(call)
        request = Request(call, host, identity_of(call, self.people), plan)
        try:
            reply = await handler(request, args)
        except Refused as exc:
            raise CallAborted(self.told(host, exc), reason=str(exc)) from None
        if plan.late:
            await trio.sleep(plan.late)
        return plan.reply(reply)

    @staticmethod
    def told(host: Host, refusal: Refused) -> int:
        """The code of a refusal as a client understands it."""
        return unified(refusal.code) if host.unified_errors and not refusal.plain else refusal.code


Serve = Callable[["Rpc[Any, Any]", "Handler[Any, Any]"], None]
"""How the modules of the service bring their handlers in."""
