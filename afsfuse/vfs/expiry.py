"""Letting go of trees: what was found idle, or what somebody asks to be let go at once.

A tree goes from the top of its own part of the tree of names: the kernel is asked to forget the
name of the mount point, drops with it all that it remembers below, and gives the references back;
the last one takes the nodes and the mount along. Then nothing shows the volume, so its vnodes go
and the servers are told that their promises are not needed. Trees below go first, so that whatever
happens meanwhile, no tree is without the one around it.

That the kernel does not give a root back means that somebody is inside who was not seen, or came in
just now. Nothing is lost then: the nodes are there, and the path is restored; see `mending`.
"""

from __future__ import annotations

import itertools
import logging
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio
import trio.lowlevel

from afsfuse.cell.sharing import Rounds
from afsfuse.vfs.inodes import Node
from afsfuse.vfs.trees import Keep, Survey, depth, is_top

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from afsfuse.auth.identity import Caller
    from afsfuse.cache import CacheManager
    from afsfuse.cell.volumes import Volume, VolumeLocator
    from afsfuse.model import Inode
    from afsfuse.vfs.inodes import Mount, NodeTable
    from afsfuse.vfs.invalidation import KernelNotifier
    from afsfuse.vfs.mending import Mender

log = logging.getLogger(__name__)

_GRACE = 1.0  # seconds without any reference given back, after which somebody must be inside
_POLL = 0.01  # seconds between two looks at whether it has, at first
_POLL_MOST = 0.2
_LATER = 20.0  # seconds until memory is given back once more: not all dies with the nodes
_TIMERS = 2000
"""More than the timers of the past that trio's queue keeps until it sweeps them out. Source:
`DEADLINE_HEAP_MIN_PRUNE_THRESHOLD` in trio's `_run.py`."""
KEEPS_TOLD = 8
"""Of what keeps a tree. A process that cannot be looked into may keep all trees, and there may be
hundreds of those; and below one tree there may be thousands."""
_REPORT_PAUSE = 0.25  # seconds between the beginnings of two reports, at least
_AT_A_TIME = 256  # trees told of, until others may have their turn
_BARE = 600.0  # seconds between two looks at volumes in no tree, where trees do not expire
_SWEEP = 15.0  # seconds between two looks at which trees are used, at most
_NODE_COST = 450  # bytes of a node with its names; measured with tracemalloc
_TREE_COST = 1500  # ... of a mount, its mount point and its volume

Use = tuple["Node | Volume", Keep]


async def no_survey() -> Survey:
    """Nobody is seen; for a file system that no kernel mounts."""
    return Survey([], [], [])


async def _sweep_timers() -> None:
    """Have trio's queue forget the timers of calls and connections that are over.

    It keeps each until its time has come, here a minute or two, and what hangs on it. Only when
    there are very many does it look which of them count; so we add to them.
    """
    soon = trio.current_time() + 1.0
    for _ in range(_TIMERS):
        with trio.CancelScope(deadline=soon):  # noqa: ASYNC100 - its timer is all that it is for
            pass
    await trio.lowlevel.checkpoint()


class Opened(Protocol):
    """An open file or directory."""

    @property
    def caller(self) -> Caller: ...
    @property
    def node(self) -> Node: ...


def opened_nodes(what: str, handles: Iterable[Opened]) -> Iterator[Use]:
    """The nodes of open files or directories, and who opened them."""
    for opened in handles:
        who = f"{opened.node.path()}, opened by process {opened.caller.tid}"
        yield opened.node, Keep(what, who, opened.caller.uid)


def busy_volumes(cache: CacheManager) -> Iterator[Use]:
    """Volumes of which something is locked, or waits to be stored."""
    for volume in cache.locks.volumes():
        yield volume, Keep("lock")
    for volume in cache.writes.volumes():
        yield volume, Keep("unstored data")


class TreeReport(NamedTuple):
    """One tree, for people."""

    path: str
    mount: Mount
    idle: float
    """Seconds since it was last seen in use."""
    keeps: list[Keep]
    """What keeps it, trees below it included, `KEEPS_TOLD` of them; empty: it goes when it was idle
    for long enough."""
    kept: int
    """By how many things."""
    nodes: int
    memory: int
    """Roughly how many bytes of the daemon's memory, without file data."""
    data: int
    """Bytes of file data of its volume in the cache."""


class Expiry:
    """The background task, and what commands ask about trees."""

    def __init__(
        self,
        nodes: NodeTable,
        cache: CacheManager,
        locator: VolumeLocator,
        notifier: KernelNotifier,
        mender: Mender,
        period: float,
    ) -> None:
        """`period`: seconds between two ticks; 0: nothing expires by itself."""
        self._nodes = nodes
        self._trees = nodes.trees
        self._cache = cache
        self._locator = locator
        self._notifier = notifier
        self._mender = mender
        self._period = period
        self._much_went = trio.Event()
        self._going = trio.Lock()  # one pass at a time
        self._reports = Rounds(self._look_at_all, _REPORT_PAUSE)
        self.survey: Callable[[], Awaitable[Survey]] = no_survey
        """Who is inside without having asked; see `afsfuse.fuse.usage`."""
        self.keepers: list[Callable[[], Iterable[Use]]] = []
        """What keeps the tree of a node, or all trees of a volume, as far as this process knows."""
        self.give_back: Callable[[], object] = lambda: None
        """Called when much has gone, and memory may be free; see `afsfuse.memory`."""
        nodes.emptied = lambda: self._much_went.set()
        self.expired = 0
        """Trees that went, since the start."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Expire idle trees until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._trim)
            task_status.started()
            if self._period:
                await self._tick_for_ever()
            while True:  # trees stay, but not what the kernel forgets of its own accord
                await trio.sleep(_BARE)
                self._release_bare()

    async def _trim(self) -> None:
        """Give memory back after more has gone than is left, when no more goes."""
        while True:
            await self._much_went.wait()
            gone = -1
            while gone != self._nodes.gone:
                gone = self._nodes.gone
                await trio.sleep(_GRACE)
                async with self._going:
                    pass  # whoever lets trees go has still to release their volumes
            self._nodes.gone = 0
            self._much_went = trio.Event()
            for pause in (0.0, _LATER):
                await trio.sleep(pause)
                await self._cache.leaving.settled()
                await _sweep_timers()
                self._nodes.compact()
                self._cache.compact()
                self._locator.compact()
                self.give_back()

    async def _tick_for_ever(self) -> None:
        last = trio.current_time()
        while True:
            await self._sleep_and_sweep(last + self._period)
            now = trio.current_time()
            try:
                await self._tick(last, now)
            except Exception:  # a mistake of ours must not end expiry for ever
                log.exception("idle trees could not be looked for")
            last = now

    async def _sleep_and_sweep(self, until: float) -> None:
        """Wait, and note now and then what is used, so that idle times are told in seconds."""
        while (now := trio.current_time()) < until:
            self._trees.sweep(now)
            await trio.sleep(min(until - now, _SWEEP))

    async def _tick(self, last: float, now: float) -> None:
        """Let what was not used since the `last` tick go."""
        self._release_bare()
        self._trees.sweep(now)
        kept = self._kept()
        for tree in kept:
            tree.idle_since = now  # when its file is closed the count begins anew
        if not self._trees.idle(last, kept):
            return
        inside = self._inside(await self.survey())
        for tree in inside:
            tree.idle_since = now
        self._trees.sweep(now)
        due = self._trees.idle(last, self._kept().keys() | inside.keys())
        if due:
            await self.let_go(due)

    # Who keeps a tree

    def _kept(self) -> dict[Mount, list[Keep]]:
        """Trees that are in use as far as this process knows."""
        kept: dict[Mount, list[Keep]] = {}
        volumes: dict[Volume, list[Keep]] = {}
        for used, keep in itertools.chain.from_iterable(keeper() for keeper in self.keepers):
            if not isinstance(used, Node):
                volumes.setdefault(used, []).append(keep)
            elif (tree := used.tree) is not None:
                kept.setdefault(tree, []).append(keep)
        if volumes:
            for tree in self._trees:
                if keeps := volumes.get(tree.volume):
                    kept.setdefault(tree, []).extend(keeps)
        return kept

    def _inside(self, survey: Survey) -> dict[Mount, list[Keep]]:
        """Trees that processes are in, as far as the machine tells."""
        kept: dict[Mount, list[Keep]] = {}
        for number, keep in survey.inodes:
            node = self._nodes.find(number)
            if node is not None and node.tree is not None:
                kept.setdefault(node.tree, []).append(keep)
        for path, keep in survey.paths:
            node = self._nodes.at(path)
            if node is not None and node.tree is not None:
                kept.setdefault(node.tree, []).append(keep)
        if survey.unseen:
            for tree in self._trees:
                kept.setdefault(tree, []).extend(survey.unseen)
        return kept

    async def _all_keeps(self) -> dict[Mount, list[Keep]]:
        inside = self._inside(await self.survey())
        kept = self._kept()
        for tree, keeps in inside.items():
            kept.setdefault(tree, []).extend(keeps)
        return kept

    # Letting go

    async def let_go(self, trees: Sequence[Mount]) -> list[Mount]:
        """Let trees go that nobody uses, each of which comes behind all below it.

        Returns those that are still there, since they are in use again, or somebody was not seen.
        """
        async with self._going:
            around: set[Mount | None] = set()  # those that stay below keep them
            for _, layer in itertools.groupby(sorted(trees, key=depth, reverse=True), depth):
                going = []
                for tree in layer:
                    if tree in around or tree.used:
                        around.add(tree.around)
                    elif tree in self._trees:
                        going.append(tree)
                await self._ask_kernel(going)
                around.update(tree.around for tree in going if tree in self._trees)
        left = [tree for tree in trees if tree in self._trees]
        now = trio.current_time()
        for tree in left:
            tree.idle_since = now
            log.debug("%s is still in use", tree.point.path())
        self.expired += len(trees) - len(left)
        return left

    async def _ask_kernel(self, going: Sequence[Mount]) -> None:
        """The kernel shall forget mount points, and with them all that it remembers below."""
        for tree in going:
            point = tree.point
            for parent, name in point.places():
                self._nodes.unhold(parent, name)
                self._notifier.invalidate_name(parent.inode, name)
            self._nodes.discard(point)  # it may have been forgotten already
        await self._wait(going)
        for tree in going:
            if tree in self._trees:
                self._mender.mend(tree.point)
        for volume in {tree.volume for tree in going if tree not in self._trees}:
            self._release(volume)

    async def _wait(self, going: Iterable[Mount]) -> None:
        """Until the kernel has given all of them back, or it is clear that it will not."""
        pause, before, since = _POLL, math.inf, trio.current_time()
        while staying := [tree for tree in going if tree in self._trees and not tree.used]:
            held = sum(len(tree.nodes) + 1 for tree in staying)
            if held < before:
                before, since = held, trio.current_time()
            elif trio.current_time() - since > _GRACE:
                return
            await trio.sleep(pause)
            pause = min(2 * pause, _POLL_MOST)

    def _release_bare(self) -> None:
        """Volumes that have been in no tree for a while."""
        for volume in self._trees.bare_volumes():
            self._release(volume)

    def _release(self, volume: Volume) -> None:
        """Nothing shows a volume any more: keep nothing of it, and tell its servers."""
        if self._trees.shown(volume):
            return
        self._trees.released(volume)
        self._nodes.went(self._cache.leaving.let_go(volume))
        self._locator.forget(volume)

    # What commands ask

    def find(self, inode: Inode) -> Mount | None:
        """The tree whose root has this number."""
        node = self._nodes.find(inode)
        tree = None if node is None else node.tree
        return tree if tree is not None and tree.point is node else None

    async def let_go_at_once(self, tree: Mount) -> list[tuple[Mount, Keep]]:
        """Let a tree and those below it go, or return what keeps which of them."""
        trees = self._trees.below(tree)
        kept = await self._all_keeps()
        using = [(each, keep) for each in trees for keep in kept.get(each, ())]
        if is_top(tree):
            using.append((tree, Keep("mount", "this is the mount itself: use umount")))
        if using:
            return using
        for each in trees:
            each.used = False
        return [
            (each, Keep("process", "somebody who was not seen, or came in just now"))
            for each in await self.let_go(trees)
        ]

    async def report(self) -> list[TreeReport]:
        """All trees, those around others first.

        It looks at all processes of the machine, and any user may ask: see `Rounds`.
        """
        return await self._reports.next()

    async def _look_at_all(self) -> list[TreeReport]:
        kept = await self._all_keeps()
        now = trio.current_time()
        self._trees.sweep(now)
        children = self._trees.children()
        reports = []
        for number, tree in enumerate(sorted(self._trees, key=depth), 1):
            if number % _AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
            if tree in self._trees:
                reports.append(self._told(tree, now, kept.get(tree, ()), children.get(tree, ())))
        return reports

    def _told(
        self, tree: Mount, now: float, keeps: Sequence[Keep], children: Sequence[Mount]
    ) -> TreeReport:
        shown = list(keeps[:KEEPS_TOLD])
        for child in children[: KEEPS_TOLD - len(shown)]:
            shown.append(Keep("tree below", child.point.path()))
        held = self._cache.leaving.footprint(tree.volume)
        nodes = len(tree.nodes) + 1
        return TreeReport(
            tree.point.path(),
            tree,
            now - tree.idle_since,
            shown,
            len(keeps) + len(children),
            nodes,
            _TREE_COST + _NODE_COST * nodes + held.vnodes_bytes,
            held.data_bytes,
        )
