"""The daemon: has the parts composed, starts them, stops them. Imported by nobody but `cli`.

Each part's background work is one task in the nursery of `serve`; `composition` says what the
parts are. The end comes by umount or by a signal, and is the same:
the mount goes first, while everything below still works; then what is not stored yet is stored;
then the callback promises are given back to the servers; then the tasks are cancelled.
"""

from __future__ import annotations

import errno
import gc
import logging
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

import rxrpc
from afsfuse import config as settings
from afsfuse import memory, systemd
from afsfuse.auth.folders import in_memory
from afsfuse.auth.following import Follower
from afsfuse.auth.hardening import harden
from afsfuse.auth.renewing import Renewer
from afsfuse.cache.disk import default_folder, open_cache
from afsfuse.composition import compose
from afsfuse.control.scraping import ScrapeServer
from afsfuse.control.server import ControlServer
from afsfuse.control.stacks import dump_on_signals
from afsfuse.errors import AfsError, UsageError
from afsfuse.fuse.mount import EXIT_MOUNT, EXIT_SYSTEM, PID_ATTRIBUTE
from afsfuse.lingering import linger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from afsfuse.auth.security import Credentials
    from afsfuse.auth.store import TokenStore
    from afsfuse.cache.disk import NoDisk
    from afsfuse.cell.usernumbers import UserNumbers
    from afsfuse.config import Config
    from afsfuse.control.statistics import Overview
    from afsfuse.control.verbs import Verbs

T = TypeVar("T")

log = logging.getLogger(__name__)

EXIT_INTERRUPTED = 8
"""By a signal before it was mounted; later it is the right end."""

FAREWELL_SECONDS = 8.0
"""How long the end may take for giving callbacks back, over all servers."""
PARAMETERS = rxrpc.Parameters(max_connections_per_bundle=12)
"""48 calls to one server: on a long line a server moves 44 KiB a round trip in each of them."""
_YOUNG_OBJECTS = 10_000  # allocations between two looks for garbage; 700 is meant for scripts
_SWITCH_SECONDS = 0.001  # 0.005 lets a thread that invalidates wait too long for a busy loop


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
    mounted, work = False, trio.CancelScope()
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
                        linger((endpoint.fileno(), parts.session.fileno()))
                        on_mounted()
                        mounted = True
                        services.start_soon(watch.run)
                finally:
                    with farewell:
                        async with watch.farewell(parts.left):
                            await parts.cache.writes.finish(config.finish)
                        farewell.deadline = trio.current_time() + FAREWELL_SECONDS
                        with trio.move_on_after(FAREWELL_SECONDS / 2):
                            await parts.filesystem.finish()
                        await parts.cache.give_up_all()
            _over(config.directory, mounted)
            services.cancel_scope.cancel()


def _over(directory: str, mounted: bool) -> None:
    """The end. Raises `UsageError` if a signal came before there was anything to unmount."""
    if not mounted:
        message = f"{directory}: interrupted before it was mounted"
        raise UsageError(message, exit_code=EXIT_INTERRUPTED)
    log.info("%s is not mounted any more", directory)


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
    memory.use_c_library()
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
