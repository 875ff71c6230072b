"""What the kernel tells of FUSE connections, also where nobody has mounted fusectl."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CONNECTIONS = Path("/sys/fs/fuse/connections")

# The calls that make a mount nobody sees; the numbers are the same on all architectures.
# Source: asm-generic/unistd.h, linux/mount.h
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC, _FSCONFIG_CMD_CREATE = 1, 1, 6


def open_fusectl(minor: str) -> int:
    """An open directory with a folder for each connection, by the minor number of its device.

    It is good for `dir_fd` and nothing else.
    """
    if (CONNECTIONS / minor).exists():
        return os.open(CONNECTIONS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    context = _syscall(_SYS_FSOPEN, b"fusectl", _FSOPEN_CLOEXEC)
    try:
        _syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def number_of(minor: str, name: str) -> int:
    """What the kernel counts of a connection, such as the requests that are `waiting`."""
    directory = open_fusectl(minor)
    try:
        descriptor = os.open(f"{minor}/{name}", os.O_RDONLY, dir_fd=directory)
        with os.fdopen(descriptor) as file:
            return int(file.read())
    finally:
        os.close(directory)


def _syscall(number: int, *arguments: bytes | int | None) -> int:
    """A system call for which the C library has no name yet."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    words = [arg if isinstance(arg, bytes) else ctypes.c_long(arg or 0) for arg in arguments]
    result: int = call(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
