"""Keep the memory of a process that holds keys to itself."""

from __future__ import annotations

import ctypes
import resource

_SET_DUMPABLE = 4  # PR_SET_DUMPABLE. Source: linux/prctl.h


def harden() -> None:
    """No core file, and no look into the memory by other processes of the same user.

    The second is for a user's own daemon above all: whoever is outside of a PAG may have the same
    uid as the daemon that keeps its tokens. Where the kernel does not know it, the first holds.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
