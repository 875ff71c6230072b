"""How the parts of a mount are wired together: built here, started and stopped by `daemon`.

From below: an endpoint on one UDP port, cells and their volumes, the file servers' client, the
cache, the vfs, the callback service beside it, and on top the mount; the tokens stand beside them,
and so does what answers commands.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from afsfuse.auth.folders import UNLINKED, own_folder
from afsfuse.auth.processes import process_of
from afsfuse.auth.security import LEVELS, Credentials, TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.cache import CacheManager, LockMode
from afsfuse.cache.leftovers import Leftovers
from afsfuse.cache.recovery import Recovery
from afsfuse.callback_service import CallbackService, cache_config
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.location import LocationLimits
from afsfuse.cell.people import People
from afsfuse.cell.records import Preference
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.usernumbers import LIMITS as NUMBER_LIMITS
from afsfuse.cell.usernumbers import ProtectionService, UserNumbers
from afsfuse.cell.volumes import VolumeLocator
from afsfuse.control.fsverbs import fs_verbs
from afsfuse.control.loglevels import LogLevels
from afsfuse.control.mounted import Mounted
from afsfuse.control.paths import Paths
from afsfuse.control.servers import ServerPreferences
from afsfuse.control.statistics import Overview
from afsfuse.control.tracing import Tracing
from afsfuse.control.trees import TreeVerbs
from afsfuse.control.unstored import UnstoredFiles
from afsfuse.control.verbs import Verbs
from afsfuse.control.why import Why
from afsfuse.fileserver.client import FileServerClient
from afsfuse.fileserver.limits import RetryLimits
from afsfuse.fileserver.preferences import Preferences
from afsfuse.fuse.mount import MountOptions
from afsfuse.fuse.notify import KernelNotifier
from afsfuse.fuse.session import FuseSession, SessionLimits
from afsfuse.memory import trim
from afsfuse.reloading import Reloader, cell_files
from afsfuse.vfs import FileSystem, KernelInvalidator, ListedCells, NodeTable, VfsOptions
from afsfuse.vfs.forgetting import Forgetting
from afsfuse.vfs.inodes import holders

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rxrpc
    from afsfuse.cache import Vnode
    from afsfuse.cache.disk import NoDisk
    from afsfuse.cache.journal import DirtyKey
    from afsfuse.cell.volumes import Volume
    from afsfuse.config import Config


LEAST_DIRTY = 16 << 20
"""Bytes that may be written and not stored yet: half the data cache, or at least so many."""
SETTLE_SECONDS = 1.0
"""How long a callback's reply may wait for the kernel; the callback service has its own bound."""
OWN_SETTLE_SECONDS = 0.25
"""... and how long a change may, where one volume is mounted at several places. Two processes that
change one directory at two places at once wait for each other's locks in the kernel so long."""


@dataclass(frozen=True)
class Servers:
    """What is below a mount's cache: who asks, in which cells, and whom."""

    endpoint: rxrpc.Endpoint
    cells: CellDirectory
    registry: ServerRegistry
    tokens: TokenStore
    credentials: Credentials
    locator: VolumeLocator
    client: FileServerClient


@dataclass(frozen=True)
class Parts:
    """What a mount is made of, wired together."""

    locator: VolumeLocator
    client: FileServerClient
    cache: CacheManager
    filesystem: FileSystem
    callbacks: CallbackService
    session: FuseSession
    tokens: TokenStore
    credentials: Credentials
    numbers: UserNumbers
    recovery: Recovery
    verbs: Verbs
    reloader: Reloader
    overview: Overview

    def status(self) -> str:
        """How it goes, in a line for systemd."""
        tokens = len(self.tokens.all())
        return f"mounted; {tokens} token{'s' * (tokens != 1)}; {self.left()}"

    def left(self) -> str:
        """What is written and on no server yet, for people."""
        files = [*self.cache.writes.unstored(), *self.recovery.unstored()]
        if not files:
            return "everything is stored"
        size = sum(file.size for file in files)
        return f"{size} bytes of {len(files)} file{'s' * (len(files) != 1)} are not stored"


def compose(
    endpoint: rxrpc.Endpoint,
    config: Config,
    credentials: Credentials | None = None,
    disk: NoDisk | None = None,
) -> Parts:
    """Build everything above the endpoint. Starts nothing; reads the configuration folders.

    Without `credentials` identities are known by the tokens of this machine's store; without
    `disk` file data is kept in memory only.
    """
    servers = _servers(endpoint, config, credentials)
    cache = _cache(config, servers.client, disk)
    servers.client.on_server_changed(cache.server_changed)
    servers.client.on_promises_lost(cache.promises_lost)
    notifier, nodes = KernelNotifier(), NodeTable()
    options, sysnames = _vfs_options(config)
    cache.listener = KernelInvalidator(nodes, notifier, sysnames)
    tokens = servers.tokens
    filesystem = FileSystem(
        servers.cells,
        servers.locator,
        cache,
        servers.client,
        nodes=nodes,
        notifier=notifier,
        options=options,
        identify=tokens.identities.of,
        leftovers=_leftovers(disk),
        settle=partial(notifier.settled, timeout=OWN_SETTLE_SECONDS),
    )
    recovery = Recovery(cache, partial(_volume_of, servers.locator))
    for changed in (cache.token_changed, filesystem.token_changed, recovery.token_changed):
        tokens.subscribe(changed)
    callbacks = _callbacks(config, cache, servers, notifier)
    session = _session(config, filesystem, notifier)
    filesystem.expiry.survey = session.survey
    filesystem.mender.walk = session.walk
    filesystem.expiry.give_back = trim
    unstored = UnstoredFiles((cache.writes, recovery), config.directory)
    verbs = Verbs(tokens, unstored=unstored, servers=ServerPreferences(servers.client))
    forgetting = Forgetting(
        nodes, notifier, sysnames, partial(notifier.settled, timeout=SETTLE_SECONDS)
    )
    mounted = Mounted(filesystem, cache, config.directory, lambda: session.device, verbs.identity)
    _answer_fs(config, mounted, servers, callbacks, forgetting, verbs)
    overview = _look_inside(config, mounted, servers, session, unstored, verbs)
    return Parts(
        servers.locator, servers.client, cache, filesystem, callbacks, session, tokens,
        servers.credentials, UserNumbers(endpoint, servers.cells, tokens, servers.credentials),
        recovery, verbs, Reloader(config, servers.cells, servers.client.preferences), overview,
    )  # fmt: skip


def _servers(endpoint: rxrpc.Endpoint, config: Config, credentials: Credentials | None) -> Servers:
    cells, registry = CellDirectory(cell_files(config)), ServerRegistry()
    tokens = TokenStore(own_folder())
    credentials = credentials or TokenCredentials(tokens, LEVELS[config.crypt])
    within = None if config.retry is None else LocationLimits.within(config.retry)
    locator = VolumeLocator(endpoint, cells, registry, limits=within, credentials=credentials)
    limits = None if config.retry is None else RetryLimits.within(config.retry)
    ranks = Preferences(config.serverprefs)
    client = FileServerClient(endpoint, locator, credentials, limits, ranks)
    return Servers(endpoint, cells, registry, tokens, credentials, locator, client)


def _answer_fs(
    config: Config,
    mounted: Mounted,
    servers: Servers,
    callbacks: CallbackService,
    forgetting: Forgetting,
    verbs: Verbs,
) -> None:
    """Let commands ask about paths, and change what is behind them."""
    trees = TreeVerbs(mounted, config.expire)
    paths = Paths(mounted)
    protection = ProtectionService(servers.endpoint, NUMBER_LIMITS, servers.credentials)
    asked = fs_verbs(
        paths, servers.client, servers.locator, servers.cells, People(protection),
        servers.credentials, callbacks, forgetting,
    )  # fmt: skip
    for noun in (trees.verbs, paths.verbs, asked):
        verbs.add(noun)


def _look_inside(
    config: Config,
    mounted: Mounted,
    servers: Servers,
    session: FuseSession,
    unstored: UnstoredFiles,
    verbs: Verbs,
) -> Overview:
    """Let commands see what goes on."""
    endpoint, client, requests = servers.endpoint, servers.client, session.interrupts
    overview = Overview(mounted, endpoint, client, requests.statistics, verbs, config.source)
    why = Why(mounted, endpoint, servers.cells, client, unstored, servers.tokens)
    tracing = Tracing(
        endpoint, client.operations, requests, why.volume_of, client.servers, process_of
    )
    for verb in (overview.verbs, why.verbs, LogLevels(config.directory).verbs):
        verbs.add(verb)
    verbs.streams.update(overview.streams | tracing.streams)
    return overview


def _cache(config: Config, client: FileServerClient, disk: NoDisk | None) -> CacheManager:
    return CacheManager(
        client,
        data_bytes=config.memory,
        chunk_size=config.chunk_size,
        vnode_limit=config.vnodes,
        channels=client.channels,
        patience=_patience(config),
        lock_mode=LockMode(config.flock),
        disk=disk,
        dirty_bytes=max(config.memory // 2, LEAST_DIRTY),
    )


def _patience(config: Config) -> float:
    """For how many seconds what may pass is waited for."""
    return math.inf if config.hard else config.retry or 0.0


def _leftovers(disk: NoDisk | None) -> Leftovers:
    """The list of names to be removed: where it outlives the machine's end, if there is such a
    place. What daemons without one have left is taken over, too.
    """
    volatile = own_folder() / UNLINKED
    lasting = None if disk is None else disk.unlinked
    return Leftovers(volatile) if lasting is None else Leftovers(lasting, volatile)


def _vfs_options(config: Config) -> tuple[VfsOptions, list[bytes]]:
    """What a mount shows; and the names for @sys, which may be changed while it is used."""
    options = VfsOptions(
        source=config.source, listed_cells=ListedCells(config.cells), expire=config.expire
    )
    names = [name.encode() for name in config.sysname] or [*options.sysnames]
    return replace(options, sysnames=names), names


def _callbacks(
    config: Config,
    cache: CacheManager,
    servers: Servers,
    notifier: KernelNotifier,
) -> CallbackService:
    async def settle(vnodes: Sequence[Vnode]) -> None:
        inodes = {node.inode for vnode in vnodes for node in holders(vnode)}
        await notifier.settled(inodes, SETTLE_SECONDS)

    return CallbackService(
        cache,
        servers.cells,
        servers.registry,
        uuid.uuid4(),
        config=cache_config(
            vnodes=config.vnodes, data_bytes=config.memory, chunk_size=config.chunk_size
        ),
        settle=settle,
        restarted=servers.endpoint.doubt,
    )


def _session(config: Config, filesystem: FileSystem, notifier: KernelNotifier) -> FuseSession:
    return FuseSession(
        filesystem,
        config.directory,
        MountOptions(
            config.source, config.subtype, config.everybody, config.read_only, config.flags
        ),
        SessionLimits(
            config.requests,
            config.timeout,
            config.read_ahead,
            _patience(config),
        ),
        notifier,
        local_locks=LockMode(config.flock) is LockMode.LOCAL,
    )


async def _volume_of(locator: VolumeLocator, key: DirtyKey) -> Volume:
    """The volume in which something was written."""
    return await locator.volume(key.cell, str(key.volume), Preference.FORCE_RW)
