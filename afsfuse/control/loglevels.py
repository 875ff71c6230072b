"""How much each part of the daemon logs: told, and changed while it runs.

A part is a logger and all below it. The logger of a part that has no level of its own follows the
one above, as the logging module has it. Only root and whoever runs the daemon are told and may set:
at `debug` the log has names of files.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from afsfuse.control.verbs import Peer, Request, Verb

log = logging.getLogger(__name__)

ALL = "all"
PARTS = {
    ALL: ("afsfuse", "rxrpc", "pyfuse3"),
    "auth": ("afsfuse.auth",),
    "cache": ("afsfuse.cache",),
    "callbacks": ("afsfuse.callback_service",),
    "cell": ("afsfuse.cell",),
    "control": ("afsfuse.control",),
    "daemon": ("afsfuse.daemon",),
    "fileserver": ("afsfuse.fileserver",),
    "fuse": ("afsfuse.fuse", "pyfuse3"),
    "rxrpc": ("rxrpc",),
    "vfs": ("afsfuse.vfs",),
}
"""What can be named, and the loggers that it stands for."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
USUAL = "default"
"""In place of a level: follow the part above; of all: as at the start."""


class LogLevels:
    """The levels of one daemon."""

    def __init__(self, directory: str) -> None:
        """`directory` is where the mount is."""
        self._directory = directory
        self._usual = {name: logging.getLogger(name).level for part in PARTS.values()
                       for name in part}  # fmt: skip
        self.verbs: dict[str, Verb] = {
            "log-levels": self._levels,
        }

    async def _levels(self, request: Request, peer: Peer) -> dict[str, Any]:
        if not peer.owns_daemon:
            raise ControlRefused("only root and who has mounted it may see and set log levels")
        wanted = request.get("set", {})
        if not isinstance(wanted, dict):
            raise ControlRefused("levels by part are expected")
        for part, level in wanted.items():  # before anything is changed
            if part not in PARTS:
                raise ControlRefused(f"{part}: no such part: {', '.join(PARTS)} are known")
            if level not in (*LEVELS, USUAL):
                raise ControlRefused(f"{level}: no such level: {', '.join((*LEVELS, USUAL))} are")
        for part, level in wanted.items():
            self._set(part, level)
            log.info("the log level of %s is %s now", part, level)
        return {"mount": self._directory, "levels": self.levels()}

    def _set(self, part: str, level: str) -> None:
        for name in PARTS[part]:
            number = LEVELS[level] if level in LEVELS else self._usual[name]
            if name == "pyfuse3":
                number = max(number, logging.INFO)  # below it tells of each worker that it starts
            logging.getLogger(name).setLevel(number)

    @staticmethod
    def levels() -> dict[str, str]:
        """The level that holds for each part."""
        words = {number: word for word, number in LEVELS.items()}
        numbers = {
            part: logging.getLogger(names[0]).getEffectiveLevel() for part, names in PARTS.items()
        }
        return {
            part: words.get(number, logging.getLevelName(number).lower())
            for part, number in numbers.items()
        }
