"""What an ordinary user meets, told as one JSON object: `python -m tests.mount.asuser DIR`.

To be run as root in a mount namespace of its own: there /dev/fuse is made what it is on every
desktop, open to all users. Modules are loaded first, since the user may not be let into the
folders in which root has them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import afsfuse.daemon
import afsfuse.demo
import afsfuse.logs  # noqa: F401 (all are for the processes that are forked below)
from afsfuse import cli
from afsfuse.auth.folders import OVERRIDE
from afsfuse.fuse import mount
from tests.mount.harness import flags_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65534
_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17  # linux/ptrace.h
_SET_DUMPABLE = 4  # linux/prctl.h


def as_user(action: Callable[[], object], uid: int = NOBODY, *, at: Path | None = None) -> object:
    """What an action returns, or the error it raises, in a process of the user.

    It works in the folder `at`, which it enters before it becomes the user: the way there may be
    closed to him, as other sessions of pytest close what is above their folders.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if at is not None:
            at.chmod(0o755)  # pytest makes it for root alone
            os.chdir(at)
        become(uid)
        try:
            answer = action()
        except OSError as exc:
            answer = type(exc).__name__
        except BaseException as exc:
            answer = repr(exc)
        os.write(writer, json.dumps(answer).encode() + b"\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.readline()
    os.waitpid(child, 0)
    return json.loads(text)


def become(uid: int) -> None:
    """Make this process the user's for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def command(*arguments: str) -> Callable[[], object]:
    """The exit status of a command of ours, and what it says."""

    def run() -> object:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = cli.main(arguments)
        return [status, said.getvalue()]

    return run


def silently(action: Callable[[], object]) -> Callable[[], object]:
    """An action whose processes print nothing."""

    def run() -> object:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        sys.stdout = open(null, "w")  # noqa: SIM115 (the process ends soon)
        return action()

    return run


def open_device(scratch: Path) -> None:
    """Let everybody use /dev/fuse, in this mount namespace."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", scratch], check=True)
    device = scratch / "fuse"
    os.mknod(device, 0o020666, os.stat(mount.DEVICE).st_rdev)
    device.chmod(0o666)
    subprocess.run(["mount", "--bind", device, mount.DEVICE], check=True)


def insides(pid: int) -> dict[str, str]:
    """What a process can do to another one of its user's."""

    def outcome(action: Callable[[], object]) -> str:
        try:
            action()
        except OSError as exc:
            return type(exc).__name__
        return "done"

    def attach() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(_PTRACE_SEIZE, pid, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        libc.ptrace(_PTRACE_DETACH, pid, 0, 0)

    told = {
        name: outcome(lambda name=name: Path(f"/proc/{pid}/{name}").open("rb").close())  # type: ignore[misc]
        for name in ("mem", "environ", "maps", "auxv")
    }
    told["fd"] = outcome(lambda: os.listdir(f"/proc/{pid}/fd"))
    told["ptrace"] = outcome(attach)
    return told


def insides_of_another() -> dict[str, str]:
    """The same, of a process that nobody has closed."""
    reader, writer = os.pipe()
    other = os.fork()
    if other == 0:
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # changing the uid has closed us, too
        os.write(writer, b"!")
        signal.pause()
    try:
        os.read(reader, 1)
        return insides(other)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


def core_limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4:6] for line in lines if line.startswith("Max core file size"))


def daemon_of(directory: str) -> int:
    return int(os.getxattr(directory, mount.PID_ATTRIBUTE))


def main(scratch: Path) -> dict[str, object]:
    open_device(scratch)
    directory = scratch / "mnt"
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)
    other = scratch / "other"
    other.mkdir()
    confdir = scratch / "conf"
    confdir.mkdir()
    (confdir / "ThisCell").write_text("example.org\n")
    path = str(directory)
    options = f"confdir={confdir},logfile=/dev/null"
    told: dict[str, object] = {}
    runtime = scratch / "run"
    runtime.mkdir()
    os.chown(runtime, NOBODY, NOBODY)
    os.environ[OVERRIDE] = str(runtime)

    told["mount"] = as_user(command("mount", "afs", path, "-o", options))
    shown = mount.find_mount(path)
    told["shown"] = None if shown is None else [shown.type, shown.source, shown.options]
    told["list"] = as_user(lambda: sorted(os.listdir(path)))
    try:
        os.stat(path)
    except PermissionError:
        told["root"] = "PermissionError"
    pid = as_user(lambda: daemon_of(path))
    told["flags"] = sorted(flags_of(path))
    told["insides"] = as_user(lambda: insides(int(str(pid))))
    told["another's"] = as_user(insides_of_another)
    told["core"] = core_limit(int(str(pid)))
    told["umount"] = as_user(command("umount", path))
    told["gone"] = mount.find_mount(path) is None and state_of(int(str(pid))) in ("", "Z")

    told["allow_other"] = as_user(command("mount", "afs", path, "-o", f"{options},allow_other"))
    told["foreign"] = as_user(command("mount", "afs", str(other), "-o", options))

    told["again"] = as_user(command("mount", "afs", path, "-o", options))
    killed = as_user(lambda: daemon_of(path))
    assert isinstance(killed, int)
    os.kill(killed, signal.SIGKILL)
    told["cleared"] = as_user(command("mount", "afs", path, "-o", options))
    told["list again"] = as_user(lambda: sorted(os.listdir(path)))
    told["end"] = as_user(command("umount", path))
    told["demo"] = as_user(silently(command("demo", path, "--tour")))

    Path(mount.DEVICE).chmod(0o600)
    told["no device"] = as_user(command("mount", "afs", path, "-o", options))
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
