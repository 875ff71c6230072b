"""Which file servers refuse a volume at the moment, though its record names them.

A server that says that a volume is busy, off line or not there will say so to whoever asks next.
Where a replica can stand in, such a server is asked last for a while, and after each further
refusal for longer: besides the round trip it costs, a server of OpenAFS keeps its tenth refusal of
one kind, and all after it, for three seconds (rxi_SendCallAbort in rx.c).

The log tells when a server begins to refuse a volume, when it says something else, and when it
serves it again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio

from afsfuse.abortcodes import ABORT_CODES, abort_name
from afsfuse.errors import ViceCode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from afsfuse.errors import AfsError

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 5.0, 300.0
"""Seconds for which a server is asked last: after its first refusal, and at most."""
_VOLUMES_MAX = 256  # that are remembered
_WORDS: Mapping[int | None, str] = {
    ViceCode.VBUSY: "busy",
    ViceCode.VSALVAGING: "being salvaged",
    ViceCode.VRESTARTING: "restarting",
    ViceCode.VOFFLINE: "off line",
    ViceCode.VSALVAGE: "needs salvage",
    ViceCode.VNOVOL: "not there",
    ViceCode.VMOVED: "moved away",
}


@dataclass(slots=True)
class Refusal:
    """What one server says of one volume. Times are trio's."""

    code: int | None
    said: str
    since: float
    """When it first said so."""
    last: float
    """When it last said so."""
    pause: float = SHORTEST
    until: float = 0.0
    """Until when it is asked last."""

    @property
    def word(self) -> str:
        """The shortest way to say it."""
        return _WORDS.get(self.code, "refused")


_NONE: Mapping[FileServer, Refusal] = MappingProxyType({})


class Refusals:
    """Those of one client."""

    def __init__(self) -> None:
        self._known: dict[Volume, dict[FileServer, Refusal]] = {}

    def note(self, volume: Volume, server: FileServer, error: AfsError) -> None:
        """The server has said that it does not serve the volume now."""
        now = trio.current_time()
        refusal = self._known.setdefault(volume, {}).get(server)
        if refusal is None or refusal.code != error.code:
            said = _said(error)
            refusal = Refusal(error.code, said, now, now, until=now + SHORTEST)
            self._known[volume][server] = refusal
            log.info(
                "volume %s of cell %s is refused by file server %s: %s",
                volume.name, volume.cell.name, server.called, said,
            )  # fmt: skip
            if len(self._known) > _VOLUMES_MAX:
                del self._known[next(iter(self._known))]
            return
        refusal.last = now
        if now >= refusal.until:  # those who asked together count once
            refusal.pause = min(2 * refusal.pause, LONGEST)
            refusal.until = now + refusal.pause

    def served(self, volume: Volume, server: FileServer, asked: float) -> None:
        """The server has served somebody who asked for the volume at `asked`."""
        known = self._known.get(volume) if self._known else None
        if known is None:
            return
        refusal = known.get(server)
        if refusal is not None and asked > refusal.last:  # not one whose call had begun before
            del known[server]
            log.info(
                "volume %s of cell %s is served by file server %s again, after %.0f s",
                volume.name, volume.cell.name, server.called, trio.current_time() - refusal.since,
            )  # fmt: skip
        named = {site.server for site in volume.sites}
        for other in [other for other in known if other not in named]:
            del known[other]
        if not known:
            del self._known[volume]

    def asked_last(self, volume: Volume) -> Collection[FileServer]:
        """The servers that others can well stand in for."""
        known = self._known.get(volume) if self._known else None
        if known is None:
            return ()
        now = trio.current_time()
        return [server for server, refusal in known.items() if now < refusal.until]

    def of(self, volume: Volume) -> Mapping[FileServer, Refusal]:
        """What its servers said that have not served it since."""
        return self._known.get(volume, _NONE)

    def forget(self, volume: Volume) -> None:
        """Nobody uses a volume any more."""
        self._known.pop(volume, None)


def _said(error: AfsError) -> str:
    """What a server said, without what it leads to."""
    known = None if error.code is None else ABORT_CODES.get(error.code)
    if error.code is None or known is None:
        return error.message
    return f"{known.meaning} ({abort_name(error.code)})"
