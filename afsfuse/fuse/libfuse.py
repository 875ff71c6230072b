"""What pyfuse3 leaves out of libfuse, by a small module in C.

pyfuse3 3.5 has no handlers for locks, does not pass on whose locks a FLUSH ends, and cannot say
that a file needs no FLUSH. `_libfuse` puts itself between the two: its `fuse_session_new` adds
handlers to pyfuse3's table of operations and calls libfuse's. For that its symbols must be known to
the whole process before pyfuse3 is loaded, as the dynamic linker takes the first of a name: the
package's `__init__` imports this module first.

Where no compiler was at hand when the package was installed, or pyfuse3 was loaded before, or it
has handlers of its own some day, all works as if the module were not there.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def _load() -> ModuleType | None:
    if "pyfuse3" in sys.modules:  # its symbols are bound already
        return None
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_GLOBAL)
    try:
        from afsfuse.fuse import _libfuse
    except ImportError:
        return None
    finally:
        sys.setdlopenflags(flags)
    return _libfuse


between: ModuleType | None = _load()
"""`_libfuse`, if it stands between pyfuse3 and libfuse."""
