"""A hardened process leaves no core, and others of its user do not see its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from afsfuse import cli

ROOT = Path(cli.__file__).parent.parent


def test_no_core_and_not_dumpable() -> None:
    code = (
        "import ctypes, resource; from afsfuse.auth.hardening import harden; harden();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "(0, 0) 0\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="other users' processes need root")
def test_its_memory_is_closed_to_its_own_user() -> None:
    """And its own folder of descriptors is open to it still, which the control socket needs."""
    code = (
        "import os, time; from afsfuse.auth.hardening import harden\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321); harden()\n"
        "os.stat('/proc/self/fd/0'); pid = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    try: open(f'/proc/{pid}/mem', 'rb')\n"
        "    except PermissionError: print('closed', flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "closed\n"
