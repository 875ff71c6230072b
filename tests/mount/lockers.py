"""The test's side of `locker.py`."""

from __future__ import annotations

import ast
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mount.harness import SECONDS

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from tests.mount.harness import Children

MOMENT = 0.3
"""Seconds after which what was to wait is seen to wait."""


class Locker:
    """A process that locks files."""

    def __init__(self, children: Children, prefix: Sequence[str] = ()) -> None:
        """`prefix`: a command that runs it somewhere else."""
        self.process: subprocess.Popen[bytes] = children.start(
            *prefix, sys.executable, "-S", Path(__file__).with_name("locker.py"), stdin=-1
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self, *order: Any) -> None:
        """Order something, and do not wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(repr(order).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        """What came of it."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "no answer"
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1].decode()
        return ast.literal_eval(line.decode())

    def waits(self) -> bool:
        """Whether no answer is there, and none comes in a moment."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], MOMENT)[0]

    def __call__(self, *order: Any) -> Any:
        self.begin(*order)
        return self.end()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
