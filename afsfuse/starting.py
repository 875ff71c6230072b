"""Starting a mount: in the foreground, or in a process of its own that goes on after the command.

A mount in the background is made by forking before anything heavy is loaded, not by starting a
fresh interpreter: that would load the interpreter twice, a fifth of the time to the first `ls`.
Nothing has been started then that a fork could break: no thread, no event loop, no library but the
standard one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from afsfuse.errors import AfsError, UsageError
from afsfuse.tools import complain

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from afsfuse.config import Config

EXIT_OK = 0
EXIT_SYSTEM = 2
EXIT_BUG = 4
EXIT_FAILED = 32

START_SECONDS = 100.0
"""How long a start may take; finding the volume of a mount of one is bounded by less."""
ANSWER_SECONDS = 15.0
"""How long a fresh mount may take to answer."""


def start(config: Config) -> int:
    """Mount; returns the exit status. In the background: when the mount answers."""
    if not config.foreground:
        return _mount_in_background(config)
    _set_up_log(config)
    return _serve(config, lambda: None)


def _set_up_log(config: Config) -> None:
    from afsfuse import logs

    logs.set_up(foreground=config.foreground, logfile=config.logfile, debug=config.debug)


def _serve(config: Config, on_mounted: Callable[[], None]) -> int:
    """Be the daemon, until the mount ends."""
    from afsfuse import daemon

    try:
        daemon.run(config, on_mounted)
    except AfsError as exc:
        raise UsageError(str(exc), exit_code=daemon.exit_status(exc)) from exc
    except Exception:
        logging.getLogger(__name__).exception("the daemon failed: a bug")
        raise
    return EXIT_OK


# In the background: the daemon tells the command through a pipe how far it has come. Lines are
# "pid N", then "ready", or "failed STATUS MESSAGE".


def _mount_in_background(config: Config) -> int:
    """Start a daemon and wait until its mount answers; returns the exit status."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        child = os.fork()
    except OSError as exc:
        raise UsageError(f"no process can be made: {exc.strerror}", exit_code=EXIT_SYSTEM) from None
    if child == 0:
        os.close(reader)
        _be_daemon(config, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        return _await_mount(config, pipe)


def _be_daemon(config: Config, writer: int) -> NoReturn:
    """In the forked process: serve, end. Never returns.

    It leaves the terminal's session when it is mounted and not before. Where systemd mounts on
    demand, autofs keeps everybody waiting who comes to the directory meanwhile, but for the process
    group in which the command was started. Source: autofs_oz_mode in fs/autofs of Linux.
    """

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            os.write(writer, f"{' '.join(line.split())}\n".encode(errors="replace"))

    status = EXIT_BUG
    try:
        if os.fork():
            os._exit(0)
        tell(f"pid {os.getpid()}")
        os.closerange(3, writer)  # whatever was inherited: a lock of somebody's, say
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def mounted() -> None:
            os.setsid()
            tell("ready")
            os.close(writer)

        status = _serve_in_background(config, mounted)
    except UsageError as exc:
        status = exc.exit_code
        tell(f"failed {status} {exc}")
    except BaseException as exc:
        tell(f"failed {status} a bug in afsfuse: {type(exc).__name__}: {exc}")
    finally:
        logging.shutdown()
        os._exit(status)


def _serve_in_background(config: Config, on_mounted: Callable[[], None]) -> int:
    from afsfuse import logs

    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    _set_up_log(config)
    echo = logs.echo()  # somebody is still looking

    def mounted() -> None:
        logs.unecho(echo)
        os.dup2(null, 1)
        os.dup2(null, 2)
        on_mounted()

    return _serve(config, mounted)


def _await_mount(config: Config, pipe: io.FileIO) -> int:
    """Follow the daemon's start; returns the exit status of the command."""
    pid = 0
    deadline = time.monotonic() + START_SECONDS
    try:
        for line in _lines(pipe, deadline):
            word, _, rest = line.partition(" ")
            if word == "pid":
                pid = int(rest)
            elif word == "failed":
                status, _, message = rest.partition(" ")
                complain(message)
                return int(status)
            elif word == "ready":
                trouble = _look_at(config.directory)
                if trouble is None:
                    return EXIT_OK
                _kill(pid)
                raise UsageError(f"{config.directory}: {trouble}", exit_code=EXIT_FAILED)
    except TimeoutError:
        _kill(pid)
        raise UsageError(
            f"{config.directory}: not mounted within {START_SECONDS:.0f} s: see the log",
            exit_code=EXIT_FAILED,
        ) from None
    except KeyboardInterrupt:
        _kill(pid)
        raise
    raise UsageError("the daemon ended without a word: see the log", exit_code=EXIT_BUG)


def _lines(pipe: io.FileIO, deadline: float) -> Iterator[str]:
    """The lines of a pipe as they come, until its end; TimeoutError at the deadline."""
    text = b""
    while True:
        rest = deadline - time.monotonic()
        if rest <= 0 or not select.select([pipe], [], [], rest)[0]:
            raise TimeoutError
        if not (chunk := pipe.read(4096)):
            return
        *lines, text = (text + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def _look_at(directory: str) -> str | None:
    """Ask the mount for something, as any process would; what is wrong with the answer, or None.

    In a thread: a process that waits for a file system cannot be stopped, but it can be left.
    """
    answers: list[str | None] = []

    def ask() -> None:
        try:
            os.stat(directory)
        except PermissionError:  # the cell's answer, not the daemon's
            answers.append(None)
        except OSError as exc:
            answers.append(f"mounted, but it does not work: {exc.strerror}: see the log")
        else:
            answers.append(None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return answers[0] if answers else "mounted, but it does not answer: see the log"


def _kill(pid: int) -> None:
    """End a daemon that did not come up; it takes its mount away."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
