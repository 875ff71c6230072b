"""How the module between pyfuse3 and libfuse is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from afsfuse.fuse import libfuse

LOADED = "from afsfuse.fuse import libfuse; print(libfuse.between is not None)"
FLAGS = "import os, sys; print(not sys.getdlopenflags() & os.RTLD_GLOBAL)"


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return done.stdout.decode().split()


def test_it_is_there() -> None:
    """It is optional for those who install, and not for those who develop."""
    assert libfuse.between is not None


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        (LOADED, "True"),
        (f"from afsfuse.fuse import operations; {LOADED}", "True"),
        (f"import pyfuse3; {LOADED}", "False"),  # too late
        (f"import sys; sys.modules['afsfuse.fuse._libfuse'] = None; {LOADED}", "False"),
    ],
)
def test_it_is_loaded_before_pyfuse3_or_not_at_all(code: str, loaded: str) -> None:
    assert said(f"{code}; {FLAGS}") == [loaded, "True"]
