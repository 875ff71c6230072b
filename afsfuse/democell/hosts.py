"""The clients that a file server knows: who they are, and what was promised to them.

A client is known by the address and port that its calls come from, and by its UUID. When it is
met first, and again when it was started anew, it is asked who it is and told to forget what it may
think was promised to it. Source: src/viced/host.c and callback.c of OpenAFS.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from afsfuse.interfaces import callback as cb
from afsfuse.interfaces.common import CALLBACK_VERSION, FIDS_MAX, CallBack, Fid
from afsfuse.interfaces.fileserver import CallBackType
from rxrpc import CallAborted, RxError
from rxrpc.rpc import RxgenCode, Void

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from afsfuse.democell.faults import Faults
    from rxrpc import Address, Connection, Endpoint, ServerCall

log = logging.getLogger(__name__)

MAX_HOSTS = 1000
MAX_PROMISES = 50_000
"""To one client, beside those of calls under way; then all are taken back at once."""
CALL_SECONDS = 15.0
"""A client that does not answer within this is left alone until it calls again."""
VOLUME_PROMISE = 7200
"""Seconds that a promise for a whole read-only volume holds."""
# Seconds that a promise holds, by eights of clients that have one. Source: TimeOuts.
_PROMISES = (14400, 3600, 1800, 900, 900, 600, 600, 600)
_SHORTEST_PROMISE = 420

NO_PROMISE = CallBack(CALLBACK_VERSION, 0, CallBackType.DROPPED)


class Host:
    """One client."""

    def __init__(self, address: Address, epoch: int) -> None:
        self.address = address
        self.epoch = epoch
        self.uuid: UUID | None = None
        self.unified_errors = False
        """It understands errors in their unified form."""
        self.reachable = False
        """It answers; without that it is promised nothing."""
        self.fids: dict[Fid, float] = {}
        """What was promised to it, and until when by trio's clock."""
        self.meeting = trio.Lock()
        self.met = False


class HostTable:
    """The clients of one server, and the promises that they have."""

    def __init__(self, faults: Faults) -> None:
        self.uuid = UUID(int=0)
        """The server's own."""
        self._faults = faults
        self._hosts: OrderedDict[Address, Host] = OrderedDict()
        self._holders: dict[Fid, dict[Host, None]] = {}
        self._endpoint: Endpoint | None = None

    def start(self, endpoint: Endpoint, uuid: UUID) -> None:
        """Know nobody; calls back are made from this endpoint."""
        self._endpoint, self.uuid = endpoint, uuid
        self._hosts.clear()
        self._holders.clear()

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def promises(self) -> int:
        """How many are held, by all clients together."""
        return sum(len(host.fids) for host in self._hosts.values())

    async def meet(self, call: ServerCall) -> Host:
        """The client that makes a call, known by now."""
        host = self._hosts.get(call.peer)
        if host is None:
            while len(self._hosts) >= MAX_HOSTS:
                self._forget(next(iter(self._hosts.values())))
            host = self._hosts[call.peer] = Host(call.peer, call.epoch)
        self._hosts.move_to_end(call.peer)
        if host.met and host.epoch == call.epoch and len(host.fids) < MAX_PROMISES:
            return host
        async with host.meeting:
            if not host.met or host.epoch != call.epoch:
                await self._introduce(host, call.epoch)
            elif len(host.fids) >= MAX_PROMISES:
                await self._make_room(host)
        return host

    def promise(self, host: Host, fid: Fid) -> CallBack:
        """Promise a client to tell it when a vnode, or a whole volume, changes."""
        if not host.reachable or self._hosts.get(host.address) is not host:
            return NO_PROMISE
        holders = self._holders.setdefault(fid, {})
        if fid.vnode:
            eights = len(holders) // 8
            seconds = _PROMISES[eights] if eights < len(_PROMISES) else _SHORTEST_PROMISE
        else:
            seconds = VOLUME_PROMISE
        holders[host] = None
        host.fids[fid] = trio.current_time() + seconds
        return CallBack(CALLBACK_VERSION, seconds, CallBackType.SHARED)

    def give_up(self, host: Host, fids: Iterable[Fid]) -> None:
        """A client does not need promises any more."""
        for fid in fids:
            self._drop(host, fid)

    def give_up_all(self, host: Host) -> None:
        """A client needs none of its promises any more."""
        self.give_up(host, list(host.fids))

    def discard(self, fid: Fid) -> None:
        """Nobody will ask for this vnode again: its promises end without a word."""
        for host in list(self._holders.get(fid, ())):
            self._drop(host, fid)

    async def break_promises(self, fids: Iterable[Fid], *, by: Host | None = None) -> None:
        """Tell everybody who was promised something about these, but for who changed them.

        Returns when all have heard it, or were given up.
        """
        broken: dict[Host, list[Fid]] = {}
        now = trio.current_time()
        for fid in fids:
            for host in list(self._holders.get(fid, ())):
                if host is by:
                    continue
                if host.fids[fid] > now:
                    broken.setdefault(host, []).append(fid)
                self._drop(host, fid)
        if not broken:
            return
        async with trio.open_nursery() as nursery:
            for host, theirs in broken.items():
                for at in range(0, len(theirs), FIDS_MAX):
                    nursery.start_soon(self._break, host, tuple(theirs[at : at + FIDS_MAX]))

    async def break_volume(self, volume: int) -> None:
        """Tell everybody who was promised anything about a volume."""
        await self.break_promises([fid for fid in self._holders if fid.volume == volume])

    async def _break(self, host: Host, fids: Sequence[Fid]) -> None:
        for _ in range(self._faults.breaks()):
            args = cb.CallBackArgs(tuple(fids), ())
            try:
                with trio.fail_after(CALL_SECONDS):
                    await self._connection(host).call(cb.CALL_BACK, args)
            except (RxError, trio.TooSlowError) as exc:
                log.info("client %s:%d was not told of changes: %s", *host.address, exc)
                self.give_up_all(host)
                host.met = False  # it will be told when it calls next

    async def _introduce(self, host: Host, epoch: int) -> None:
        """Ask a client who it is, and have it forget what it thinks was promised."""
        self.give_up_all(host)
        host.epoch = epoch
        try:
            with trio.fail_after(CALL_SECONDS):
                host.uuid = await self._ask(host)
                await self._reset(host)
            host.reachable = True
        except (RxError, trio.TooSlowError) as exc:
            log.info("client %s:%d takes no calls: %s", *host.address, exc)
            host.reachable = False
        for other in list(self._hosts.values()):
            if host.uuid is not None and other.uuid == host.uuid and other is not host:
                self._forget(other)  # it has moved here
        host.met = True

    async def _ask(self, host: Host) -> UUID | None:
        """A client's UUID, and whether it knows unified errors; old ones cannot tell."""
        connection = self._connection(host)
        try:
            reply = await connection.call(cb.TELL_ME_ABOUT_YOURSELF, Void())
        except CallAborted as exc:
            if exc.code != RxgenCode.OPCODE:
                raise
        else:
            words = reply.capabilities
            host.unified_errors = bool(words and words[0] & cb.ClientCapability.ERROR_TRANSLATION)
            return reply.interfaces.uuid
        try:
            return (await connection.call(cb.WHO_ARE_YOU, Void())).interfaces.uuid
        except CallAborted as exc:
            if exc.code != RxgenCode.OPCODE:
                raise
            return None

    async def _reset(self, host: Host) -> None:
        if host.uuid is None:
            await self._connection(host).call(cb.INIT_CALL_BACK_STATE, Void())
        else:
            await self._connection(host).call(cb.INIT_CALL_BACK_STATE3, cb.UuidArgs(self.uuid))

    def _connection(self, host: Host) -> Connection:
        assert self._endpoint is not None
        return self._endpoint.connect(host.address, cb.SERVICE_ID)

    async def _make_room(self, host: Host) -> None:
        """Drop promises that hold no longer, or else take all of them back.

        A client that was promised nothing would have to ask about each file each time. Source:
        GetSomeSpace_r, which comes to the client that calls when no other one has any.
        """
        now = trio.current_time()
        self.give_up(host, [fid for fid, until in host.fids.items() if until <= now])
        if len(host.fids) <= MAX_PROMISES // 2:
            return
        self.give_up_all(host)
        try:
            with trio.fail_after(CALL_SECONDS):
                await self._reset(host)
        except (RxError, trio.TooSlowError) as exc:
            log.info("client %s:%d was not told to ask anew: %s", *host.address, exc)
            host.met = False  # it will be told when it calls next

    def _drop(self, host: Host, fid: Fid) -> None:
        if host.fids.pop(fid, None) is None:
            return
        holders = self._holders[fid]
        del holders[host]
        if not holders:
            del self._holders[fid]

    def _forget(self, host: Host) -> None:
        self.give_up_all(host)
        if self._hosts.get(host.address) is host:
            del self._hosts[host.address]
