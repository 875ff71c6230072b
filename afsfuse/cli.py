"""The command `afsfuse`.

Exit statuses, after mount(8):

==  ============================================================================
 0  done; of `mount`: the mount is there and answers
 1  wrong command line or configuration, or not permitted
 2  the system does not allow it: /dev/fuse, the UDP port, processes
 4  a bug of afsfuse
 8  interrupted by the user
32  the mount, or the unmount, failed: DIR, cell, volume or servers are not there
==  ============================================================================

A mount in the background is a process of its own that goes on after the command. It is made by
forking before anything heavy is loaded, not by starting a fresh interpreter: that would load the
interpreter twice, a fifth of the time to the first `ls`. Nothing has been started then that a
fork could break: no thread, no event loop, no library but the standard one.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import logging
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from afsfuse import version
from afsfuse.errors import AfsError, UsageError
from afsfuse.tools import COMMANDS, complain

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence

    from afsfuse.config import Config

EXIT_OK = 0
EXIT_USAGE = 1
EXIT_SYSTEM = 2
EXIT_BUG = 4
EXIT_INTERRUPTED = 8
EXIT_FAILED = 32

START_SECONDS = 100.0
"""How long a start may take; finding the volume of a mount of one is bounded by less."""
ANSWER_SECONDS = 15.0
"""How long a fresh mount may take to answer."""
FAREWELL_SECONDS = 20.0
"""How long `umount` waits for the daemon."""
COPY_SECONDS = 2.0
"""After this long `umount` looks whether the mount goes on in a copy of the mount table."""

DEAD = 0
"""In place of a process id: the daemon is gone."""

_STATUSES = """\
exit status:
  0   done; of mount: the mount is there and answers
  1   wrong command line or configuration, or not permitted
  2   the system does not allow it: /dev/fuse, the UDP port, processes
  4   a bug of afsfuse
  8   interrupted by the user
  32  the mount, or the unmount, failed: DIR, cell, volume or servers are not there
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with our exit status."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it raises, as the other
        raise UsageError(f"{message}: see {self.prog} --help", exit_code=EXIT_USAGE)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"afsfuse {version()}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = _Parser(
        prog="afsfuse",
        description="An AFS client in user space.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    mount = commands.add_parser(
        "mount",
        help="mount a cell, or all of them",
        description="Mount SOURCE on DIR: afs for all cells, /afs/CELL; "
        "#cell:volume. or %cell:volume. for one volume.",
        epilog=_options_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mount.add_argument("source", metavar="SOURCE")
    mount.add_argument("directory", metavar="DIR")
    mount.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[],
        help="options, separated by commas; listed below",
    )  # fmt: skip
    mount.add_argument(
        "-f", dest="foreground", action="store_true", help="stay in the foreground, log there"
    )
    mount.set_defaults(run=_mount)

    umount = commands.add_parser(
        "umount",
        help="remove a mount",
        description="Unmount DIR, and wait until its daemon has taken leave of the servers.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    umount.add_argument("directory", metavar="DIR")
    umount.add_argument(
        "-l", dest="lazy", action="store_true", help="detach it now, even when it is in use"
    )
    umount.add_argument(
        "--tree", action="store_true",
        help="DIR is a volume's root in a mount: let only that go, with all below it",
    )  # fmt: skip
    umount.set_defaults(run=_umount)

    _add_demo(commands)
    for name, text in COMMANDS.items():  # for the help: `main` takes them before it comes to this
        commands.add_parser(name, help=text, add_help=False)
    return top


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="try AFS out: a cell in this process, mounted",
        description="Serve the cell demo.afs from this process, mount it on DIR, and end both at "
        "Ctrl-C. Where there is no terminal, take a short tour and end.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("directory", metavar="DIR", nargs="?", default="afs", help="else ./afs")
    demo.add_argument("--store", metavar="FOLDER", help="keep what was written there")
    demo.add_argument(
        "--tour", action="store_true", help="take the tour, be there a terminal or not"
    )
    demo.set_defaults(run=_demo)


def _options_help() -> str:
    """What `mount --help` says of the words of `-o`."""
    from afsfuse.config import MOUNT_FLAGS, OPTIONS

    lines = ["options of -o:"]
    for name, option in OPTIONS.items():
        shown = f"{name}={option.value}" if option.value else name
        lines.append(f"  {shown:<22}{option.help}")
    lines.append(f"  {', '.join(MOUNT_FLAGS)}: as in mount(8)")
    lines.append("  _netdev, noauto, nofail, user, x-*, comment=: for fstab(5); mean nothing here")
    return "\n".join([*lines, "", _STATUSES])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Whatever goes wrong is told in one line."""
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `afsfuse tokens | head`: nobody reads on, and nobody is to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK
    except UsageError as exc:
        complain(str(exc))
        return exc.exit_code
    except AfsError as exc:
        complain(str(exc))
        return EXIT_FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    except Exception as exc:
        complain(f"a bug in afsfuse: {type(exc).__name__}: {exc}: run it with -f -o debug")
        return EXIT_BUG
    return status


def _run(arguments: Sequence[str]) -> int:
    """Only the command that is asked for is loaded: they are to start at once."""
    if arguments and arguments[0] in COMMANDS:
        tool = importlib.import_module(f"afsfuse.tools.{arguments[0]}")
        status: int = tool.main(arguments[1:])
    else:
        known = parser().parse_args(arguments)
        status = known.run(known)
    return status


def _mount(known: argparse.Namespace) -> int:
    from afsfuse.config import pick

    config = pick(known.source, known.directory, known.options, foreground=known.foreground)
    if not config.foreground:
        return _mount_in_background(config)
    _set_up_log(config)
    return _serve(config, lambda: None)


def _demo(known: argparse.Namespace) -> int:
    from pathlib import Path

    from afsfuse import daemon, demo, logs

    logs.set_up(foreground=True, logfile=None, debug=False)
    logging.getLogger("afsfuse").setLevel(logging.WARNING)  # the tour speaks for itself
    asked = demo.Demonstration(
        directory=known.directory,
        store=None if known.store is None else Path(known.store),
        tour=known.tour or not (sys.stdin.isatty() and sys.stdout.isatty()),
    )
    try:
        return demo.run(asked)
    except AfsError as exc:
        raise UsageError(str(exc), exit_code=daemon.exit_status(exc)) from exc


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
    """In the forked process: leave terminal and session, serve, end. Never returns."""

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            os.write(writer, f"{' '.join(line.split())}\n".encode(errors="replace"))

    status = EXIT_BUG
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        tell(f"pid {os.getpid()}")
        os.closerange(3, writer)  # whatever was inherited: a lock of somebody's, say
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def mounted() -> None:
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


def _umount(known: argparse.Namespace) -> int:
    if known.tree:
        from afsfuse.tools.umount import let_go

        return let_go(known.directory)
    from afsfuse.fuse import mount

    directory = mount.real_directory(known.directory)
    found = mount.find_mount(directory)
    if found is None:
        raise mount.MountError(f"{known.directory}: nothing is mounted there")
    pid = _daemon_of(directory, mount.PID_ATTRIBUTE)
    if found.type != "fuse.afs" and (found.type != "fuse" or pid is None):
        raise mount.MountError(
            f"{known.directory}: {found.source} (type {found.type}) is not ours: use umount"
        )
    watch = -1
    if pid and not known.lazy:  # detached lazily, it lives as long as somebody uses it
        with contextlib.suppress(OSError):  # it is in another pid namespace
            watch = os.pidfd_open(pid)
    mount.unmount(directory, lazy=known.lazy or pid == DEAD)
    if watch >= 0:
        _await_end(known.directory, watch, found.device)
    return EXIT_OK


def _await_end(directory: str, daemon: int, device: str) -> None:
    """Wait for the daemon behind a descriptor; say why it goes on, if it does."""
    from afsfuse.fuse import mount

    if select.select([daemon], [], [], COPY_SECONDS)[0]:
        return
    if (holder := mount.holder_elsewhere(device)) is not None:
        complain(f"{directory}: unmounted here, but not in the mount namespace of {holder}")
    elif not select.select([daemon], [], [], FAREWELL_SECONDS)[0]:
        complain(f"{directory}: unmounted, but its daemon still runs: see the log")


def _daemon_of(directory: str, attribute: str) -> int | None:
    """The process behind a mount: its id; `DEAD` when it is gone; None when nobody tells."""
    answers: list[int | None] = []

    def ask() -> None:
        try:
            answers.append(int(os.getxattr(directory, attribute)))
        except OSError as exc:
            answers.append(DEAD if exc.errno == errno.ENOTCONN else None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return answers[0] if answers else None
