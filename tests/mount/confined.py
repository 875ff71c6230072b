"""Run a command as a unit file would confine it, without a running systemd.

`python -m tests.mount.confined UNIT COMMAND…` applies what the kernel enforces: the capabilities
that are left, system calls and address families by seccomp, memory that is never writable and
executable, no new privileges; then it becomes the command. Needs root and libseccomp.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import subprocess
import sys
from pathlib import Path

# Source: linux/prctl.h, linux/capability.h, seccomp.h
_CAPBSET_DROP, _SET_NO_NEW_PRIVS, _SET_MDWE = 24, 38, 65
_CAPABILITIES = [
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
]
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL = 4
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class _Compare(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def settings(unit: Path) -> dict[str, list[str]]:
    """Name -> values, one for each line that sets it."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def calls(words: list[str]) -> set[str]:
    """System calls by name or by `@set`, as systemd has the sets."""
    names = {word for word in words if not word.startswith("@")}
    sets = [word for word in words if word.startswith("@")]
    while sets:
        shown = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", sets.pop()],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for line in shown.splitlines()[1:]:
            word = line.strip()
            if word.startswith("@"):
                sets.append(word)
            elif word and not word.startswith("#"):
                names.add(word)
    return names


def allowed_calls(lines: list[str]) -> set[str]:
    """What several lines of SystemCallFilter leave. Source: systemd.exec(5)"""
    allowed = calls(["@default"])
    for line in lines:
        if line.startswith("~"):
            allowed -= calls(line[1:].split())
        else:
            allowed |= calls(line.split())
    return allowed


def confine(found: dict[str, list[str]]) -> None:
    """Apply the settings of a unit to this process, for good."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option: int, value: int) -> None:
        if libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")

    allowed, families = allowed_calls(found["SystemCallFilter"]), found["RestrictAddressFamilies"]
    kept = {word.removeprefix("CAP_") for word in found["CapabilityBoundingSet"][0].split()}
    assert kept < set(_CAPABILITIES)
    for number, name in enumerate(_CAPABILITIES):
        if name not in kept:
            prctl(_CAPBSET_DROP, number)
    assert found["NoNewPrivileges"] == found["MemoryDenyWriteExecute"] == ["yes"]
    prctl(_SET_NO_NEW_PRIVS, 1)
    try:
        prctl(_SET_MDWE, 1)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # a kernel before 6.3
            raise
    _filter(allowed, [_FAMILIES[word] for word in families[0].split()])


def _filter(allowed: set[str], families: list[int]) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"))
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM)))
    for name in sorted(allowed):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # of another architecture
            continue
        rules: list[list[_Compare]] = [[]]
        if name == "socket":
            rules = [[_Compare(0, _EQUAL, family, 0)] for family in families]
        for rule in rules:
            array = (_Compare * len(rule))(*rule)
            done = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(_ALLOW), number, len(rule), array
            )
            assert done == 0, (name, done)
    assert library.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(settings(Path(sys.argv[1])))
    os.execvp(sys.argv[2], sys.argv[2:])
