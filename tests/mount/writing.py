"""A mount of a cell in which everybody may do everything: `writesd`, from a test's side."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from afsfuse.fuse.mount import device_of as find_device
from tests.mount.fusectl import number_of
from tests.mount.harness import ROOT, SECONDS, clear, environment
from tests.mount.usersmount import loopback_address
from tests.mount.writesd import CELL
from tests.tools import hasty

if TYPE_CHECKING:
    from pathlib import Path


class WritableMount:
    """The mount, and orders to its cell."""

    def __init__(self, folder: Path, options: str = "debug", **times: float) -> None:
        """`times` as for `tests.tools.hasty`."""
        self.point = folder / "afs"
        self.point.mkdir()
        self.root = self.point / f".{CELL}"
        confdir = folder / "conf"
        confdir.mkdir()
        self._log = (folder / "log").open("w+b")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.mount.writesd",
                self.point, confdir, loopback_address(), options, *hasty.settings(**times),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env=environment(), cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"mounted\n", self.log()

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def order(self, *words: Any) -> Any:
        """Have the cell do something; its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(repr(words).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.log()
        return ast.literal_eval(line.decode())

    def stored(self, name: str) -> bytes:
        """A file as the server has it."""
        length, data, _ = self.order("server", name)
        assert length == len(data)
        return bytes(data)

    def waiting(self) -> int:
        """How many requests of the kernel have no answer."""
        device = find_device(str(self.point))
        assert device is not None
        return number_of(device.partition(":")[2], "waiting")

    def unmount(self) -> str:
        """End it as init would; its log."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(SECONDS)
        return self.log()

    def end(self) -> None:
        """Leave nothing behind, be it stuck or not."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        clear(self.point)
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def log(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read().decode(errors="replace")
