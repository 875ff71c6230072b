"""The peer: OpenAFS's own client in user space, `afsd.fuse`, on a client host of the cell.

It is what this project is measured against, and an independent second client in tests: it makes
and removes names, which `afsio` cannot. It lives in its host's network namespace and mounts in
the machine's own mount namespace, so every process sees the mount.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.realcell.keeper import mounts_under, remove_folder
from tests.realcell.network import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.realcell.cell import RealCell

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
DEFAULT_CACHE_KIB = 400_000


class PeerError(Exception):
    """afsd.fuse did not start; the text has its output."""


class Peer:
    """One `afsd.fuse`. `with Peer(cell, "client2") as peer: os.listdir(peer.cell_path)`.

    With `dynroot` the mount shows the cells of CellServDB, else the volume `rootvol`. `options`
    are further ones of afsd, such as `["-chunksize", "20"]`. The disk cache is empty at each start:
    a new start is a cold one. It lies in memory, for to create its thousands of files on a disk
    takes seconds, which vary widely."""

    def __init__(
        self,
        cell: RealCell,
        host: str = "client2",
        *,
        dynroot: bool = True,
        rootvol: str | None = None,
        cache_kib: int = DEFAULT_CACHE_KIB,
        options: Sequence[str] = (),
    ) -> None:
        self._host = cell.clients[host]
        self._cell = cell
        self._options = list(options)
        if dynroot:
            self._options += ["-dynroot", "-fakestat"]
        if rootvol is not None:
            self._options += ["-rootvol", rootvol]
        self._cache_kib = cache_kib
        self._folder = cell.folder / f"peer-{host}"
        self.mount_point = self._folder / "mount"
        self.cell_path = self.mount_point / cell.name if dynroot else self.mount_point
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Peer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id in the machine's numbering."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it with an empty cache and wait until the mount answers. -> seconds until then.

        Raises PeerError."""
        configuration, cache, log = (self._folder / name for name in ("conf", "cache", "log"))
        self._folder.mkdir()
        size = f"size={2 * self._cache_kib}k"
        run(["mount", "-t", "tmpfs", "-o", size, "peer", str(self._folder)])
        for folder in (cache, self.mount_point):
            folder.mkdir()
        shutil.copytree(self._cell.confdir, configuration)
        cache_line = f"{self.mount_point}:{cache}:{self._cache_kib}\n"
        (configuration / "cacheinfo").write_text(cache_line)
        command = ["afsd.fuse", "-f", "-mountdir", str(self.mount_point), "-cachedir", str(cache)]
        command += ["-confdir", str(configuration), *self._options]
        started = time.monotonic()
        with log.open("wb") as output:
            self._process = self._host.popen(
                command, mounts=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - started > START_SECONDS:
                text = log.read_text(errors="replace")
                self.stop()
                raise PeerError(f"afsd.fuse: {text}")
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - started

    def stop(self) -> None:
        """Unmount, end the process, remove its cache and mount point. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder.is_dir():
            remove_folder(self._folder)

    def restart_cold(self) -> float:
        """Stop and start with an empty cache. -> seconds until the mount answered"""
        self.stop()
        return self.start()

    def peak_memory(self) -> int:
        """The largest resident size so far, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
        raise PeerError("the process is gone")

    def _answers(self) -> bool:
        if not mounts_under(self.mount_point):
            return False
        with contextlib.suppress(OSError):
            return bool(os.listdir(self.mount_point))
        return False
