"""Finding out where mount points lead, without letting anybody wait who only looks.

Two kinds of callers want the target of a mount point. Whoever *enters* it (lists it, looks
something up below it) waits for the answer, within bounds, and gets the reason when there is
none. Whoever only *looks* at it (stat, `ls -l` of the directory around it) waits for a fraction
of a second at most, and not at all when

- it leads to another cell and nobody has entered it since the mount,
- it failed a short time ago,
- its search would have to ask a server which kept another look waiting a short time ago, or
- looking at others in the same volume has taken a second in the last ten.

Each search is a background task that all callers share; it goes on when an impatient one has left.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import trio

from afsfuse.cell.volumes import Preference
from afsfuse.errors import AfsError, DataCorrupt, NotPermitted, VolumeMissing
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind, VolumeType
from afsfuse.vfs.inodes import MIXED_PAGES, NO_PAGES, Mount
from afsfuse.vfs.mountpoints import MountPoint, MountTarget, parse_mountpoint
from afsfuse.vfs.trees import nesting

if TYPE_CHECKING:
    from collections.abc import Hashable

    from afsfuse.auth.identity import Identity
    from afsfuse.cache import CacheManager, Vnode
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.cell.volumes import Volume, VolumeLocator
    from afsfuse.vfs.background import Background
    from afsfuse.vfs.inodes import NodeTable
    from afsfuse.vfs.invalidation import KernelNotifier
    from afsfuse.vfs.options import VfsOptions

log = logging.getLogger(__name__)

ROOT_VNODE = 1
"""Vnode number and uniquifier of a volume's root directory."""

_SLOW_LIMIT = 1024  # servers remembered as slow before those that may be tried again are swept
_SEARCHES = 4  # that an entering caller sees through: its own, one given up, others' refused


class Failure(NamedTuple):
    """Why a mount point could not be entered."""

    error: AfsError
    until: float
    """Believed until then (trio time)."""
    enter_at: float
    """Who wants to enter tries it again then: for servers that are silent it is known better, by
    who watches over them, when to ask them."""


class NotTried(AfsError):
    """A search that nobody would wait for was given up before it asked a slow server."""


class Resolution:
    """One search for the target of one mount point."""

    __slots__ = ("asking", "done", "lookers", "refused", "wanted", "who")

    def __init__(self, who: Identity) -> None:
        self.who = who
        """In whose name it goes on."""
        self.refused: NotPermitted | None = None
        """That it may not know; no answer to anybody else."""
        self.done = trio.Event()
        self.wanted = False
        """Whether somebody waits who wants to enter."""
        self.lookers = 0
        """How many wait who only look; they take the attributes with them."""
        self.asking: Hashable = None
        """Who is being waited for."""


class Resolver:
    """Resolves mount points; keeps what it finds in them."""

    def __init__(
        self,
        cells: CellDirectory,
        locator: VolumeLocator,
        cache: CacheManager,
        nodes: NodeTable,
        notifier: KernelNotifier,
        background: Background,
        options: VfsOptions,
    ) -> None:
        self._cells = cells
        self._locator = locator
        self._cache = cache
        self._nodes = nodes
        self._notifier = notifier
        self._background = background
        self._options = options
        self._slow: dict[Hashable, float] = {}
        """Who kept somebody waiting, and until when nobody else is to wait for them."""
        self._spent: WeakKeyDictionary[Mount, tuple[float, float]] = WeakKeyDictionary()
        """For mounts: until when, and how many seconds have been spent on looking."""

    async def enter(self, point: MountPoint, who: Identity) -> Mount:
        """The volume behind a mount point; raises `AfsError` with the reason if there is none."""
        for _ in range(_SEARCHES):
            known = self._known(point)
            if known is not None:
                return known
            resolution = point.resolution or self._begin(point, who)
            resolution.wanted = True
            await resolution.done.wait()
            if resolution.refused is not None and resolution.who == who:
                raise resolution.refused.again()
        known = self._known(point)
        if known is not None:
            return known
        raise AfsError(f"{point.path()}: the mount point could not be resolved")

    @staticmethod
    def _known(point: MountPoint) -> Mount | None:
        """What needs no search; raises the reason if that is known."""
        now = trio.current_time()
        target = point.target
        if target is not None and now < point.checked_until and target.volume.sites:
            return target
        if point.failure is not None and now < point.failure.enter_at:
            raise point.failure.error.again()
        return None

    async def look(self, point: MountPoint, who: Identity) -> None:
        """Have a mount point's target in `point.vnode` as far as it can be had in a moment.

        The status may be out of date (its promise ended, and its server is slow to answer), and
        there is none when nothing is known at all. Never raises `AfsError`.
        """
        now = trio.current_time()
        vnode = point.vnode
        if (vnode is not None and vnode.valid(now)) or not self.worth_a_look(point, now):
            return
        resolution = point.resolution or self._begin(point, who)
        patience = self._options.patience if vnode is None else self._options.refresh_patience
        resolution.lookers += 1
        try:
            with trio.move_on_after(patience) as scope:
                await resolution.done.wait()
        finally:
            resolution.lookers -= 1
            self._charge(point, now)
        if scope.cancelled_caught:
            self._remember_slow(resolution.asking)

    def worth_a_look(self, point: MountPoint, now: float) -> bool:
        """Whether waiting a moment may show the target of a mount point."""
        if point.failure is not None and now < point.failure.until:
            return False
        if point.target is None and self._foreign(point):
            return False
        if point.resolution is not None and self._is_slow(point.resolution.asking):
            return False
        spent = self._spent.get(point.mount) if point.mount is not None else None
        return spent is None or now >= spent[0] or spent[1] < self._options.looking_budget

    def _charge(self, point: MountPoint, since: float) -> None:
        """Note how long somebody waited, so that all the waits in one volume have a bound."""
        if point.mount is None:
            return
        now = trio.current_time()
        until, seconds = self._spent.get(point.mount, (0.0, 0.0))
        if since >= until:
            until, seconds = since + self._options.retry_after, 0.0
        self._spent[point.mount] = (until, seconds + now - since)

    def _begin(self, point: MountPoint, who: Identity) -> Resolution:
        resolution = point.resolution = Resolution(who)
        # The kernel may forget the mount point before the search is over. What is found then must
        # not be tied to a node that is gone: that tree could never go.
        point.handles += 1
        try:
            self._background.start(self._resolve, point, resolution)
        except BaseException:
            self._over(point)
            raise
        return resolution

    def _over(self, point: MountPoint) -> None:
        """The search is; the mount point goes if nothing else needs it."""
        point.resolution = None
        point.handles -= 1
        self._nodes.discard(point)

    def _foreign(self, point: MountPoint) -> bool:
        """Whether the mount point is known to lead to another cell than the one it stands in."""
        if point.spec is None or point.spec.cell is None:
            return False
        home = point.mount.volume.cell.name if point.mount else self._cells.this_cell
        return point.spec.cell != home

    async def _resolve(self, point: MountPoint, resolution: Resolution) -> None:
        """The task of one search; its outcome is in the mount point when `done` is set."""
        try:
            with trio.move_on_after(self._options.enter_timeout) as scope:
                await self._search(point, resolution)
            if scope.cancelled_caught:
                seconds = self._options.enter_timeout
                raise AfsError(f"no answer within {seconds:.0f} s", errno=errno.ETIMEDOUT)
        except NotTried:
            pass
        except NotPermitted as error:
            resolution.refused = error
        except AfsError as error:
            self._failed(point, error)
        finally:
            self._over(point)
            resolution.done.set()

    async def _search(self, point: MountPoint, resolution: Resolution) -> None:
        spec = point.spec
        if spec is None:
            spec = point.spec = await self._read_body(point, resolution)
            if self._foreign(point) and not resolution.wanted:
                raise NotTried("another cell")
        parent = point.mount.volume if point.mount else None
        cell = spec.cell or (parent.cell.name if parent else None)
        if cell is None:
            raise AfsError("the mount point names no cell", errno=errno.EINVAL)
        self._ask(resolution, cell)
        want = preference(spec, parent, cell)
        volume = await self._locator.volume(cell, spec.volume, want, resolution.who)
        if parent and parent.type is volume.type is VolumeType.BACKUP:
            raise VolumeMissing(
                "a backup volume inside a backup volume", cell=cell, volume=volume.name
            )
        if nesting(point.mount, volume) >= self._options.nesting_limit:
            raise AfsError(
                "the volume is mounted inside itself", errno=errno.ELOOP,
                cell=cell, volume=volume.name,
            )  # fmt: skip
        root = Fid(volume.id, ROOT_VNODE, ROOT_VNODE)
        self._ask(resolution, servers_of(volume))
        vnode = await self._cache.status(volume, root, resolution.who)
        if vnode.status.kind is not FileKind.DIRECTORY:
            raise DataCorrupt("the root of a volume is no directory", volume=volume.name, cell=cell)
        self._slow.pop(cell, None)
        self._slow.pop(resolution.asking, None)
        self._bind(point, resolution, volume, vnode)

    async def _read_body(self, point: MountPoint, resolution: Resolution) -> MountTarget:
        assert point.mount is not None
        assert point.fid is not None
        self._ask(resolution, servers_of(point.mount.volume))
        volume = point.mount.volume
        return parse_mountpoint(await self._cache.readlink(volume, point.fid, resolution.who))

    def _ask(self, resolution: Resolution, whom: Hashable) -> None:
        """The search is about to wait for somebody; give it up if that is in vain."""
        if not resolution.wanted and self._is_slow(whom):
            raise NotTried("slow a short time ago")
        resolution.asking = whom

    def _is_slow(self, whom: Hashable) -> bool:
        return self._slow.get(whom, 0.0) > trio.current_time()

    def _remember_slow(self, whom: Hashable) -> None:
        now = trio.current_time()
        if len(self._slow) >= _SLOW_LIMIT:
            self._slow = {key: until for key, until in self._slow.items() if until > now}
        self._slow[whom] = now + self._options.retry_after

    def _bind(
        self, point: MountPoint, resolution: Resolution, volume: Volume, vnode: Vnode
    ) -> None:
        """The target is found: `vnode` is the root of `volume`."""
        if point.target is None or point.target.volume is not volume:
            self._leave_target(point)
            point.target = Mount(point, point.place, volume, vnode.fid)
            self._nodes.trees.entered(point.target)
            if point.faked and not resolution.lookers:
                self._notifier.invalidate_attributes(point.inode)
            point.faked = False
        self._nodes.show(point, vnode)
        point.checked_until = trio.current_time() + self._options.target_lifetime
        point.failure = None

    def _leave_target(self, point: MountPoint) -> None:
        """What the kernel holds below the mount point is of a volume that is there no more."""
        if point.target is not None:
            self._nodes.trees.left(point.target)
        point.target = None
        self._nodes.show(point, None)
        if point.pages_version != NO_PAGES:
            point.pages_version = MIXED_PAGES
            self._notifier.invalidate_data(point.inode)
        for name in [*(point.names or ()), *(point.absent or ())]:
            self._nodes.unhold(point, name)
            self._notifier.invalidate_name(point.inode, name)

    def _failed(self, point: MountPoint, error: AfsError) -> None:
        """Remember the reason. A volume that was there stays unless it is proven to be gone."""
        now = trio.current_time()
        gone = isinstance(error, VolumeMissing)
        if point.target is not None and not gone:
            point.checked_until = now + self._options.retry_after
            log.info("%s: cannot check the mount point: %s", point.path(), error)
            return
        if point.target is not None:
            self._leave_target(point)
        error = error.again()
        target = f" to {point.spec}" if point.spec else ""
        error.message = f"{point.path()}: mount point{target}: {error.message}"
        known = point.failure
        until = now + self._options.retry_after
        enter_at = now + self._options.retry_entering if error.passing else until
        point.failure = Failure(error, until, enter_at)
        if known is None or str(known.error) != str(error):  # told once, not every ten seconds
            log.info("%s", error)


def preference(spec: MountTarget, parent: Volume | None, cell: str) -> Preference:
    """Which type of the volume a mount point wants, given the volume it stands in.

    Made-up mount points, which stand in no volume, prefer the replica like those that cross into
    another cell. Source: EvalMountData in afs_vnop_lookup.c.
    """
    if spec.suffix:
        return Preference.RO if spec.suffix == "readonly" else Preference.BACKUP
    if spec.kind == "%":
        return Preference.FORCE_RW
    if parent is None or parent.cell.name != cell or parent.type is VolumeType.RO:
        return Preference.PREFER_RO
    return Preference.FORCE_RW


def servers_of(volume: Volume) -> Hashable:
    """What stands for the servers of a volume: volumes on the same ones are slow together."""
    return tuple(site.server.uuid for site in volume.sites)
