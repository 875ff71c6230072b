"""Trees of an ordinary user's mount, told as a JSON object: `python -m tests.mount.usertrees DIR`.

To be run as root in a mount namespace of its own, see `asuser`. The daemon cannot look into every
process there: one that was root and became the user without starting a program (as `(sd-pam)` is
one in each session of systemd's), and one that closed itself.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib  # noqa: F401 (for the processes that are forked below, too)
from pathlib import Path
from typing import TYPE_CHECKING, Any

import afsfuse.daemon
import afsfuse.logs
import afsfuse.tools.mounts  # noqa: F401 (all are for the processes that are forked below)
from afsfuse import cli
from afsfuse.auth.folders import OVERRIDE
from tests.mount.asuser import NOBODY, as_user, become, open_device
from tests.mount.harness import ROOT, wait_until
from tests.mount.treesd import CELL
from tests.mount.usersmount import Process, beside, loopback_address

if TYPE_CHECKING:
    from collections.abc import Callable

EXPIRE = 1
_SET_DUMPABLE = 4  # linux/prctl.h


class User:
    """A process of the user's, forked; it says what its action returns when it is told to end."""

    def __init__(self, action: Callable[[], object], *, closed: bool = False) -> None:
        """`closed`: its user may not look into it."""
        mine, its = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            become(NOBODY)
            ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0 if closed else 1, 0, 0, 0)
            os.close(its[1])
            os.close(mine[0])
            act = action()
            os.write(mine[1], b"there\n")
            os.read(its[0], 1)
            os.write(mine[1], json.dumps(act() if callable(act) else act).encode() + b"\n")
            os._exit(0)
        os.close(mine[1])
        os.close(its[0])
        self._said = os.fdopen(mine[0], "rb")
        self._order = its[1]
        assert self._said.readline() == b"there\n"

    def end(self) -> Any:
        os.write(self._order, b"!")
        os.close(self._order)
        with self._said:
            said = self._said.readline()
        os.waitpid(self.pid, 0)
        return json.loads(said)


def inside(directory: Path) -> Callable[[], object]:
    """Go there; in the end tell where that is."""

    def go() -> object:
        os.chdir(directory)
        return os.getcwd

    return go


def trees() -> dict[str, list[str]]:
    """What keeps each tree, as the command tells the user."""

    def ask() -> object:
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # else it would be one of those unseen
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert cli.main(["mounts", "--json"]) == 0
        return json.loads(said.getvalue())["trees"]

    told = as_user(ask)
    assert isinstance(told, list), told
    return {tree["path"]: [keep["what"] for keep in tree["kept_by"]] for tree in told}


def wait_until_gone() -> None:
    """Until there are no trees. Who asks is closed for a moment, so he does so now and then."""
    for _ in range(4):
        time.sleep(3 * EXPIRE)
        if not trees():
            return
    raise AssertionError(f"still there: {trees()}")


def mount(point: Path, options: str) -> int:
    """The pid of a daemon of the user's."""
    pid = os.fork()
    if pid == 0:
        become(NOBODY)
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)
        os._exit(cli.main(["mount", "afs", str(point), "-f", "-o", options]))
    wait_until(lambda: str(point) in Path("/proc/mounts").read_text(), "the mount")
    return pid


def story(scratch: Path) -> dict[str, Any]:
    address = loopback_address()
    folders = {name: scratch / name for name in ("afs", "conf", "run")}
    for folder in folders.values():
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    os.environ |= {OVERRIDE: str(folders["run"]), "HOME": str(scratch)}
    cell = subprocess.Popen(
        [sys.executable, "-m", "tests.mount.treesd", address, folders["conf"], "3"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        Process(cell, b"ready")
        return told_by(scratch, folders, address)
    finally:
        cell.kill()
        cell.communicate()


def told_by(scratch: Path, folders: dict[str, Path], address: str) -> dict[str, Any]:
    volumes = folders["afs"] / CELL / "v"
    older = User(os.getcwd, closed=True)
    time.sleep(0.1)  # the kernel tells the beginning of processes in hundredths of a second
    log = f"{folders['run']}/log"
    local = beside(address)
    words = f"confdir={folders['conf']},bind={local},logfile={log},expire={EXPIRE}"
    daemon = mount(folders["afs"], words)
    try:
        return inspected(volumes, older) | {
            "umount": as_user(lambda: cli.main(["umount", str(folders["afs"])]))
        }
    finally:
        os.kill(daemon, signal.SIGKILL)  # no harm to one that has ended
        os.waitpid(daemon, 0)


def inspected(volumes: Path, older: User) -> dict[str, Any]:
    """What becomes of trees. `older` began before the mount, and may have gone in unseen."""
    told: dict[str, Any] = {}
    as_user(lambda: os.listdir(volumes / "002"))
    told["entered"] = len(trees())
    wait_until_gone()

    shell = User(inside(volumes / "001"))
    closed = User(inside(volumes / "002"), closed=True)
    time.sleep(4 * EXPIRE)
    kept = trees()
    told["shell"] = kept.get(str(volumes / "001"))
    told["closed"] = kept.get(str(volumes / "002"))
    told["paths"] = [os.path.relpath(user.end(), volumes) for user in (shell, closed)]
    wait_until_gone()
    older.end()
    return told


if __name__ == "__main__":
    for codec in ("ascii", "latin-1", "idna"):
        codecs.lookup(codec)  # loads it, for the same
    place = Path(sys.argv[1])
    open_device(place)
    os.chdir("/")
    print(json.dumps(story(place)), flush=True)
