"""`afsfuse klog`: a token with a password or a keytab, without any ticket before.

With ``--kaserver`` the password goes to AFS's own authentication server, as it did of old.
"""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.auth.acquire import KDC_SECONDS, by_keytab, by_password, quiet, within
from afsfuse.auth.hardening import harden
from afsfuse.auth.token import Secret
from afsfuse.errors import TicketRefused, UsageError
from afsfuse.tools import complain
from afsfuse.tools.commandline import EXIT_USAGE
from afsfuse.tools.common import EXIT_OK, Cells, Parser, hand_over

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from afsfuse.auth.acquire import Say, Wanted
    from afsfuse.auth.token import Token

_PASSWORD_MAX = 1024
OLD_WAY = (
    "warning: --kaserver is deprecated: its DES keys can be found within days by whoever listens; "
    "a cell should use Kerberos 5"
)


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "klog",
        "Get a token for USER, or for yourself, with a password, which is asked for. "
        "It is never an argument: everybody could see it.",
    )
    known.add_argument("user", metavar="USER[@REALM]", nargs="?", help="whom to authenticate as")
    known.add_argument(
        "-c", "-cell", "--cell", dest="cell", metavar="CELL", help="the cell, if not the local one"
    )
    known.add_argument("-k", dest="realm", metavar="REALM", help="the cell's Kerberos realm")
    source = known.add_mutually_exclusive_group()
    source.add_argument("--keytab", metavar="FILE", help="take the key from there")
    source.add_argument(
        "--password-stdin", "-pipe", dest="pipe", action="store_true",
        help="read the password from the standard input",
    )  # fmt: skip
    known.add_argument(
        "--kaserver", action="store_true",
        help="ask an AFS kaserver instead of Kerberos 5; USER is then "
        "NAME[.INSTANCE][@CELL]",
    )  # fmt: skip
    known.add_argument("-d", dest="debug", action="store_true", help="tell what is tried")
    known.add_argument(
        "--keep", action="store_true", help="have the daemon renew it with the keytab"
    )
    known.add_confdir()
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    harden()
    cells = Cells.load(given.confdir)
    if given.kaserver:
        _prepare_old_way(given)
    cell = cells.name(given.cell) if given.cell else cells.local()
    wanted = cells.wanted(cell, given.realm)
    user = given.user or _own_name()
    say = print if given.debug else quiet
    renewal: str | None = None
    if given.keep and given.keytab is None:
        raise UsageError("--keep needs --keytab: a password is not kept", exit_code=EXIT_USAGE)
    try:
        if given.keytab is not None:
            keytab = _readable(given.keytab)
            token = within(KDC_SECONDS, lambda: by_keytab(wanted, user, keytab, say))
            if given.keep:
                renewal = renewal_with_keytab(wanted, token.client, keytab)
        else:
            password = _from_input() if given.pipe else _asked_for(user, wanted)
            if given.kaserver:
                token = _by_kaserver(cells, cell, user, password, say)
            else:
                token = within(KDC_SECONDS, lambda: by_password(wanted, user, password, say))
    except TicketRefused as exc:
        raise TicketRefused(f"{cell}: {user}: {exc}", kerberos=exc.kerberos) from None
    hand_over(token, renewal)
    return EXIT_OK


def _prepare_old_way(given: argparse.Namespace) -> None:
    """Take the cell out of the user's name, as the klog of old does; warn."""
    if given.keytab is not None or given.realm is not None:
        raise UsageError("--kaserver has neither keytabs nor realms", exit_code=EXIT_USAGE)
    name, at, cell = (given.user or "").partition("@")
    if at:
        if given.cell not in (None, cell) or not name:
            raise UsageError(
                f"{given.user} is not a user of {given.cell}: name one cell", exit_code=EXIT_USAGE
            )
        given.user, given.cell = name, cell
    complain(OLD_WAY)


def _by_kaserver(cells: Cells, cell: str, user: str, password: Secret, say: Say) -> Token:
    def work() -> Token:
        # Loaded in the child, and only if this is asked for: nothing else of klog needs it.
        from afsfuse.tools.kaserver import by_kaserver

        return by_kaserver(cells.files, cell, user, password, say)

    return within(KDC_SECONDS, work)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UsageError("you have no user name here: name a USER", exit_code=EXIT_USAGE) from None


def _readable(keytab: str) -> str:
    """The name of a keytab as Kerberos takes it."""
    kind, colon, path = keytab.partition(":")
    if not colon or kind != "FILE":
        path = keytab
    try:
        with open(path, "rb"):
            return f"FILE:{os.path.abspath(path)}"
    except OSError as exc:
        raise UsageError(f"{keytab}: {exc.strerror}", exit_code=EXIT_USAGE) from None


def renewal_with_keytab(wanted: Wanted, client: str, keytab: str) -> str:
    """What the daemon renews a token with: the contents of the file, which may go away."""
    from afsfuse.auth.renewal import KEYTAB_MAX, Renewal

    data = Path(keytab.removeprefix("FILE:")).read_bytes()
    if not 0 < len(data) <= KEYTAB_MAX:
        raise UsageError(f"{keytab}: too large to be kept", exit_code=EXIT_USAGE)
    return Renewal(wanted, client, keytab=Secret(data)).encode()


def _from_input() -> Secret:
    """The first line of the standard input."""
    return _password(sys.stdin.buffer.readline(_PASSWORD_MAX + 2).rstrip(b"\r\n"))


def _asked_for(user: str, wanted: Wanted) -> Secret:
    """What the user types at the terminal, unseen."""
    try:
        with open("/dev/tty", "rb"):
            pass
    except OSError:
        raise UsageError(
            "there is no terminal to ask for the password at: use --password-stdin or --keytab",
            exit_code=EXIT_USAGE,
        ) from None
    try:
        typed = getpass.getpass(f"Password for {user} in cell {wanted.cell}: ")
    except EOFError:
        typed = ""
    return _password(os.fsencode(typed))


def _password(value: bytes) -> Secret:
    if not 0 < len(value) <= _PASSWORD_MAX or b"\0" in value:
        raise UsageError("no password was given, or one that cannot be", exit_code=EXIT_USAGE)
    return Secret(value)
