"""`afsio`, OpenAFS's client without a cache manager: an independent way to read and change files.

Debian's 1.8.9 has faults. It exits with status 0 when it fails, which is seen to here. `write`
cannot make a new name (it looks for the file where it wants the folder), so files are overwritten
in place, from their start and without truncation, or appended to. It reads 2 GiB of a file at
most, it does not find names with bytes above 127, and one time in four it crashes on a name of 255
bytes: for these, take the peer or `vos dump`. It gives up early while a file server still looks for
its host at an address which that had before, and it was seen to crash at overwriting; then it is
run again.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.realcell.hosts import CommandFailed

if TYPE_CHECKING:
    from tests.realcell.hosts import Host

_SECONDS = 300.0
_ATTEMPTS = 4


class Afsio:
    """The commands, run on one client host, anonymously.

    A path begins with `/afs/` and then a name in the root of root.afs: `/afs/test.afs/…` takes
    read-only volumes, `/afs/.test.afs/…` read-write ones. A fid is (volume, vnode, unique)."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def read(self, path: str | bytes) -> bytes:
        """A whole file. Raises CommandFailed."""
        return self._run(["read", "-file", os.fsdecode(path)])

    def read_fid(self, fid: tuple[int, int, int]) -> bytes:
        return self._run(["fidread", "-fid", ".".join(map(str, fid))])

    def overwrite(self, path: str | bytes, data: bytes) -> None:
        """Replace the first bytes of a file that exists; what is behind them stays."""
        self._run(["write", "-file", os.fsdecode(path), "-force"], data)

    def append(self, path: str | bytes, data: bytes) -> None:
        """Add to the end of a file that exists."""
        self._run(["append", "-file", os.fsdecode(path)], data, after_crashes=False)

    def _run(
        self, arguments: list[str], data: bytes | None = None, *, after_crashes: bool = True
    ) -> bytes:
        command = ["afsio", *arguments]
        for _ in range(_ATTEMPTS):
            done = self._host.run_bytes(command, input=data, timeout=_SECONDS, check=False)
            crashed = after_crashes and done.returncode == -signal.SIGSEGV
            if not crashed and b"Connection timed out" not in done.stderr:
                break
        if done.stderr or done.returncode:  # it is silent when all went well
            raise CommandFailed(self._host.name, command, done.returncode, os.fsdecode(done.stderr))
        return done.stdout
