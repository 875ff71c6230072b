"""Plays systemd's part of a unit `.automount`: `python -m tests.mount.autofs DIR OPTIONS`.

To be run as root in a mount namespace of its own. Somebody looks into DIR; mount(8) is run for
that, and our own helper for the end, in this process group, as systemd does. Tells what came of it
as JSON.
Sources: autofs(5), the kernel's Documentation/filesystems/autofs.rst and linux/auto_fs.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import struct
import subprocess
import sys

_DETACH = 2
# The ioctls AUTOFS_IOC_READY, AUTOFS_IOC_FAIL and AUTOFS_IOC_CATATONIC
_READY, _FAIL, _CATATONIC = 0x9360, 0x9361, 0x9362
_PACKET = struct.Struct("=iiI")  # version, type, token
_SECONDS = 20.0


def main(directory: str, options: str) -> None:
    """Mount and unmount on demand, once."""
    os.setpgid(0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    data = f"fd={writer},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"systemd-1", os.fsencode(directory), b"autofs", 0, data.encode()):
        raise OSError(ctypes.get_errno(), "autofs cannot be mounted")
    os.close(writer)
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    visitor = subprocess.Popen(
        ["ls", directory], process_group=0, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert select.select([reader], [], [], _SECONDS)[0], "nobody asked for a mount"
        _, _, token = _PACKET.unpack_from(os.read(reader, 4096))
        mounted = run("mount", "-t", "fuse.afs", "afs", directory, "-o", options)
        fcntl.ioctl(root, _FAIL if mounted[0] else _READY, token)
        seen, _ = visitor.communicate(timeout=_SECONDS)
        again = run("mount", "-t", "fuse.afs", "afs", directory, "-o", options)
        unmounted = run("umount.fuse.afs", directory)
    finally:
        visitor.kill()
        fcntl.ioctl(root, _CATATONIC)  # whoever waits, be it our daemon, does so no longer
        os.close(root)
        libc.umount2(os.fsencode(directory), _DETACH)
    told = {"mount": mounted, "seen": seen.decode(), "again": again, "umount": unmounted}
    json.dump(told, sys.stdout)


def run(*words: str) -> tuple[int, str]:
    """A command of systemd's: its exit status, and what it says."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return -1, f"not within {_SECONDS:.0f} s"
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    main(*sys.argv[1:])
