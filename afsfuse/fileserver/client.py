"""The file servers' procedures as coroutines, each answered by whichever server can.

All raise `AfsError`; what a server sends that cannot be is `DataCorrupt`. What only asks is here;
what changes a volume is in `changes`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.auth.security import Credentials
from afsfuse.errors import AfsError, DataCorrupt, from_abort
from afsfuse.fileserver.changes import Changes
from afsfuse.fileserver.failures import about
from afsfuse.fileserver.operation import VOLUME_CODES, Operation, Verdict, judge
from afsfuse.fileserver.ownaddress import OwnAddresses
from afsfuse.fileserver.procedures import Procedures, too_old
from afsfuse.fileserver.replies import (
    DataReply,
    Promise,
    StatusReply,
    VolumeStatusReply,
    promise_of,
)
from afsfuse.fileserver.rotation import Rotation
from afsfuse.fileserver.transfers import SMALL, Stretch, receive_long, receive_old, receive_small
from afsfuse.interfaces.common import FIDS_MAX
from afsfuse.interfaces.fileserver import (
    FETCH_ACL,
    FETCH_DATA,
    FETCH_DATA64,
    FETCH_STATUS,
    GET_CAPABILITIES,
    GET_VOLUME_STATUS,
    GIVE_UP_ALL_CALLBACKS,
    GIVE_UP_CALLBACKS,
    INLINE_BULK_STATUS,
    Capability,
    FetchData64Args,
    FetchDataArgs,
    FidArgs,
    FidsArgs,
    GetVolumeStatusArgs,
    GiveUpCallBacksArgs,
)
from afsfuse.model import Status
from rxrpc import CallAborted, ProtocolError
from rxrpc.rpc import RxgenCode, Void
from rxrpc.security.base import SecurityIndex

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume, VolumeLocator
    from afsfuse.fileserver.figures import Operations
    from afsfuse.fileserver.health import ServerStatus
    from afsfuse.fileserver.limits import RetryLimits
    from afsfuse.fileserver.operation import Site
    from afsfuse.fileserver.preferences import Preferences
    from afsfuse.fileserver.refusals import Refusals
    from afsfuse.fileserver.transfers import Outcome, SmallFile
    from afsfuse.interfaces.common import CallBack, Fid
    from afsfuse.interfaces.fileserver import BulkStatusReply, FetchStatusReply
    from rxrpc import Endpoint, StreamCall

T = TypeVar("T")

log = logging.getLogger(__name__)

_RENOUNCE_SECONDS = 5.0  # for all servers together
_SMALL_FILE = 2**31 - 1  # the last byte that the old FetchData can reach


class FileServerClient:
    """Speaks to the file servers of all cells."""

    def __init__(
        self,
        endpoint: Endpoint,
        locator: VolumeLocator,
        credentials: Credentials | None = None,
        limits: RetryLimits | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        """Without `credentials` everybody is anonymous."""
        self._credentials = credentials or Credentials()
        self._locator = locator
        self._rotation = Rotation(endpoint, locator, self._credentials, limits, preferences)
        self._endpoint = endpoint
        self._promises_lost: Callable[[FileServer], None] = lambda server: None
        self._procedures = Procedures()
        self.changes = Changes(self._rotation, self._procedures)
        """What changes a volume."""

    def on_server_changed(self, told: Callable[[Volume, FileServer], None]) -> None:
        """Have `told` called when another server is asked about a volume than before."""
        self._rotation.server_changed = told

    def servers(self) -> list[ServerStatus]:
        """What is known of all file servers that were ever used."""
        return self._rotation.health.statuses()

    def sites_of(self, volume: Volume) -> list[str]:
        """Addresses of the servers that have a volume, in the order in which they are asked."""
        found = map(self._rotation.health.address, self._rotation.order(volume))
        return [address[0] for address in found if address is not None]

    async def silent_servers(self, cells: Collection[str], *, ask: bool) -> list[FileServer]:
        """The servers of these cells, of those that were ever used, that do not answer: as far as
        is known, or all of them are asked now.
        """
        health = self._rotation.health
        servers = [server for server in health.servers() if server.cell in cells]
        if ask:
            return await health.check(servers)
        return [server for server in servers if health.is_down(server)]

    @property
    def probe_interval(self) -> float:
        """Seconds between two looks at a server that has been down for a while; may be set."""
        return self._rotation.health.patient_interval

    @probe_interval.setter
    def probe_interval(self, seconds: float) -> None:
        self._rotation.health.patient_interval = seconds

    async def renounce(self) -> None:
        """Give all promises of all servers back, as far as they take it within a few seconds, and
        rely on none of them.
        """
        servers = self._rotation.health.servers()
        with trio.move_on_after(_RENOUNCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for server in servers:
                    nursery.start_soon(self._renounce, server)
        for server in servers:
            self._promises_lost(server)

    async def _renounce(self, server: FileServer) -> None:
        try:
            await self.give_up_all_callbacks(server)
        except AfsError as exc:
            log.debug("callbacks were not given back: %s", exc)

    @property
    def operations(self) -> Operations:
        """What is under way, and how it went before."""
        return self._rotation.operations

    @property
    def refusals(self) -> Refusals:
        """Which servers do not serve which volumes at the moment."""
        return self._rotation.refusals

    @property
    def preferences(self) -> Preferences:
        """Which servers are asked first; may be changed."""
        return self._rotation.health.preferences

    @property
    def channels(self) -> int:
        """How many calls to one server can be in flight; more wait their turn."""
        return self._rotation.channels

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch over the servers, and over our own address, until cancelled."""
        own = OwnAddresses(
            self._rotation.health.servers, self._moved, self._endpoint.source_towards
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(own.run)
            await nursery.start(self._rotation.health.run)
            task_status.started()

    def _moved(self, servers: list[FileServer]) -> None:
        """We are at another address: connections and promises belong to the one before."""
        log.info("our address is another one, or was away: all connections are made anew")
        self._endpoint.reconnect()
        for server in servers:
            self._rotation.health.look_soon(server)
            self._promises_lost(server)

    def slept(self) -> None:
        """This machine has slept: servers have forgotten our connections, NATs the way to us."""
        self._endpoint.reconnect()
        self.look_at_all()

    def look_at_all(self) -> None:
        """Measure all servers at all their addresses now, and choose among these anew."""
        for server in self._rotation.health.servers():
            self._rotation.health.look_soon(server)

    def on_promises_lost(self, told: Callable[[FileServer], None]) -> None:
        """Have `told` called when a server may have told us in vain of broken promises."""
        self._promises_lost = told

    def speaker(self, who: Identity, cell: str) -> Identity:
        """As whom an identity's calls reach the servers of a cell: without a token as nobody."""
        return NOBODY if self._credentials.of(who, cell).index == SecurityIndex.NULL else who

    def as_told_to(self, error: AfsError, who: Identity, volume: Volume) -> AfsError:
        """A refusal as an identity is to hear it: that its token has expired, if it has."""
        return self._rotation.as_told_to(error, who, volume.cell.name)

    async def fetch_status(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> StatusReply:
        """Status of one file, with a promise."""

        async def attempt(site: Site) -> StatusReply:
            return await self._fetch_status(site, fid)

        return await self._do("FetchStatus", volume, attempt, who)

    async def lock_count(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> int:
        """How many read locks a server counts on a file; -1: a write lock."""

        async def attempt(site: Site) -> int:
            reply = await site.connection.call(FETCH_STATUS, FidArgs(fid), timeouts=site.timeouts)
            count = reply.status.lock_count
            return count - ((count & 0x80000000) << 1)

        return await self._do("FetchStatus", volume, attempt, who)

    async def bulk_status(
        self, volume: Volume, fids: Sequence[Fid], who: Identity = NOBODY
    ) -> list[StatusReply | AfsError]:
        """Statuses of up to 50 files of one volume; each may fail on its own."""

        async def attempt(site: Site) -> list[StatusReply | AfsError]:
            if self._procedures.has(site, INLINE_BULK_STATUS):
                before = trio.current_time()
                try:
                    reply = await site.connection.call(
                        INLINE_BULK_STATUS, FidsArgs(tuple(fids)), timeouts=site.timeouts
                    )
                except CallAborted as exc:
                    self._procedures.note_lacking(site, INLINE_BULK_STATUS, exc)
                else:
                    return _bulk_replies(volume, fids, reply, site.server, before)
            return [await self._status_or_error(site, volume, fid) for fid in fids]

        if len(fids) > FIDS_MAX:
            raise ValueError(f"{len(fids)} fids in one bulk call")
        replies = await self._do("InlineBulkStatus", volume, attempt, who)
        return [
            self.as_told_to(reply, who, volume) if isinstance(reply, AfsError) else reply
            for reply in replies
        ]

    async def fetch_data(
        self,
        volume: Volume,
        fid: Fid,
        position: int,
        buffers: Sequence[memoryview],
        who: Identity = NOBODY,
        *,
        versioned: bool = False,
    ) -> DataReply:
        """Fill the buffers one after the other with the file's bytes from `position` on.

        Fewer bytes come where the file ends. What the buffers hold after an error is undefined.
        `versioned`: who asks knows the version that it wants, so that several calls may bring the
        bytes; those are of one version only if it is that at the end.
        """

        async def attempt(site: Site) -> DataReply:
            if versioned and self._procedures.has(site, FETCH_DATA64):
                try:
                    return await Stretch(fid, position, buffers).fetch(site)
                except CallAborted as exc:
                    self._procedures.note_lacking(site, FETCH_DATA64, exc)
            return await self._fetch_data(site, volume, fid, position, buffers)

        return await self._do("FetchData64", volume, attempt, who)

    def loss(self, server: FileServer) -> float:
        """The share of a server's packets that is lost on the way though nothing queues there."""
        return self._rotation.loss(server)

    async def fetch_small_files(
        self,
        volume: Volume,
        files: Sequence[SmallFile],
        settle: Callable[[int, Outcome], None],
        who: Identity = NOBODY,
    ) -> None:
        """Fetch many files of one volume whole, of `SMALL` bytes at most, with all calls at once.

        `settle` is called with each file's place in `files` and its reply, or the error of that
        file alone, as they come; it must not raise. Raises `AfsError` for all those that were not
        settled. One task and one way through the retry loop serve all of them: for a file of a few
        kilobytes these cost as much as the call.
        """
        left = dict(enumerate(files))

        async def attempt(site: Site) -> None:
            if not self._procedures.has(site, FETCH_DATA64):
                for place, file in tuple(left.items()):
                    reply = await self._fetch_data(site, volume, file.fid, 0, file.buffers)
                    del left[place]
                    settle(place, reply)
                return
            before = trio.current_time()
            wanted = tuple(left.items())
            calls = site.connection.streams(
                FETCH_DATA64,
                [FetchData64Args(file.fid, 0, file.size) for _place, file in wanted],
                timeouts=site.timeouts,
            )
            try:
                for (place, file), call in zip(wanted, calls, strict=True):
                    outcome = await self._small_outcome(site, volume, file, call, before)
                    del left[place]
                    settle(place, outcome)
            finally:
                for call in calls:
                    call.close()

        await self._do("FetchData64", volume, attempt, who)

    async def _small_outcome(
        self,
        site: Site,
        volume: Volume,
        file: SmallFile,
        call: StreamCall[FetchStatusReply],
        before: float,
    ) -> Outcome:
        """How one of many calls ended, if that concerns its file only; else raise."""
        try:
            return await receive_small(call, file.buffers, site.server, before)
        except ProtocolError as exc:
            return DataCorrupt(
                f"the file server broke the protocol: {exc}", **about(volume, site.server)
            )
        except CallAborted as exc:
            if exc.code == RxgenCode.OPCODE:
                self._procedures.note_lacking(site, FETCH_DATA64, exc)
                return await self._fetch_data(site, volume, file.fid, 0, file.buffers)
            if judge(exc) is not Verdict.REFUSED:
                raise
            return from_abort(exc.code, **about(volume, site.server))
        except DataCorrupt as exc:
            return exc

    async def _fetch_data(
        self,
        site: Site,
        volume: Volume,
        fid: Fid,
        position: int,
        buffers: Sequence[memoryview],
    ) -> DataReply:
        size = sum(map(len, buffers))
        if self._procedures.has(site, FETCH_DATA64):
            before = trio.current_time()
            try:
                async with site.connection.stream(
                    FETCH_DATA64, FetchData64Args(fid, position, size), timeouts=site.timeouts
                ) as call:
                    if size <= SMALL:
                        return await receive_small(call, buffers, site.server, before)
                    return await receive_long(call, buffers, site.server, before)
            except CallAborted as exc:
                self._procedures.note_lacking(site, FETCH_DATA64, exc)
        if position + size > _SMALL_FILE:
            raise too_old(site, volume)
        before = trio.current_time()
        async with site.connection.stream(
            FETCH_DATA, FetchDataArgs(fid, position, size), timeouts=site.timeouts
        ) as call:
            return await receive_old(call, buffers, site.server, before)

    async def fetch_acl(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> bytes:
        """The access list of a directory, as the text in which servers keep it."""

        async def attempt(site: Site) -> bytes:
            reply = await site.connection.call(FETCH_ACL, FidArgs(fid), timeouts=site.timeouts)
            return reply.access_list

        return await self._do("FetchACL", volume, attempt, who)

    async def volume_status(self, volume: Volume, who: Identity = NOBODY) -> VolumeStatusReply:
        """Quota and use of a volume."""

        async def attempt(site: Site) -> VolumeStatusReply:
            reply = await site.connection.call(
                GET_VOLUME_STATUS, GetVolumeStatusArgs(volume.id), timeouts=site.timeouts
            )
            return VolumeStatusReply(
                reply.status, reply.name, reply.offline_message, reply.message_of_the_day
            )

        return await self._do("GetVolumeStatus", volume, attempt, who)

    async def give_up_all_callbacks(self, server: FileServer) -> None:
        """Give all promises of a server back."""
        await self._rotation.call(server, GIVE_UP_ALL_CALLBACKS, Void())

    async def give_up_callbacks(self, server: FileServer, fids: Sequence[Fid]) -> None:
        """Give the promises for up to 50 files of a server back."""
        if len(fids) > FIDS_MAX:
            raise ValueError(f"{len(fids)} fids in one call")
        await self._rotation.call(server, GIVE_UP_CALLBACKS, GiveUpCallBacksArgs(tuple(fids), ()))

    def release_seen(self, volume: Volume) -> None:
        """A server has a newer replica of a volume than before: which of the others have it, too,
        and whether there are more by now, its record tells.
        """
        self._locator.check_soon(volume)

    def forget(self, volume: Volume) -> None:
        """Nobody uses a volume any more."""
        self._rotation.forget(volume)

    async def get_capabilities(self, server: FileServer) -> Capability:
        """What a server can do."""
        reply = await self._rotation.call(server, GET_CAPABILITIES, Void())
        return Capability(reply.capabilities[0] if reply.capabilities else 0)

    async def _do(
        self, name: str, volume: Volume, attempt: Callable[[Site], Awaitable[T]], who: Identity
    ) -> T:
        return await self._rotation.execute(Operation(name, volume, attempt, who))

    async def _fetch_status(self, site: Site, fid: Fid) -> StatusReply:
        before = trio.current_time()
        reply = await site.connection.call(FETCH_STATUS, FidArgs(fid), timeouts=site.timeouts)
        promise = promise_of(reply.callback, site.server, before)
        return StatusReply(Status.from_wire(reply.status), promise, reply.sync, site.server)

    async def _status_or_error(
        self, site: Site, volume: Volume, fid: Fid
    ) -> StatusReply | AfsError:
        """One entry of a bulk status at a server that does not know bulk status."""
        try:
            return await self._fetch_status(site, fid)
        except CallAborted as exc:
            if exc.code in VOLUME_CODES or judge(exc) is not Verdict.REFUSED:
                raise
            return from_abort(exc.code, **about(volume, site.server))
        except DataCorrupt as exc:
            return exc


def _bulk_replies(
    volume: Volume,
    fids: Sequence[Fid],
    reply: BulkStatusReply,
    server: FileServer,
    before: float,
) -> list[StatusReply | AfsError]:
    """The entries of a bulk status. Each has an error code of its own."""
    if not len(reply.statuses) == len(reply.callbacks) == len(fids):
        raise DataCorrupt(
            f"{len(reply.statuses)} statuses and {len(reply.callbacks)} promises came for "
            f"{len(fids)} files",
            **about(volume, server),
        )
    sync = reply.sync
    replies: list[StatusReply | AfsError] = []
    promises: dict[CallBack, Promise | None] = {}  # nearly all are the same
    for wire, callback in zip(reply.statuses, reply.callbacks, strict=True):
        code = wire.error_code
        if code:
            code -= (code & 0x80000000) << 1
            if code in VOLUME_CODES:
                raise CallAborted(code, remote=True)
            replies.append(from_abort(code, **about(volume, server)))
            continue
        if callback not in promises:
            promises[callback] = promise_of(callback, server, before)
        try:
            status = Status.from_wire(wire)
        except DataCorrupt as exc:
            replies.append(exc)
            continue
        replies.append(StatusReply(status, promises[callback], sync, server))
    return replies
