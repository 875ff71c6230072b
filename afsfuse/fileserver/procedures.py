"""Which procedures servers do not have: older ones lack some, and are asked by the older form."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, TypeVar

import trio

from afsfuse.errors import AfsError
from rxrpc.rpc import RxgenCode

if TYPE_CHECKING:
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.fileserver.operation import Site
    from rxrpc import CallAborted
    from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")

log = logging.getLogger(__name__)

_LACKING_TIME = 600.0  # seconds: servers get updated
_LACKING_MAX = 4096  # that are remembered; the oldest goes, and costs one call in vain


class Procedures:
    """What is known of what servers lack, and until when that is believed."""

    def __init__(self) -> None:
        self._lacking: dict[tuple[FileServer, int], float] = {}

    def has(self, site: Site, rpc: Rpc[A, R]) -> bool:
        """Whether a server is not known to lack a procedure."""
        return self._lacking.get((site.server, rpc.opcode), 0.0) <= trio.current_time()

    def note_lacking(self, site: Site, rpc: Rpc[A, R], exc: CallAborted) -> None:
        """Remember that a server lacks a procedure; raise what ended the call if it does not."""
        if exc.code != RxgenCode.OPCODE:
            raise exc
        log.info("file server %s has no %s; using the older form", site.connection.address[0], rpc)
        self._lacking.pop((site.server, rpc.opcode), None)
        if len(self._lacking) >= _LACKING_MAX:
            del self._lacking[next(iter(self._lacking))]
        self._lacking[site.server, rpc.opcode] = trio.current_time() + _LACKING_TIME


def too_old(site: Site, volume: Volume) -> AfsError:
    """What is said where the older form of a procedure does not reach."""
    return AfsError(
        "the file server is too old for files of more than 2 GiB",
        errno=errno.EFBIG,
        cell=volume.cell.name,
        volume=volume.name,
        server=site.connection.address[0],
    )
