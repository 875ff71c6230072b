"""The process that holds a cell's namespaces and takes everything down when its owner ends.

Run as a program of its own (standard library only). It reads one line of JSON from its standard
input (`Plan`), creates one holder process for each host, prints one line of JSON (host name ->
process id of its holder) and then waits for the end of its input. The input is a pipe of the
owner, so it ends when the owner closes it and also when the owner is killed. Then all goes:

- the holders, and with a holder's end the kernel ends its network namespace, the links in it, its
  mounts and (a server host is a process namespace too) all its processes;
- processes outside, started by tests in one of our network namespaces (a FUSE daemon, say);
- mounts under the work folder, and the work folder itself.

Nothing has a name in /run/netns and no state is on the disk but the work folder, so there is
nothing else that could be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000  # linux/sched.h
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8  # linux/mount.h
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h

# Folders whose contents each host has for itself; the OpenAFS programs have them compiled in.
STATE_FOLDERS = ("etc/openafs", "var/lib/openafs", "var/log/openafs")
OWNER_CHECK_SECONDS = 1.0
STRAY_SECONDS = 3.0  # what a process in our networks gets to end by itself

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    _check(
        _libc.mount(
            source.encode(), bytes(target), kind.encode(), ctypes.c_ulong(flags), data.encode()
        ),
        f"mount {source} on {target}",
    )


def _die_with_parent(parent: int, name: str) -> None:
    """Let the kernel end this process with `parent`, and name it for `ps`."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    if os.getppid() not in (parent, 0):  # it ended before prctl; 0: it is outside our namespace
        os._exit(1)


def _private_root(new_root: Path, vice_folders: int) -> None:
    """Give this mount namespace a root of its own, in memory: the machine's one, but with private
    OpenAFS folders and with vice partitions. Nothing is created in the machine's own root."""
    _mount("none", Path("/"), "none", MS_REC | MS_PRIVATE)
    _mount("realcell", new_root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=75%")
    for entry in os.scandir("/"):
        inside = new_root / entry.name
        if entry.is_symlink():
            inside.symlink_to(os.readlink(entry.path))
        elif entry.is_dir() and not entry.name.startswith("vicep"):
            inside.mkdir()
            _mount(entry.path, inside, "none", MS_BIND | MS_REC)
    for folder in STATE_FOLDERS:
        private = new_root / ".state" / folder
        private.mkdir(parents=True)
        if (new_root / folder).is_dir():
            _mount(str(private), new_root / folder, "none", MS_BIND)
    for number in range(vice_folders):
        (new_root / f"vicep{chr(ord('a') + number)}").mkdir()
    old_root = new_root / ".old"
    old_root.mkdir()
    os.chdir(new_root)
    _check(_pivot_root(bytes(new_root), bytes(old_root)), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/.old", MNT_DETACH), "umount2")
    Path("/.old").rmdir()


def _pivot_root(new_root: bytes, old_root: bytes) -> int:
    number = {"x86_64": 155, "aarch64": 41}[os.uname().machine]  # asm/unistd.h
    return int(_libc.syscall(number, new_root, old_root))


def _reap_for_ever() -> NoReturn:
    """Be a host's first process: collect whatever ends below."""
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(-1)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigtimedwait({signal.SIGCHLD}, 0.5)


def _become_holder(host: dict[str, Any], ready: int, keeper: int) -> NoReturn:
    """Unshare what this host has for itself, report by one byte, and stay. Never returns."""
    name = str(host["name"])
    _die_with_parent(keeper, f"cell-{name}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _unshare(CLONE_NEWNET | (CLONE_NEWNS if host["mounts"] else 0))
    if not host["processes"]:
        if host["mounts"]:
            _private_root(Path(host["root"]), host["vice_folders"])
        os.write(ready, f"{os.getpid()}\n".encode())
        _reap_for_ever()
    _unshare(CLONE_NEWPID)
    middle = os.getpid()
    child = os.fork()
    if child:
        os.write(ready, f"{child}\n".encode())
        os.waitpid(child, 0)
        os._exit(0)
    _die_with_parent(middle, f"cell-{name}")
    _private_root(Path(host["root"]), host["vice_folders"])
    _mount("proc", Path("/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.write(ready, b"ready\n")
    _reap_for_ever()


def _start_holder(host: dict[str, Any]) -> tuple[int, int]:
    """Fork the holder of one host. -> (process to kill, process whose namespaces to enter)"""
    reading, writing = os.pipe()
    keeper = os.getpid()
    forked = os.fork()
    if forked == 0:
        try:
            os.close(reading)
            os.close(0)
            _become_holder(host, writing, keeper)
        except BaseException as exc:
            os.write(2, f"holder of {host['name']}: {exc}\n".encode())
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as report:
        inner = report.readline()
        ready = report.readline() if host["processes"] else "ready"
    if not inner or not ready:
        raise RuntimeError(f"the holder of host {host['name']} did not start")
    return forked, int(inner)


def processes_in_networks(inodes: set[int]) -> list[int]:
    """All processes seen from here whose network namespace is one of `inodes`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino in inodes:
                    found.append(int(entry))
    return found


def mounts_under(folder: Path) -> list[str]:
    """`folder` and what is in it, where something is mounted; the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = [
        line.split(" ")[4].encode("latin-1", "surrogateescape").decode("unicode_escape")
        for line in lines
    ]
    inside = (point for point in points if point == str(folder) or point.startswith(f"{folder}/"))
    return sorted(inside, reverse=True)


def remove_folder(folder: Path) -> None:
    """Detach all that is mounted on or in `folder`, then delete it. Refuses while a mount remains,
    lest the deletion goes through it."""
    for point in mounts_under(folder):
        _libc.umount2(os.fsencode(point), MNT_DETACH)
    if left := mounts_under(folder):
        raise RuntimeError(f"still mounted, not deleted: {', '.join(left)}")
    shutil.rmtree(folder, ignore_errors=True)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _take_down(holders: list[int], networks: set[int], folder: Path) -> None:
    """End all processes of the cell, ours and those which others started in its networks."""
    strays = _strays(networks) - set(holders)
    _signal(strays, signal.SIGTERM)  # a FUSE daemon unmounts
    deadline = time.monotonic() + STRAY_SECONDS
    while strays & _strays(networks) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal(holders, signal.SIGKILL)
    for pid in holders:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    _signal(_strays(networks), signal.SIGKILL)
    remove_folder(folder)


def _strays(networks: set[int]) -> set[int]:
    """Processes in our networks but in the machine's process namespace: not a server host's."""
    own = _inode("self", "pid")
    found = set()
    for pid in processes_in_networks(networks):
        with contextlib.suppress(OSError):
            if _inode(pid, "pid") == own:
                found.add(pid)
    return found


def _wait_for_the_owner_to_end(owner: int) -> None:
    """Return at the end of our input, or when the owner is gone though a child of it keeps the
    pipe open."""
    while os.getppid() == owner:
        readable, _, _ = select.select([0], [], [], OWNER_CHECK_SECONDS)
        if readable and not os.read(0, 4096):
            return


def _inode(pid: int | str, kind: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def main() -> int:
    """Entry point; see the head of the file."""
    os.setsid()  # a Ctrl-C at the terminal is the owner's business
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owner = os.getppid()
    plan = json.loads(_read_line())
    folder = Path(plan["folder"])
    holders: list[int] = []
    pids: dict[str, int] = {}
    networks: set[int] = set()
    try:
        for host in plan["hosts"]:
            holder, pids[host["name"]] = _start_holder(host)
            holders.append(holder)
            networks.add(_inode(holder, "net"))
        os.write(1, json.dumps(pids).encode() + b"\n")
        _wait_for_the_owner_to_end(owner)
    finally:
        _take_down(holders, networks, folder)
    return 0


def _read_line() -> bytes:
    """One line of the input and no byte more, for `select` must see what follows."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line


if __name__ == "__main__":
    sys.exit(main())
