"""`afsfuse umount`: remove a mount, and wait until its daemon has taken leave of the servers.

The daemon stores what is not stored yet, for as long as `-o finish` says. At a terminal it is shown
how far that is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time

from afsfuse.control.places import ask_each
from afsfuse.errors import AfsError
from afsfuse.tools import complain
from afsfuse.tools.progress import Progress

EXIT_OK = 0

ANSWER_SECONDS = 15.0
"""How long a mount may take to say whose it is."""
FAREWELL_SECONDS = 20.0
"""How long `umount` waits for the daemon while that gets no further."""
LOOK_SECONDS = 1.0
"""How often `umount` looks how far the daemon is."""
COPY_SECONDS = 2.0
"""After this long `umount` looks whether the mount goes on in a copy of the mount table."""

DEAD = 0
"""In place of a process id: the daemon is gone."""


def end(given: str, *, lazy: bool = False, force: bool = False) -> int:
    """Unmount a directory; returns the exit status. Raises `MountError` when that cannot be.

    `lazy` and `force` are those of `fuse.mount.unmount`.
    """
    from afsfuse.fuse import mount

    directory = mount.real_directory(given)
    found = mount.find_mount(directory)
    if found is None:
        raise mount.MountError(f"{given}: nothing is mounted there")
    pid = _daemon_of(directory, mount.PID_ATTRIBUTE)
    if found.type != "fuse.afs" and (found.type != "fuse" or pid is None):
        raise mount.MountError(
            f"{given}: {found.source} (type {found.type}) is not ours: use umount"
        )
    watch = -1
    if pid and not lazy:  # detached lazily, it lives as long as somebody uses it
        with contextlib.suppress(OSError):  # it is in another pid namespace
            watch = os.pidfd_open(pid)
    mount.unmount(directory, lazy=lazy or pid == DEAD, force=force)
    if pid and watch >= 0:
        _await_end(given, pid, watch, found.device)
    return EXIT_OK


def clear(given: str) -> int:
    """Remove what a daemon that is gone has left on a directory; returns the exit status.

    Of a mount that is alive, be it ours or another's, nothing is changed.
    """
    from afsfuse.fuse import mount

    directory = mount.real_directory(given)
    found = mount.find_mount(directory)
    if (
        found is not None
        and found.type.startswith("fuse")
        and _daemon_of(directory, mount.PID_ATTRIBUTE) == DEAD
    ):
        mount.unmount(directory, lazy=True)
    return EXIT_OK


def _await_end(directory: str, pid: int, daemon: int, device: str) -> None:
    """Wait for the daemon, also given as a descriptor; say why it goes on, if it does."""
    if select.select([daemon], [], [], COPY_SECONDS)[0]:
        return
    if (holder := _holder_elsewhere(device, pid)) is not None:
        complain(f"{directory}: unmounted here, but not in the mount namespace of {holder}")
        return
    left = _unstored(directory)
    deadline = time.monotonic() + FAREWELL_SECONDS
    with Progress() as progress:
        while not select.select([daemon], [], [], LOOK_SECONDS)[0]:
            before, left = left, _unstored(directory)
            if left != before:
                deadline = time.monotonic() + FAREWELL_SECONDS
            progress.show(f"{directory}: storing: {left} bytes are left")
            if time.monotonic() >= deadline:
                break
        else:
            return
    told = f"{left} bytes are not stored yet" if left else "everything is stored"
    complain(f"{directory}: unmounted, but its daemon still runs, and {told}: see the log")


def _unstored(directory: str) -> int:
    """Bytes that were written below a directory and are on no server yet, as far as we may know."""
    below = os.path.join(os.path.abspath(directory), "")
    try:
        answers = ask_each("unstored", lambda said: None)  # another daemon may be stuck
        files = [file for answer in answers for file in answer["files"]]
    except AfsError:  # the daemons have ended, or are busy
        return 0
    return sum(file["bytes"] for file in files if file["path"].startswith(below))


def _holder_elsewhere(device: str, pid: int) -> str | None:
    """A process that holds a copy of the mount, as text: the daemon answers for that copy, too."""
    from afsfuse.fuse import mount

    for holder, path in mount.copies_elsewhere(device):
        if _daemon_of(path, mount.PID_ATTRIBUTE) == pid:
            return holder
    return None


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
