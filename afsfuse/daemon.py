"""The composition root: builds the parts, starts them, stops them. Imported by nobody but `cli`.

From below: an endpoint on one UDP port, cells and their volumes, the file servers' client, the
cache, the vfs, the callback service beside it, and on top the mount; the tokens and their control
socket stand beside them. Each part's background work
is one task in the nursery of `serve`. The end comes by umount or by a signal, and is the same:
the mount goes first, while everything below still works; then what is not stored yet is stored;
then the callback promises are given back to the servers; then the tasks are cancelled.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import logging
import math
import signal
import sys
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

import rxrpc
from afsfuse import config as settings
from afsfuse import systemd
from afsfuse.auth.folders import UNLINKED, in_memory, own_folder
from afsfuse.auth.following import Follower
from afsfuse.auth.hardening import harden
from afsfuse.auth.processes import process_of
from afsfuse.auth.renewing import Renewer
from afsfuse.auth.security import LEVELS, Credentials, TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.cache import CacheManager, LockMode
from afsfuse.cache.disk import default_folder, open_cache
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
from afsfuse.control.acls import AclVerbs
from afsfuse.control.caching import CacheVerbs
from afsfuse.control.cells import CellVerbs
from afsfuse.control.loglevels import LogLevels
from afsfuse.control.mountpoints import MountPointVerbs
from afsfuse.control.paths import Paths
from afsfuse.control.scraping import ScrapeServer
from afsfuse.control.server import ControlServer
from afsfuse.control.servers import ServerPreferences
from afsfuse.control.settings import SettingVerbs
from afsfuse.control.stacks import dump_on_signals
from afsfuse.control.statistics import Overview
from afsfuse.control.tracing import Tracing
from afsfuse.control.trees import TreeVerbs
from afsfuse.control.unstored import UnstoredFiles
from afsfuse.control.verbs import Verbs
from afsfuse.control.volumes import VolumeVerbs
from afsfuse.control.why import Why
from afsfuse.errors import AfsError, UsageError
from afsfuse.fileserver.client import FileServerClient
from afsfuse.fileserver.preferences import Preferences
from afsfuse.fileserver.rotation import RetryLimits
from afsfuse.fuse.mount import EXIT_MOUNT, EXIT_SYSTEM, PID_ATTRIBUTE, MountOptions
from afsfuse.fuse.notify import KernelNotifier
from afsfuse.fuse.session import FuseSession, SessionLimits
from afsfuse.reloading import Reloader, cell_files
from afsfuse.vfs import FileSystem, KernelInvalidator, ListedCells, NodeTable, VfsOptions
from afsfuse.vfs.forgetting import Forgetting
from afsfuse.vfs.inodes import holders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from afsfuse.cache import Vnode
    from afsfuse.cache.disk import NoDisk
    from afsfuse.cache.journal import DirtyKey
    from afsfuse.cell.volumes import Volume
    from afsfuse.config import Config
    from afsfuse.model import Inode

T = TypeVar("T")

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 8.0
"""How long the end may take for giving callbacks back, over all servers."""
LEAST_DIRTY = 16 << 20
"""Bytes that may be written and not stored yet: half the data cache, or at least so many."""
SETTLE_SECONDS = 1.0
"""How long a callback's reply may wait for the kernel; the callback service has its own bound."""
OWN_SETTLE_SECONDS = 0.25
"""... and how long a change may, where one volume is mounted at several places. Two processes that
change one directory at two places at once wait for each other's locks in the kernel so long."""
PARAMETERS = rxrpc.Parameters(max_connections_per_bundle=12)
"""48 calls to one server: on a long line a server moves 44 KiB a round trip in each of them."""
_YOUNG_OBJECTS = 10_000  # allocations between two looks for garbage; 700 is meant for scripts
_SWITCH_SECONDS = 0.001  # 0.005 lets a thread that invalidates wait too long for a busy loop


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
    cells = CellDirectory(cell_files(config))
    registry = ServerRegistry()
    tokens = TokenStore(own_folder())
    credentials = credentials or TokenCredentials(tokens, LEVELS[config.crypt])
    within = None if config.retry is None else LocationLimits.within(config.retry)
    locator = VolumeLocator(endpoint, cells, registry, limits=within, credentials=credentials)
    limits = None if config.retry is None else RetryLimits.within(config.retry)
    client = FileServerClient(
        endpoint, locator, credentials, limits, Preferences(config.serverprefs)
    )
    cache = _cache(config, client, disk)
    client.on_server_changed(cache.server_changed)
    client.on_promises_lost(cache.promises_lost)
    options = _vfs_options(config)
    notifier = KernelNotifier()
    nodes = NodeTable()
    cache.listener = KernelInvalidator(nodes, notifier, options.sysnames)

    async def settle_other_nodes(inodes: Iterable[Inode]) -> None:
        await notifier.settled(inodes, OWN_SETTLE_SECONDS)

    filesystem = FileSystem(
        cells,
        locator,
        cache,
        client,
        nodes=nodes,
        notifier=notifier,
        options=options,
        identify=tokens.identities.of,
        leftovers=_leftovers(disk),
        settle=settle_other_nodes,
    )
    recovery = Recovery(cache, partial(_volume_of, locator))
    tokens.subscribe(cache.token_changed)
    tokens.subscribe(filesystem.token_changed)
    tokens.subscribe(recovery.token_changed)
    callbacks = _callbacks(config, cache, cells, registry, notifier, endpoint.doubt)
    session = _session(config, filesystem, notifier)
    filesystem.expiry.survey = session.survey
    filesystem.expiry.trim = trim_memory
    unstored = UnstoredFiles((cache.writes, recovery), config.directory)
    verbs = Verbs(tokens, unstored=unstored, servers=ServerPreferences(client))
    trees = TreeVerbs(
        filesystem, config.directory, lambda: session.device, verbs.identity, config.expire
    )
    verbs.add(trees.verbs)
    overview = _look_inside(
        endpoint, cells, config, client, cache, filesystem, session, unstored, verbs, tokens
    )
    paths = Paths(filesystem, config.directory, lambda: session.device, verbs.identity)
    people = People(ProtectionService(endpoint, NUMBER_LIMITS, credentials))
    assert isinstance(options.sysnames, list)

    async def settle(inodes: Iterable[Inode]) -> None:
        await notifier.settled(inodes, SETTLE_SECONDS)

    forgetting = Forgetting(nodes, notifier, options.sysnames, settle)
    for noun in (
        paths,
        AclVerbs(paths, client, cache, people),
        VolumeVerbs(paths, client, filesystem.spaces),
        MountPointVerbs(paths, filesystem, cache, locator, forgetting),
        CacheVerbs(paths, cache, forgetting),
        CellVerbs(cells, locator, client, forgetting),
        SettingVerbs(credentials, client, callbacks, forgetting),
    ):
        verbs.add(noun.verbs)
    return Parts(
        locator, client, cache, filesystem, callbacks, session, tokens, credentials,
        UserNumbers(endpoint, cells, tokens, credentials), recovery, verbs,
        Reloader(config, cells, client.preferences), overview,
    )  # fmt: skip


def _look_inside(
    endpoint: rxrpc.Endpoint,
    cells: CellDirectory,
    config: Config,
    client: FileServerClient,
    cache: CacheManager,
    filesystem: FileSystem,
    session: FuseSession,
    unstored: UnstoredFiles,
    verbs: Verbs,
    tokens: TokenStore,
) -> Overview:
    """Let commands see what goes on."""
    overview = Overview(
        endpoint,
        client,
        cache,
        filesystem,
        session.interrupts.statistics,
        verbs,
        source=config.source,
        directory=config.directory,
    )
    why = Why(
        endpoint, cells, client, cache, filesystem, unstored, tokens, verbs.identity,
        directory=config.directory,
    )  # fmt: skip
    tracing = Tracing(
        endpoint,
        client.operations,
        session.interrupts,
        why.volume_of,
        client.servers,
        process_of,
    )
    for verb in (overview.verbs, why.verbs, LogLevels(config.directory).verbs):
        verbs.add(verb)
    verbs.streams.update(overview.streams | tracing.streams)
    return overview


async def tell_prometheus(where: str, overview: Overview, nursery: trio.Nursery) -> None:
    """Serve figures there. Raises `UsageError` when that cannot be."""
    try:
        from afsfuse.control.metrics import exposition, registry_of
    except ImportError as exc:
        raise UsageError(
            f"-o metrics={where}: the package {exc.name} is missing: "
            "pip install 'afsfuse[metrics]', or leave the option out",
            exit_code=EXIT_SYSTEM,
        ) from None
    await nursery.start(
        ScrapeServer(where, partial(exposition, registry_of(overview.statistics))).run
    )


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


def _vfs_options(config: Config) -> VfsOptions:
    options = VfsOptions(
        source=config.source, listed_cells=ListedCells(config.cells), expire=config.expire
    )
    names = [name.encode() for name in config.sysname] or [*options.sysnames]
    return replace(options, sysnames=names)


def _callbacks(
    config: Config,
    cache: CacheManager,
    cells: CellDirectory,
    registry: ServerRegistry,
    notifier: KernelNotifier,
    restarted: Callable[[rxrpc.Address], None],
) -> CallbackService:
    async def settle(vnodes: Sequence[Vnode]) -> None:
        inodes = {node.inode for vnode in vnodes for node in holders(vnode)}
        await notifier.settled(inodes, SETTLE_SECONDS)

    return CallbackService(
        cache,
        cells,
        registry,
        uuid.uuid4(),
        config=cache_config(
            vnodes=config.vnodes, data_bytes=config.memory, chunk_size=config.chunk_size
        ),
        settle=settle,
        restarted=restarted,
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


def trim_memory() -> None:
    """Give memory that is free inside the C library back to the system, where that is glibc."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another library
        ctypes.CDLL(None).malloc_trim(0)


async def _volume_of(locator: VolumeLocator, key: DirtyKey) -> Volume:
    """The volume in which something was written."""
    return await locator.volume(key.cell, str(key.volume), Preference.FORCE_RW)


def open_disk(config: Config) -> NoDisk:
    """The cache on disk that is asked for, or none."""
    given = config.cache_dir
    folder = default_folder() if given is None else Path(given)
    if given == settings.NO_FOLDER:
        folder = None
    return open_cache(folder, config.cache_size, config.chunk_size, Path(config.directory))


async def hold_tokens(
    store: TokenStore,
    nursery: trio.Nursery,
    numbers: UserNumbers | None = None,
    verbs: Verbs | None = None,
) -> None:
    """Take over the tokens that are there, and begin to listen for more, and for questions.

    A mount is of use without tokens: when none can be kept, the log says why, and that is all.
    """
    try:
        store.load()
        await nursery.start(Follower(store).run)
        await nursery.start(Renewer(store).run)
        if numbers is not None:
            await nursery.start(numbers.run)
        settled = numbers.known if numbers is not None else None
        control = ControlServer(store, verbs=verbs, settled=settled)
        path = await nursery.start(control.run)
    except (UsageError, OSError) as exc:
        log.warning("no tokens can be kept: %s", exc)
        return
    log.info("tokens in %s, control socket %s", store.folder, path.name)
    if not in_memory(store.folder):
        log.info("%s is on a disk, and so are the keys of tokens", store.folder)


async def open_endpoint(nursery: trio.Nursery, config: Config) -> rxrpc.Endpoint:
    """Start an endpoint on the port that was asked for, or on 7001, or else on any.

    Servers call back at whatever port our calls come from, so 7001 matters only to people who
    look for it there.
    """
    ports = [settings.CALLBACK_PORT, 0] if config.port is None else [config.port]
    parameters = replace(PARAMETERS, debug=config.rxdebug)
    for port in ports:
        endpoint = rxrpc.Endpoint(bind=(config.bind, port), parameters=parameters)
        try:
            await nursery.start(endpoint.run)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE and port != ports[-1]:
                log.info("UDP port %d is taken, perhaps by another AFS client; using any", port)
                continue
            raise _no_socket(config, port, exc) from exc
        return endpoint
    raise AssertionError("the last port either works or raises")


def _no_socket(config: Config, port: int, exc: OSError) -> UsageError:
    """Why the UDP socket cannot be had, and what to do."""
    where = f"UDP port {port} at {config.bind}"
    match exc.errno:
        case errno.EADDRINUSE:
            advice = "taken, perhaps by another AFS client: choose another with -o port=N"
        case errno.EADDRNOTAVAIL:
            advice = "not an address of this machine: correct -o bind=ADDRESS"
        case errno.EACCES:
            advice = "not permitted for this user: choose a port above 1023 with -o port=N"
        case _:
            advice = f"{exc.strerror}: see that the network works"
    return UsageError(f"{where}: {advice}", exit_code=EXIT_SYSTEM)


async def serve(
    config: Config, on_mounted: Callable[[], None], credentials: Credentials | None = None
) -> None:
    """Mount and serve until umount or a signal; gives the callbacks back at the end.

    For `credentials` see `compose`. `on_mounted` is called when the mount is there. Raises
    `AfsError` when it cannot be made.
    """
    work = trio.CancelScope()
    farewell = trio.CancelScope(shield=True)
    notifier = systemd.Notifier.from_environment()
    endings = [signal.SIGTERM, signal.SIGINT]
    if at_terminal := config.foreground and not notifier.active:
        endings.append(signal.SIGHUP)  # its terminal is gone; from others it asks for a reload
    with (
        trio.open_signal_receiver(*endings) as signals,
        trio.open_signal_receiver(signal.SIGUSR1) as questions,
    ):
        async with trio.open_nursery() as services:
            services.start_soon(_end_on_signals, signals, work, farewell)
            services.start_soon(dump_on_signals, questions)
            with work:
                endpoint = await open_endpoint(services, config)
                parts = compose(endpoint, config, credentials, open_disk(config))
                endpoint.add_service(parts.callbacks.service)
                if config.metrics is not None:
                    await tell_prometheus(config.metrics, parts.overview, services)
                await services.start(parts.locator.run)
                await services.start(parts.client.run)
                await services.start(parts.cache.run)
                await services.start(parts.filesystem.run)
                await services.start(parts.filesystem.expiry.run)
                await hold_tokens(parts.tokens, services, parts.numbers, parts.verbs)
                await services.start(parts.credentials.run)
                log.info("UDP port %d at %s", endpoint.local_address[1], config.bind)
                # Before anybody can write anew to what was left.
                await services.start(parts.recovery.run)
                if not at_terminal:
                    await services.start(parts.reloader.run, notifier)
                asks = systemd.asks(config.directory, PID_ATTRIBUTE)
                watch = systemd.Watch(notifier, asks, parts.status)
                try:
                    await parts.filesystem.prepare()
                    async with trio.open_nursery() as mounting:
                        await mounting.start(parts.session.run)
                        log.info("mounted %s at %s", config.source, config.directory)
                        on_mounted()
                        services.start_soon(watch.run)
                finally:
                    with farewell:
                        async with watch.farewell(parts.left):
                            await parts.cache.writes.finish(config.finish)
                        farewell.deadline = trio.current_time() + FAREWELL_SECONDS
                        with trio.move_on_after(FAREWELL_SECONDS / 2):
                            await parts.filesystem.finish()
                        await parts.cache.give_up_all()
            log.info("%s is not mounted any more", config.directory)
            services.cancel_scope.cancel()


async def _end_on_signals(
    signals: AsyncIterator[int], work: trio.CancelScope, farewell: trio.CancelScope
) -> None:
    """The first signal ends the mount; a second one ends the farewell, too."""
    async for number in signals:
        log.info("%s: unmounting", signal.Signals(number).name)
        if work.cancel_called:
            farewell.cancel()
        work.cancel()


def run(config: Config, on_mounted: Callable[[], None]) -> None:
    """Serve a mount in this process until it ends.

    Raises `AfsError`, of which `UsageError` has an exit status of its own, when it cannot be made.
    """
    harden()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    sys.setswitchinterval(_SWITCH_SECONDS)

    def mounted() -> None:
        gc.freeze()  # modules and code never become garbage: do not look at them again
        on_mounted()

    for line in settings.describe(config):
        log.debug("%s", line)
    run_async(serve, config, mounted)


def run_async(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """`trio.run`, with the one cause of a failure in place of a group of errors."""
    try:
        return trio.run(main, *args)
    except BaseExceptionGroup as group:
        raise cause_of(group) from group


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error in nested groups, as nurseries make them; of several, one to tell of."""
    for exc in group.exceptions:
        cause = cause_of(exc) if isinstance(exc, BaseExceptionGroup) else exc
        if isinstance(cause, AfsError) or len(group.exceptions) == 1:
            return cause
    return group


def exit_status(exc: AfsError) -> int:
    """What the command ends with when a mount failed for this reason."""
    return exc.exit_code if isinstance(exc, UsageError) else EXIT_MOUNT
