"""Who comes to the real cell in a test: nobody, or root with alice's token, at a level."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.interop.desk import Desk
from tests.interop.mounts import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.mounts import RealMount
    from tests.realcell.cell import RealCell

ANONYMOUS = "anonymous"
LEVELS = (ANONYMOUS, "clear", "crypt")


class Visitor:
    """Makes mounts that act at one level; the token is got once for all of them."""

    def __init__(self, cell: RealCell, folder: Path, level: str) -> None:
        self.level = level
        self.runtime = folder / "run"
        self._cell = cell
        if level != ANONYMOUS:
            desk = Desk(cell, folder, self.runtime)
            desk.write_keytab()
            desk.aklog()

    @property
    def options(self) -> str:
        """What to mount with."""
        return "" if self.level == ANONYMOUS else f"crypt={self.level}"

    @contextmanager
    def mounted(
        self, point: Path, *, source: str = "afs", options: str = ""
    ) -> Iterator[RealMount]:
        """A mount for the time of a test, on client1. That it has the token is looked at."""
        everything = ",".join(filter(None, (options, self.options)))
        with mounted(
            self._cell, "client1", point,
            source=source, options=everything, runtime=self.runtime,
        ) as mount:  # fmt: skip
            told = "has a token for" in mount.log.read_text()
            assert told == (self.level != ANONYMOUS), mount.log.read_text()
            yield mount
