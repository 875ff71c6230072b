"""OpenAFS's `vos` without its sleep in the middle of a release: by a preloaded library."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = Path(__file__).with_suffix(".c")
_LIBRARY = "prompt.so"


def build(folder: Path) -> None:
    """Make the library, in a cell's work folder. Raises CalledProcessError."""
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(folder / _LIBRARY), str(_SOURCE)], check=True)


def environment(folder: Path) -> Mapping[str, str]:
    """What `vos` is to be started with; `folder` as for `build`."""
    return {"LD_PRELOAD": str(folder / _LIBRARY)}
