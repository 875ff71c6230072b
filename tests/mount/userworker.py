"""A process of one user that works in a mount: `python -m tests.mount.userworker UID FOLDER`.

Lines of its input are `OPERATION PATH`; each is answered by `ok` or the name of an error. It
becomes the user after its modules are loaded, since the user may not be let into their folders.
Nor into those above FOLDER, for which paths are relative to that.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = b"3\n0\nalice all\nbob write\nsystem:anyuser read\n"
ALICES = b"1\n0\nalice all\n"

_held: dict[str, mmap.mmap] = {}


def _stat(path: str) -> None:
    os.stat(f"{path}/file")


def _lstat(path: str) -> None:
    os.lstat(f"{path}/link")


def _traverse(path: str) -> None:
    os.stat(f"{path}/folder")


def _absent(path: str) -> None:
    try:
        os.stat(f"{path}/nothing")
    except FileNotFoundError:
        return
    raise AssertionError("there is nothing of this name")


def _list(path: str) -> None:
    assert sorted(os.listdir(path)) == ["file", "folder", "link"]


def _readlink(path: str) -> None:
    assert os.readlink(f"{path}/link") == "file"


def _read(path: str) -> None:
    with open(f"{path}/file", "rb") as file:
        assert file.read() == b"secret\n"


def _follow(path: str) -> None:
    with open(f"{path}/link", "rb") as file:
        assert file.read() == b"secret\n"


def _getxattr(path: str) -> None:
    assert os.getxattr(f"{path}/file", "afs.fid")


def _acl(path: str) -> None:
    assert os.getxattr(f"{path}/file", "afs.acl")


def _listxattr(path: str) -> None:
    assert os.listxattr(f"{path}/file") == []


def _access(path: str) -> None:
    if not os.access(f"{path}/file", os.R_OK):
        raise PermissionError(errno.EACCES, "not readable")


def _share(path: str) -> None:
    """Let everybody read, and bob write."""
    os.setxattr(path, "afs.acl", SHARED, os.XATTR_REPLACE)


def _close(path: str) -> None:
    """Let nobody in but alice."""
    os.setxattr(path, "afs.acl", ALICES)


def _make_acl(path: str) -> None:
    os.setxattr(path, "afs.acl", SHARED, os.XATTR_CREATE)


def _remove_acl(path: str) -> None:
    os.removexattr(path, "afs.acl")


def _set_file_acl(path: str) -> None:
    os.setxattr(f"{path}/file", "afs.acl", SHARED)


def _set_other(path: str) -> None:
    os.setxattr(path, "user.other", b"value")


def _set_stacktrace(path: str) -> None:
    """What pyfuse3 means to take for an order to log all stacks, from whoever sets it."""
    os.setxattr(path.partition("/")[0], "fuse_stacktrace", b"1")


def _writable(path: str) -> None:
    if not os.access(f"{path}/file", os.W_OK):
        raise PermissionError(errno.EACCES, "not writable")


def _chdir(path: str) -> None:
    home = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(path)
        os.fchdir(home)
    finally:
        os.close(home)


def _hold(path: str) -> None:
    """Map the file, and keep that."""
    with open(f"{path}/file", "rb") as file:
        _held[path] = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert _held[path][:] == b"secret\n"


def _held_still(path: str) -> None:
    assert _held[path][:] == b"secret\n"


LOOKING = ("traverse", "lstat", "absent", "list", "readlink", "chdir")
READING = ("stat", "read", "follow", "getxattr", "acl", "listxattr", "access")


def main(uid: int, folder: str) -> None:
    actions: dict[str, Callable[[str], None]] = {
        name[1:]: action
        for name, action in globals().items()
        if name.startswith("_") and callable(action)
    }
    os.chdir(folder)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    print("ready", flush=True)
    for line in sys.stdin:
        name, path = line.split()
        try:
            actions[name](path)
        except OSError as exc:
            print(errno.errorcode[exc.errno or 0], flush=True)
        except Exception as exc:
            print(repr(exc), flush=True)
        else:
            print("ok", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
