"""What several commands share: their command lines, cells, and where a new token goes.

What not all of them need is loaded by those that do: most are to start at once.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.errors import UsageError
from afsfuse.tools import complain
from afsfuse.tools.commandline import EXIT_USAGE, OneLineParser

if TYPE_CHECKING:
    from afsfuse.auth.acquire import Wanted
    from afsfuse.auth.token import Token
    from afsfuse.cell.cellservdb import CellFiles

EXIT_OK = 0
EXIT_FAILED = 32

STATUSES = """\
exit status:
  0   done
  1   wrong command line or configuration
  4   a bug of afsfuse
  8   interrupted by the user
  32  Kerberos, or the daemon, did not do it for at least one cell
"""


class Parser(OneLineParser):
    """That of one of the commands."""

    def __init__(self, command: str, description: str, epilog: str = STATUSES) -> None:
        super().__init__(
            prog=f"afsfuse {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_cells(self, help_text: str) -> None:
        """Cells as arguments, and as OpenAFS's commands take them."""
        self.add_argument("cells", metavar="CELL", nargs="*", help=help_text)
        self.add_argument(
            "-c", "-cell", "--cell", dest="more_cells", metavar="CELL", action="append",
            default=[], help="the same, as OpenAFS has it",
        )  # fmt: skip

    def add_confdir(self) -> None:
        self.add_argument(
            "--confdir", metavar="DIR", type=Path,
            help="look for ThisCell and CellServDB there first",
        )  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """The cells that the configuration files know."""

    files: CellFiles

    @classmethod
    def load(cls, confdir: Path | None) -> Cells:
        """Raises `UsageError` when there is something wrong with the files."""
        from afsfuse.cell.cellservdb import load, search_folders

        return cls(load(search_folders(confdir)))

    def name(self, given: str) -> str:
        """The full name of a cell, from that or an alias, in whatever case."""
        from afsfuse.cell.cellservdb import is_cell_name

        folded = given.lower()
        name = self.files.aliases.get(folded, folded)
        if not is_cell_name(name):
            raise UsageError(f"{given}: not a cell's name", exit_code=EXIT_USAGE)
        return name

    def local(self) -> str:
        """The cell of those who say none."""
        if self.files.this_cell is None:
            raise UsageError(
                "which cell? name one, or have ThisCell in /etc/afsfuse or /etc/openafs",
                exit_code=EXIT_USAGE,
            )
        return self.files.this_cell

    def wanted(self, cell: str, realm: str | None) -> Wanted:
        """What Kerberos is asked for."""
        from afsfuse.auth.acquire import Wanted

        entry = self.files.cells.get(cell)
        hosts = [server.host for server in entry.servers if server.host] if entry else []
        return Wanted(cell, realm, hosts[0].split()[0].rstrip(",") if hosts else None)


def hand_over(token: Token, renewal: str | None = None, *, wait: bool = True) -> None:
    """Give a token to whoever keeps tokens here, and what to renew it with. Raises `AfsError`.

    ``wait``: a moment for the daemon to learn the number of the token's owner.
    """
    from afsfuse.auth import keyring
    from afsfuse.control.places import tell_all

    answers = tell_all("set", token=token.encode(), wait=wait)
    if renewal is not None:
        for place, _ in answers:
            place.ask("keep", renewal=renewal)
    keyring.show(token)
    if not any(place.by_daemon for place, _ in answers):
        complain(f"{token.cell}: no mount is running: the token is kept for one that you make")
