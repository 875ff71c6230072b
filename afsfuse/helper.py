"""`mount.fuse.afs` and `umount.fuse.afs`: what mount(8) and umount(8) run for the type `fuse.afs`.

They are found by their names in /sbin. Source: mount(8) and umount(8), EXTERNAL HELPERS::

    mount.fuse.afs SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
    umount.fuse.afs DIR [-flnrv] [-N NAMESPACE] [-t TYPE]

The exit statuses are those of `afsfuse mount`, which are mount(8)'s. The second helper is there so
that umount(8) returns when the daemon has stored what was written, and says so when it has not.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from afsfuse.errors import UsageError
from afsfuse.tools import complain
from afsfuse.tools.commandline import EXIT_USAGE, OneLineParser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from afsfuse.config import Config

EXIT_OK = 0
EXIT_SYSTEM = 2

_CLONE_NEWNS = 0x20000  # Source: linux/sched.h


def main(name: str, arguments: Sequence[str]) -> int:
    """Be the helper of this name; returns the exit status. Raises `AfsError`."""
    parser, run = _RUN[name]
    known = parser().parse_args(arguments)
    if known.namespace:
        _enter(known.namespace)
    return run(known)


def mount_parser() -> argparse.ArgumentParser:
    """The command line of `mount.fuse.afs`."""
    known = OneLineParser(
        prog="mount.fuse.afs",
        description="Mount AFS: run by mount(8) for the type fuse.afs.",
        allow_abbrev=False,
    )
    known.add_argument("source", metavar="SPEC", help="afs, #cell:volume. or %%cell:volume.")
    known.add_argument("directory", metavar="DIR", help="where to mount")
    known.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[],
        help="options, separated by commas, of mount(8) and of afsfuse mount",
    )  # fmt: skip
    known.add_argument("-f", dest="fake", action="store_true", help="all but the mount itself")
    known.add_argument("-s", dest="sloppy", action="store_true", help="ignore unknown options")
    known.add_argument("-v", dest="verbose", action="store_true", help="tell what was done")
    _add_common(known)
    return known


def umount_parser() -> argparse.ArgumentParser:
    """The command line of `umount.fuse.afs`."""
    known = OneLineParser(
        prog="umount.fuse.afs",
        description="Unmount AFS: run by umount(8) for the type fuse.afs.",
        allow_abbrev=False,
    )
    known.add_argument("directory", metavar="DIR", help="what to unmount")
    known.add_argument(
        "-f", dest="force", action="store_true", help="answer whoever waits for it with an error"
    )
    known.add_argument(
        "-l", dest="lazy", action="store_true", help="detach it now, even when it is in use"
    )
    known.add_argument("-r", dest="remount", action="store_true", help="means nothing here")
    known.add_argument("-v", dest="verbose", action="store_true", help="tell what was done")
    _add_common(known)
    return known


def _add_common(known: argparse.ArgumentParser) -> None:
    known.add_argument("-n", dest="no_table", action="store_true", help="means nothing here")
    known.add_argument("-N", dest="namespace", metavar="NAMESPACE", help="a mount namespace's file")
    known.add_argument("-t", dest="type", metavar="TYPE", help="means nothing here")


def _mount(known: argparse.Namespace) -> int:
    from afsfuse import configfile, starting

    # mount(8) makes a path of SPEC where there is a file of that name: of `afs` in / it makes /afs.
    source = os.path.basename(known.source) if known.source.startswith("/") else known.source
    picked = configfile.effective(source, known.directory, known.options, sloppy=known.sloppy)
    if known.verbose:
        for word in picked.ignored:
            complain(f"-o {word}: unknown option: ignored")
    if known.fake:
        _look_at(picked.config)
        status = EXIT_OK
    else:
        status = starting.start(picked.config)
    if known.verbose and status == EXIT_OK:
        would = "would be " * known.fake
        print(f"mount.fuse.afs: {source} {would}mounted on {known.directory}")
    return status


def _look_at(config: Config) -> None:
    """What can be found wrong without mounting. Raises `UsageError`."""
    from afsfuse.fuse.mount import MountError

    if not os.path.isdir(config.directory):
        raise MountError(f"{config.directory}: no such directory: create it with mkdir -p")


def _umount(known: argparse.Namespace) -> int:
    from afsfuse import ending

    status = ending.end(known.directory, lazy=known.lazy, force=known.force)
    if known.verbose and status == EXIT_OK:
        print(f"umount.fuse.afs: {known.directory} unmounted")
    return status


def _enter(namespace: str) -> None:
    """Go on in a mount namespace: a file such as /proc/PID/ns/mnt, or a process's number."""
    path = f"/proc/{namespace}/ns/mnt" if namespace.isdecimal() else namespace
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise UsageError(f"-N {namespace}: {exc.strerror}", exit_code=EXIT_USAGE) from None
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNS) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise UsageError(f"-N {namespace}: {reason}", exit_code=EXIT_SYSTEM)
    finally:
        os.close(descriptor)


_RUN = {
    "mount.fuse.afs": (mount_parser, _mount),
    "umount.fuse.afs": (umount_parser, _umount),
}
