"""Statuses: fetched once for all who ask, in bulk where many are asked for, applied in order."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cache.vnodes import PROMISE_MARGIN, Vnode
from afsfuse.errors import AfsError, DataCorrupt, NotPermitted
from afsfuse.fileserver.failures import locate
from afsfuse.interfaces.common import FIDS_MAX
from afsfuse.model import FileKind, Rights, VolumeType

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from afsfuse.auth.identity import Identity
    from afsfuse.cache.callbacks import BreakLog
    from afsfuse.cache.vnodes import Shelf, VnodeTable
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.fileserver.replies import ChangeReply, DataReply, StatusReply
    from afsfuse.interfaces.common import Fid
    from afsfuse.interfaces.fileserver import VolSync
    from afsfuse.model import Status

_BULK_CALLS = 6  # bulk calls in flight for one request; the server's threads are not ours alone
_YOUNG = 10.0  # seconds
_DELETED = (errno.ENOENT, errno.ESTALE)
_LOOKUP, _READ = int(Rights.LOOKUP), int(Rights.READ)
_OPEN = _LOOKUP | _READ


def identities(server: FileServer) -> Iterator[Hashable]:
    """The names under which a break of all promises of a server may arrive."""
    yield server.uuid
    for host, _ in server.addresses:
        yield host


class Flight:
    """A status fetch under way that others may wait for."""

    __slots__ = ("done", "error", "rights", "ticket", "vnode")

    def __init__(self, ticket: int) -> None:
        """Begun at the logical time `ticket`."""
        self.ticket = ticket
        self.done = trio.Event()
        self.vnode: Vnode | None = None
        self.rights = 0  # of whoever asks
        self.error: AfsError | None = None  # with both None the fetching task was cancelled


class StatusKeeper:
    """Brings statuses into the vnode table."""

    def __init__(
        self,
        client: FileServerClient,
        table: VnodeTable,
        log: BreakLog,
        version_moved: Callable[[Vnode], None],
        instance_moved: Callable[[Vnode, bool], None],
        rights_narrowed: Callable[[Vnode], None],
    ) -> None:
        """Say what to call when a known vnode has new data, when its volume was replaced, and when
        anybody may do less in a known directory.

        `instance_moved` is told whether equal data versions still mean equal data.
        """
        self._client = client
        self._table = table
        self._log = log
        self._version_moved = version_moved
        self._instance_moved = instance_moved
        self._rights_narrowed = rights_narrowed
        self._flights: dict[tuple[str, Fid, Identity], Flight] = {}
        self.fetched = 0  # statuses asked for one by one
        self.shared = 0  # requests that waited for another's fetch
        self.bulk_calls = 0

    def speaker(self, who: Identity, volume: Volume) -> Identity:
        """As whom an identity's calls reach the servers of a volume."""
        return self._client.speaker(who, volume.cell.name)

    async def status(self, volume: Volume, fid: Fid, who: Identity = NOBODY) -> Vnode:
        """The vnode of a fid, with a valid promise if the server gives one; raise `AfsError`.

        What is known is given to whoever asks: whether he may see it, `Doors` says.
        """
        vnode = self._table.find(volume, fid)
        if vnode is not None and self.is_valid(vnode, trio.current_time()):
            vnode.used = True
            return vnode
        return (await self.fetch(volume, fid, who))[0]

    def is_valid(self, vnode: Vnode, now: float) -> bool:
        """Whether a status may be relied on: by its own promise, or by that for its whole volume.

        A server promises to tell of a new release of a volume that nobody can write, whichever of
        its files was asked about: so one call makes valid all that is known of the same instance.
        Source: AddVolCallBack and GetVolumePackage in viced. Free of await.
        """
        if vnode.valid(now):
            return True
        if not vnode.created or vnode.volume.type is VolumeType.RW:
            return False
        shelf = self._table.shelf(vnode.volume)
        if vnode.created != shelf.created or shelf.expires - PROMISE_MARGIN <= now:
            return False
        vnode.expires, vnode.server = shelf.expires, shelf.server
        if vnode.status.kind is FileKind.DIRECTORY:
            self._open_to_all(vnode)
        return True

    def as_told_to(self, error: AfsError, who: Identity, volume: Volume) -> AfsError:
        """What an identity is told of an error of a call that was made in the name of its speaker:
        a `TokenExpired` is for whom nobody speaks since then, and for nobody else.
        """
        return self._client.as_told_to(error, who, volume)

    async def fetch(self, volume: Volume, fid: Fid, who: Identity) -> tuple[Vnode, int]:
        """The vnode of a fid, and the rights of an identity to it, asked in its own name."""
        try:
            return await self._fetch_shared(volume, fid, self.speaker(who, volume))
        except NotPermitted as exc:
            raise self.as_told_to(exc, who, volume) from exc.__cause__

    async def _fetch_shared(self, volume: Volume, fid: Fid, who: Identity) -> tuple[Vnode, int]:
        key = (volume.cell.name, fid, who)
        token = (who, volume.cell.name)
        while True:
            flight = self._flights.get(key)
            # What began before a break, or with another token, must not answer those who ask
            # after it.
            if flight is None or not self._log.may_join(flight.ticket, fid, token):
                return await self._fetch(key, volume, fid)
            self.shared += 1
            await flight.done.wait()
            if flight.error is not None:
                raise flight.error.again() from flight.error
            if flight.vnode is not None:
                return flight.vnode, flight.rights

    async def _fetch(
        self, key: tuple[str, Fid, Identity], volume: Volume, fid: Fid
    ) -> tuple[Vnode, int]:
        """Ask the server, for this task and for all that join meanwhile."""
        flight = self._flights[key] = Flight(self._log.begin())
        self.fetched += 1
        try:
            reply = await self._client.fetch_status(volume, fid, key[2])
            flight.rights = int(reply.status.caller_access)
            flight.vnode = self.apply(volume, fid, reply, flight.ticket, key[2])
            return flight.vnode, flight.rights
        except AfsError as exc:
            locate(exc, volume, None)
            flight.error = exc
            self.failed(volume, fid, exc)
            raise
        finally:
            self._log.end()
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.done.set()

    async def statuses(
        self, volume: Volume, directory: Fid, fids: Sequence[Fid], who: Identity = NOBODY
    ) -> list[Vnode | AfsError]:
        """Vnodes or errors in the order of `fids`; what is known and valid costs no call.

        The directory goes first in every bulk call, so that a change of it which no callback told
        of is seen by those who list it.
        """
        now = trio.current_time()
        found: dict[Fid, Vnode | AfsError] = {}
        wanted: list[Fid] = []
        for fid in dict.fromkeys(fids):
            vnode = self._table.find(volume, fid)
            if vnode is not None and self.is_valid(vnode, now):
                vnode.used = True
                found[fid] = vnode
            else:
                wanted.append(fid)
        await self.refresh(volume, directory, wanted, found, who)
        return [found[fid] for fid in fids]

    async def refresh(
        self,
        volume: Volume,
        directory: Fid | None,
        fids: Sequence[Fid],
        found: dict[Fid, Vnode | AfsError],
        who: Identity = NOBODY,
    ) -> None:
        """Fetch these statuses whatever is known, and put the outcome of each into `found`."""
        asker, who = who, self.speaker(who, volume)
        room = FIDS_MAX if directory is None else FIDS_MAX - 1
        head = [] if directory is None else [directory]
        batches = iter([[*head, *fids[i : i + room]] for i in range(0, len(fids), room)])
        workers = min(_BULK_CALLS, -(-len(fids) // room))
        if workers <= 1:
            await self._work(volume, batches, found, who)
        else:
            async with trio.open_nursery() as nursery:
                for _ in range(workers):
                    nursery.start_soon(self._work, volume, batches, found, who)
        if asker != who:
            for fid in fids:
                outcome = found[fid]
                if isinstance(outcome, AfsError):
                    found[fid] = self.as_told_to(outcome, asker, volume)

    async def _work(
        self,
        volume: Volume,
        batches: Iterator[list[Fid]],
        found: dict[Fid, Vnode | AfsError],
        who: Identity,
    ) -> None:
        """One of several tasks that share the batches. Failures become outcomes."""
        for fids in batches:
            ticket = self._log.begin()
            self.bulk_calls += 1
            try:
                replies = await self._client.bulk_status(volume, fids, who)
                self._apply_bulk(volume, fids, replies, ticket, found, who)
            except AfsError as exc:
                for fid in fids:
                    found[fid] = exc
            finally:
                self._log.end()

    def _apply_bulk(
        self,
        volume: Volume,
        fids: Sequence[Fid],
        replies: Sequence[StatusReply | AfsError],
        ticket: int,
        found: dict[Fid, Vnode | AfsError],
        who: Identity,
    ) -> None:
        """Apply the entries of one bulk reply; each may fail on its own."""
        for fid, reply in zip(fids, replies, strict=True):
            if isinstance(reply, AfsError):
                found[fid] = reply
                self.failed(volume, fid, reply)
                continue
            try:
                found[fid] = self.apply(volume, fid, reply, ticket, who)
            except DataCorrupt as exc:
                locate(exc, volume, reply.server)
                found[fid] = exc

    def apply(
        self,
        volume: Volume,
        fid: Fid,
        reply: StatusReply | DataReply,
        ticket: int,
        who: Identity = NOBODY,
    ) -> Vnode:
        """Enter what a server said of a fid. Free of await; raise `DataCorrupt` on nonsense.

        `who` is the name in which it was asked (see `speaker`).

        Replies can arrive in another order than the server wrote them. A data version never moves
        back on a server, so an older one is late, unless its fetch began after the newer one was
        known: then the volume was restored, and the server is right.
        """
        status = reply.status
        shelf = self._table.shelf(volume)
        if reply.sync.creation_time != shelf.created:
            self._check_instance(shelf, reply.sync, ticket)
        late = shelf.is_past(reply.sync.creation_time)
        vnode = shelf.vnodes.get(fid)
        # Directories have odd vnode numbers, everything else even ones. Source: viced/vol.
        if (status.kind is FileKind.DIRECTORY) is not bool(fid.vnode & 1):
            raise DataCorrupt(f"a server says that {fid} is a {status.kind.name.lower()}")
        if vnode is None:
            vnode = Vnode(volume, fid, status)
            self._table.add(shelf, vnode)
        elif late or not self._replace(vnode, status, ticket):
            return vnode
        vnode.ticket = ticket  # also of a new one
        vnode.applied = self._log.now
        vnode.used = True
        if late:
            # Of an instance that is known to have been followed by another: an answer for who
            # asked, and to be asked again by who comes next. Else old and new would stand side by
            # side for as long as was promised.
            vnode.asked_by = who
            return vnode
        if volume.type is not VolumeType.RW:
            # Times are in seconds: of a young instance there may have been another one of its age.
            created = reply.sync.creation_time
            certain = created == shelf.created and time.time() - created > _YOUNG
            vnode.created = created if certain else 0
        if status.kind is FileKind.DIRECTORY:
            self._enter_directory(vnode, reply, ticket, who)
            return vnode
        vnode.asked_by = who
        self._enter_promise(vnode, reply, ticket)
        return vnode

    def is_late(self, volume: Volume, reply: StatusReply | DataReply) -> bool:
        """Whether a reply that was applied just now is of a past instance of the volume."""
        return self._table.shelf(volume).is_past(reply.sync.creation_time)

    def changed(
        self,
        volume: Volume,
        fid: Fid,
        reply: ChangeReply,
        ticket: int,
        who: Identity = NOBODY,
    ) -> Vnode:
        """Enter the status that a change of our own left behind. Free of await; raise
        `DataCorrupt` on nonsense.

        A server tells everybody but us of what we change, so the promise that we hold holds on,
        and nobody need be told that the data is of another version. What others changed before is
        for the caller to see, by how far the data version rose; then call `distrust`.
        """
        shelf = self._table.shelf(volume)
        if reply.sync.creation_time != shelf.created:
            self._check_instance(shelf, reply.sync, ticket)
        vnode = shelf.vnodes.get(fid)
        if (reply.status.kind is FileKind.DIRECTORY) is not bool(fid.vnode & 1):
            raise DataCorrupt(f"a server says that {fid} is a {reply.status.kind.name.lower()}")
        if vnode is None:
            vnode = Vnode(volume, fid, reply.status)
            vnode.server = reply.server
            self._table.servers.add(reply.server)
            vnode.asked_by = who
            self._table.add(shelf, vnode)
        elif not self._replace(vnode, reply.status, ticket, ours=True):
            return vnode
        vnode.ticket = ticket
        vnode.applied = self._log.now
        vnode.used = True
        return vnode

    def _enter_promise(self, vnode: Vnode, reply: StatusReply | DataReply, ticket: int) -> None:
        promise = reply.promise
        log = self._log
        self._table.servers.add(reply.server)
        if promise is None or (
            log.latest > ticket and log.broken_since(ticket, vnode.fid, identities(promise.server))
        ):
            vnode.void()
            vnode.server = reply.server
        else:
            vnode.expires, vnode.server = promise
            if vnode.created:
                shelf = self._table.shelf(vnode.volume)
                shelf.expires, shelf.server = promise

    def _enter_directory(
        self, vnode: Vnode, reply: StatusReply | DataReply, ticket: int, who: Identity
    ) -> None:
        """The promise of a directory, and whom it lets in."""
        status = reply.status
        if vnode.permits and not vnode.expires > trio.current_time():
            vnode.permits = None  # there was a time in which no change would have been told
        self._enter_promise(vnode, reply, ticket)
        rights = int(status.caller_access)
        if rights & _LOOKUP:
            vnode.asked_by = who
        if not vnode.expires:
            return
        if vnode.permits and vnode.permits.get(who, rights) != rights:
            vnode.permits = None  # the list was changed, be it that nobody told us
        if not self._log.changed_since(ticket, (who, vnode.volume.cell.name)):
            vnode.permit(who, rights)
        self._open_to_all(vnode)

    @staticmethod
    def _open_to_all(vnode: Vnode) -> None:
        """Until when everybody may look into a directory and read its files."""
        everybody = int(vnode.status.anonymous_access)
        until = vnode.expires - PROMISE_MARGIN
        vnode.look_until = until if everybody & _LOOKUP else 0.0
        vnode.read_until = until if everybody & _OPEN == _OPEN else 0.0

    def _replace(self, vnode: Vnode, status: Status, ticket: int, *, ours: bool = False) -> bool:
        """Put a newer status in the place of the known one; False if it is not newer.

        `ours`: it is what a change of our own made of it.
        """
        known = vnode.status
        if status.data_version < known.data_version:
            if ticket <= vnode.applied:
                return False
        elif status.data_version == known.data_version and ticket < vnode.ticket:
            return False
        if vnode.dirty is not None and not vnode.dirty.believes(status.data_version):
            return False
        if (status.kind is FileKind.FILE) is not (known.kind is FileKind.FILE):
            raise DataCorrupt(f"a server says that {vnode.fid} has become another kind of file")
        vnode.status = status
        vnode.ticket = ticket
        if status.parent_vnode != known.parent_vnode:
            vnode.door = None
        if known.anonymous_access != status.anonymous_access:
            vnode.permits = None
            if int(known.anonymous_access) & ~int(status.anonymous_access) & _OPEN:
                self._rights_narrowed(vnode)
        if not ours and (
            status.data_version != known.data_version or status.length != known.length
        ):
            self._version_moved(vnode)
        elif status.mtime != known.mtime and vnode.volume.type is not VolumeType.RW:
            # Of the same version, but of another time: of a replica, which nobody can change, that
            # is a release, and its volume can have been restored before. See `_check_instance`.
            self._instance_moved(vnode, False)
        return True

    def _check_instance(self, shelf: Shelf, sync: VolSync, ticket: int) -> None:
        """See what it means that the volume was created at another time than known.

        A later time on a read-only volume is a release: everything must be asked for again, but
        equal data versions still mean equal data where the times are equal, too (see `_replace`).
        Any other move is a volume restored or replaced, whose versions may have been counted up
        anew over other data. Source: validation.c.
        """
        known, created = shelf.created, sync.creation_time
        if not created or (known and ticket <= shelf.seen):
            return  # a bulk status in which every entry failed; or a late reply
        shelf.created, shelf.seen = created, self._log.now
        if known:
            released = shelf.volume.type is not VolumeType.RW and created > known
            if released:
                self._client.release_seen(shelf.volume)
            for vnode in list(shelf.vnodes.values()):
                self._instance_moved(vnode, released)

    def failed(self, volume: Volume, fid: Fid, error: AfsError) -> None:
        """A status could not be had: a file that is gone must not look valid."""
        vnode = self._table.find(volume, fid)
        if vnode is not None and error.errno in _DELETED:
            vnode.void()
            vnode.created = 0
