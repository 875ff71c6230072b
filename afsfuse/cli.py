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

Under another name it is another command: `mount.fuse.afs` and `umount.fuse.afs`, which mount(8) and
umount(8) run, and `aklog`, `tokens` and so on, if somebody has made such links.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from afsfuse import version
from afsfuse.errors import AfsError, UsageError
from afsfuse.tools import COMMANDS, complain
from afsfuse.tools.commandline import OneLineParser

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK = 0
EXIT_SYSTEM = 2
EXIT_BUG = 4
EXIT_INTERRUPTED = 8
EXIT_FAILED = 32

HELPERS = ("mount.fuse.afs", "umount.fuse.afs")
"""Names under which it is what mount(8) and umount(8) look for."""
LINKS = ("aklog", "fs", "klog", "pagsh", "tokens", "unlog")
"""Names of OpenAFS's commands under which it is the command of that name, if it has one."""

_STATUSES = """\
exit status:
  0   done; of mount: the mount is there and answers
  1   wrong command line or configuration, or not permitted
  2   the system does not allow it: /dev/fuse, the UDP port, processes
  4   a bug of afsfuse
  8   interrupted by the user
  32  the mount, or the unmount, failed: DIR, cell, volume or servers are not there
"""


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"afsfuse {version()}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = OneLineParser(
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
        "#cell:volume. or %cell:volume. for one volume. Without SOURCE: what the configuration "
        "file says for DIR.",
        epilog=_options_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mount.add_argument(
        "source", metavar="SOURCE", nargs="?", help="afs, #cell:volume. or %%cell:volume."
    )
    mount.add_argument("directory", metavar="DIR", help="where to mount")
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
    umount.add_argument("directory", metavar="DIR", help="where it is mounted")
    umount.add_argument(
        "-l", dest="lazy", action="store_true", help="detach it now, even when it is in use"
    )
    umount.add_argument(
        "--dead",
        action="store_true",
        help="only if its daemon is gone: what is alive, or not there, is left as it is",
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


def _add_demo(commands: argparse._SubParsersAction[OneLineParser]) -> None:
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
        lines.append(f"  {shown:<20}  {option.help}")
    lines.append(f"  {', '.join(MOUNT_FLAGS)}: as in mount(8)")
    lines.append("  _netdev, noauto, nofail, user, x-*, comment=: for fstab(5); mean nothing here")
    return "\n".join([*lines, "", _STATUSES])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Whatever goes wrong is told in one line."""
    try:
        _open_standard_streams()
        return _told(arguments)
    except KeyboardInterrupt:  # while something else was being told
        return EXIT_INTERRUPTED


def _open_standard_streams() -> None:
    """Whoever starts us may have closed some. What is opened next would take their numbers, and be
    written to, or closed when the daemon lets go of its terminal.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):  # Python has None for what was closed
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _told(arguments: Sequence[str] | None) -> int:
    try:
        status = _run(called() if arguments is None else arguments)
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
    except BaseExceptionGroup as group:  # commands with tasks end by those of their nurseries
        if group.subgroup(KeyboardInterrupt) is None:
            return _bug(group)
        complain("interrupted")
        return EXIT_INTERRUPTED
    except Exception as exc:
        return _bug(exc)
    return status


def _bug(error: BaseException) -> int:
    complain(f"a bug in afsfuse: {type(error).__name__}: {error}: run it with -f -o debug")
    return EXIT_BUG


def called() -> list[str]:
    """The words of this process's command line, after the command that its name stands for."""
    name = os.path.basename(sys.argv[0])
    as_command = [name] if name in HELPERS or (name in LINKS and name in COMMANDS) else []
    return [*as_command, *sys.argv[1:]]


def _run(arguments: Sequence[str]) -> int:
    """Only the command that is asked for is loaded: they are to start at once."""
    if arguments and arguments[0] in HELPERS:
        from afsfuse import helper

        status = helper.main(arguments[0], arguments[1:])
    elif arguments and arguments[0] in COMMANDS:
        tool = importlib.import_module(f"afsfuse.tools.{arguments[0]}")
        status = tool.main(arguments[1:])
    else:
        known = parser().parse_args(arguments)
        status = known.run(known)
    return status


def _mount(known: argparse.Namespace) -> int:
    from afsfuse import configfile, starting

    picked = configfile.effective(
        known.source, known.directory, known.options, foreground=known.foreground
    )
    return starting.start(picked.config)


def _umount(known: argparse.Namespace) -> int:
    if known.tree:
        from afsfuse.tools.umount import let_go

        return let_go(known.directory)
    from afsfuse import ending

    if known.dead:
        return ending.clear(known.directory)
    return ending.end(known.directory, lazy=known.lazy)


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
