"""What only sysfs can set: how far the kernel reads ahead of a sequential reader.

128 KiB by default, and only root may set it. It is also the size of the kernel's requests, up to
1 MiB. Source: the kernel's Documentation/ABI/testing/sysfs-class-bdi.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

BDI = Path("/sys/class/bdi")


def set_read_ahead(device: str, size: int) -> None:
    """Let the kernel read so many bytes ahead on the mount with this `major:minor`: best effort."""
    if os.geteuid() != 0:
        return
    try:
        (BDI / device / "read_ahead_kb").write_text(str(size // 1024))
    except OSError as exc:
        log.info("the kernel's read-ahead stays as it is: %s", exc)
