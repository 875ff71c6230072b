"""Reading the configuration anew while a mount is there: SIGHUP, `systemctl reload`.

What the daemon can change under a mount changes at once: the cells of CellServDB with ThisCell and
CellAlias, the ranks of servers, and whether everything is logged. Of other settings the log says
that they wait for the next mount. A mistake in a file changes nothing.
"""

from __future__ import annotations

import logging
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from afsfuse import configfile, logs
from afsfuse.cell.cellservdb import CellFiles, load, search_folders
from afsfuse.errors import AfsError

if TYPE_CHECKING:
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.config import Config
    from afsfuse.fileserver.preferences import Preferences
    from afsfuse.systemd import Notifier

log = logging.getLogger(__name__)

_AT_ONCE = ("debug", "serverprefs", "cell", "confdir")


def cell_files(config: Config) -> CellFiles:
    """What the files of a configuration say of cells. Raises `UsageError`."""
    files = load(search_folders(None if config.confdir is None else Path(config.confdir)))
    return files if config.cell is None else replace(files, this_cell=config.cell)


class Reloader:
    """Knows what the mount was made with, and compares."""

    def __init__(self, config: Config, cells: CellDirectory, preferences: Preferences) -> None:
        self._config = config
        self._cells = cells
        self._preferences = preferences

    async def run(
        self,
        notifier: Notifier,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Reload at every SIGHUP, until cancelled; systemd is told when that is done."""
        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            task_status.started()
            async for _ in hangups:
                with notifier.reloading():
                    self.reload()

    def reload(self) -> None:
        """Read all files anew, and tell the log what has changed. Never raises."""
        try:
            config = configfile.reread(self._config)
            files = cell_files(config)
        except AfsError as exc:
            log.error("the configuration stays as it was: %s", exc)
            return
        changes = self._cells.reload(files)
        for one in fields(config):
            if getattr(config, one.name) == getattr(self._config, one.name):
                continue
            changes.append(one.name)
            if one.name not in _AT_ONCE:
                log.warning("%s has another value now, which the next mount will have", one.name)
        self._rank(config)
        if config.debug != self._config.debug:
            logs.set_level(debug=config.debug)
        self._config = config
        log.info("the configuration was read anew: %s", ", ".join(changes) or "nothing has changed")

    def _rank(self, config: Config) -> None:
        """Take over what files say of ranks; what commands have set stays."""
        before, now = dict(self._config.serverprefs), dict(config.serverprefs)
        for network in before.keys() - now.keys():
            self._preferences.set(network, None)
        for network, rank in now.items():
            if before.get(network) != rank:
                self._preferences.set(network, rank)
