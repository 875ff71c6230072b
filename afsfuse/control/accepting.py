"""How both of the daemon's listeners take connections: nothing ends them but their cancellation."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio.socket import SocketType

log = logging.getLogger(__name__)

_PAUSE = 0.1  # seconds, when there is no descriptor for another connection


async def accept(listening: SocketType, purpose: str = "") -> SocketType:
    """The next connection, however long it takes; `purpose` is what the log says it is for."""
    while True:
        try:
            connection, _ = await listening.accept()
        except OSError as exc:
            if exc.errno != errno.ECONNABORTED:
                log.warning("no connection%s can be accepted: %s", purpose, exc.strerror)
                await trio.sleep(_PAUSE)
        else:
            return connection
