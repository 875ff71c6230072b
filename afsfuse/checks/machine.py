"""This machine: FUSE, compiled modules, configuration files, the cache folder, the UDP port."""

from __future__ import annotations

import importlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.cache.disk.folder import NONE, OVERRIDE, default_folder
from afsfuse.checks.findings import note, well, wrong
from afsfuse.errors import UsageError
from afsfuse.fuse.mount import DEVICE, device_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afsfuse.cell.cellservdb import CellFiles
    from afsfuse.checks.findings import Finding

FUSE_CONF = Path("/etc/fuse.conf")
UPDATEDB_CONF = Path("/etc/updatedb.conf")
_PRUNED = re.compile(r'^\s*PRUNE(FS|PATHS)\s*=\s*"([^"]*)"', re.MULTILINE)  # updatedb.conf(5)
TYPE = "fuse.afs"
"""Of all mounts, but for those with `-o nosubtype`."""
LEAST_FREE = 256 << 20
"""Bytes of disk with less of which a cache is of little use."""


def _size(number: int) -> str:
    return f"{number >> 20} MiB" if number < 10 << 30 else f"{number >> 30} GiB"


def look(load_files: Callable[[], CellFiles]) -> Iterator[Finding]:
    """All that can be seen without a network."""
    yield fuse_device(DEVICE)
    yield fusermount()
    yield allow_other(FUSE_CONF)
    yield from left_out(UPDATEDB_CONF)
    yield compiled()
    yield cell_files(load_files)
    yield cache_folder()


def fuse_device(path: str) -> Finding:
    """Whether FUSE file systems can be made by this user."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        return wrong("FUSE", f"{path}: {exc.strerror}", device_advice(exc))
    return well("FUSE", f"{path} can be opened")


def fusermount() -> Finding:
    """Whether ordinary users can mount."""
    path = shutil.which("fusermount3")
    advice = "install the package fuse3"
    if path is None:
        text = "missing: ordinary users cannot mount"
        return (note if os.geteuid() == 0 else wrong)("fusermount3", text, advice)
    if not os.stat(path).st_mode & 0o4000 and os.geteuid() != 0:
        return wrong("fusermount3", f"{path} is not set-user-id", f"chmod u+s {path}")
    return well("fusermount3", path)


def allow_other(path: Path) -> Finding:
    """Whether what ordinary users mount may be for others, too."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    if any(line.strip() == "user_allow_other" for line in lines):
        return well("allow_other", f"{path} lets ordinary users share their mounts")
    return note(
        "allow_other",
        "what ordinary users mount is theirs alone; root's mounts are for all",
        f"to let them share it, write user_allow_other into {path}",
    )


def left_out(path: Path) -> Iterator[Finding]:
    """Whether the program that lists all files for `locate` leaves AFS out, if there is one."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    pruned = dict(_PRUNED.findall(text))
    if TYPE in pruned.get("FS", "").lower().split() or "/afs" in pruned.get("PATHS", "").split():
        yield well("updatedb", f"{path} leaves AFS out")
        return
    yield note(
        "updatedb", f"{path} does not leave AFS out: it would list all cells, every night",
        f"add {TYPE} to PRUNEFS there",
    )  # fmt: skip


def compiled() -> Finding:
    """Whether the modules in C are there."""
    missing = []
    for name, without in (
        ("rxrpc.security._fcrypt", "encryption is slow"),
        ("afsfuse.fuse._libfuse", "locks hold on this machine only"),
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(f"{name.rpartition('.')[2]} is missing: {without}")
    try:
        importlib.import_module("pyfuse3")
    except ImportError as exc:
        return wrong("modules", f"pyfuse3 cannot be loaded: {exc}", "install afsfuse anew")
    if missing:
        return wrong(
            "modules", "; ".join(missing), "install gcc and libfuse3-dev, then afsfuse anew"
        )
    return well("modules", "those in C are there")


def cell_files(load_files: Callable[[], CellFiles]) -> Finding:
    """What the configuration files say."""
    try:
        files = load_files()
    except UsageError as exc:
        return wrong("files", str(exc), "correct that")
    cells = f"{len(files.cells)} cells in CellServDB"
    if files.this_cell is None:
        return note(
            "files", f"there is no ThisCell; {cells}",
            "write your cell's name into /etc/afsfuse/ThisCell; until then name it: "
            "afsfuse check CELL",
        )  # fmt: skip
    return well("files", f"this cell is {files.this_cell}; {cells}")


def cache_folder() -> Finding:
    """Whether there can be a cache on disk."""
    folder = default_folder()
    if folder is None:
        why = f"{OVERRIDE}={NONE}" if os.environ.get(OVERRIDE) == NONE else "there is no home"
        return note("cache", f"in memory only: {why}", "name a folder with -o cachedir=DIR")
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        return wrong(
            "cache", f"{folder}: {there} cannot be written to",
            "correct its permissions, or name another with -o cachedir=DIR",
        )  # fmt: skip
    try:
        space = os.statvfs(there)
    except OSError as exc:
        return wrong("cache", f"{there}: {exc.strerror}", "name another with -o cachedir=DIR")
    free = space.f_bavail * space.f_frsize
    if free < LEAST_FREE:
        return wrong(
            "cache", f"{folder}: only {_size(free)} are free",
            "make room, or name another folder with -o cachedir=DIR",
        )  # fmt: skip
    return well("cache", f"{folder}: {_size(free)} are free")
