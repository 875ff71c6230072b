"""The folders in which tokens outlive a daemon, and where its control socket is.

A daemon of root's, whose mounts are for everybody, has `/run/afsfuse`. A user's own daemon has
`$XDG_RUNTIME_DIR/afsfuse`. Both lie in memory on any usual system, and end with it::

    tokens/IDENTITY.CELL    one token; the folder is its owner's alone
    pags/pag-NUMBER         the process that is the root of a PAG
    keeps/IDENTITY.CELL     what a token is to be renewed with
    control/PID.sock        the control sockets of the daemons, one each
    unlinked/*.jsonl        files that were removed while they are open, for each daemon that has
                            no cache folder for that

So several daemons of one owner share their tokens, and so does one that is started later.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from afsfuse import mounttable
from afsfuse.errors import UsageError

OVERRIDE = "AFSFUSE_RUNTIME_DIR"
"""The variable that names a folder to use in place of all others, by daemons and commands."""
SYSTEM = Path("/run/afsfuse")
TOKENS, PAGS, KEEPS, CONTROL = "tokens", "pags", "keeps", "control"
UNLINKED = "unlinked"
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def own_folder() -> Path:
    """Where a daemon of this user has its things."""
    if override := os.environ.get(OVERRIDE):
        return Path(os.path.abspath(override))
    uid = os.geteuid()
    if uid == 0:
        return SYSTEM
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isabs(given):
        return Path(given) / "afsfuse"
    usual = Path(f"/run/user/{uid}")
    return usual / "afsfuse" if usual.is_dir() else Path(f"/tmp/afsfuse-{uid}")


def folders() -> tuple[Path, ...]:
    """Where a command of this user looks for daemons: those of root's, then the user's own."""
    own = own_folder()
    if own == SYSTEM or os.environ.get(OVERRIDE):
        return (own,)
    return (SYSTEM, own)


def is_ours(folder: Path) -> bool:
    """Whether it may be made and written by this user."""
    try:
        return folder.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return folder == own_folder()
    except OSError:
        return False


def prepare(folder: Path) -> None:
    """Make the folder and what is in it. Raises `UsageError` when somebody else had a hand in it.

    It is all right only if it belongs to this user, is no symbolic link, and nobody else may
    write: in /tmp anybody may have made one of this name.
    """
    for path, mode in (
        (folder, 0o755),
        (folder / TOKENS, 0o700),
        (folder / PAGS, 0o700),
        (folder / KEEPS, 0o700),
        (folder / CONTROL, 0o755),
    ):
        try:
            path.mkdir(mode, exist_ok=True)
        except FileExistsError:  # and no folder
            pass
        except OSError as exc:
            raise UsageError(f"{path}: cannot be made: {exc.strerror}") from None
        if not _is_proper(path, mode):
            raise UsageError(f"{path}: belongs to somebody else, or is no folder: remove it")


def _is_proper(path: Path, mode: int) -> bool:
    """Whether it is a folder of this user's; gives it this mode then.

    One descriptor for all of it: what is looked at is what is changed.
    """
    try:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            return False
        if stat.S_IMODE(status.st_mode) != mode:  # a umask, or somebody's curiosity
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)
    return True


def in_memory(folder: Path, mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether the folder's file system keeps nothing on a disk (but for what is swapped out)."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = mounttable.parse(Path(mounts).read_bytes())
    return next((line.type in _IN_MEMORY for line in lines if line.device == number), False)
