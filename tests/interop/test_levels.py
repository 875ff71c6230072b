"""What levels of protection OpenAFS's servers demand: none of who comes with rxkad as all do.

The security objects of all servers of 1.8.9 are made in one place, for the class with index 2 with
the least level 0, which is `clear`, whatever a server is started with. Source:
`afsconf_BuildServerSecurityObjects_int` in src/auth/authcon.c. That they have no option for it, and
take calls at each level, is shown here. A file server also has the same class at index 3, and that
one demands `crypt`; no client of OpenAFS comes with it, but it shows what a demand of theirs looks
like, and that ours hears it. What a mount does then is tried in `tests/mount/test_levels.py`, at
servers of our own.
"""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, cast

import pytest

from afsfuse.errors import abort_name
from afsfuse.interfaces import fileserver as fs
from rxrpc import CallAborted, SecurityLevel
from rxrpc.rpc import Void
from rxrpc.security.rxkad import RxkadClient
from tests.interop.test_rxkad import client
from tests.realcell.tokens import ADMIN, service_keys

if TYPE_CHECKING:
    from rxrpc.security.base import SecurityIndex
    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell

SERVERS = ("dafileserver", "fileserver", "davolserver", "volserver", "vlserver", "ptserver")
DEMANDS = re.compile(r"crypt|level|secur|protect|require|clear(?!-vol-stats)")
BETWEEN_SERVERS = {"-s2scrypt"}  # of calls that volume servers make to each other, as clients
OTHERWISE = {"-saneacls", "-clear-vol-stats"}


@pytest.mark.usefixtures("_realcell_possible")
@pytest.mark.parametrize("program", SERVERS)
def test_no_server_has_an_option_for_a_level(program: str) -> None:
    server = f"/usr/lib/openafs/{program}"
    done = subprocess.run([server, "-help"], capture_output=True, text=True, check=False)
    options = set(re.findall(r"-[a-z0-9][a-z0-9_-]+", done.stdout + done.stderr))
    assert "-rxbind" in options, done
    assert {each for each in options if DEMANDS.search(each)} <= BETWEEN_SERVERS | OTHERWISE


class Encrypting(RxkadClient):
    """The class that OpenAFS calls RX_SECIDX_KAE."""

    index = cast("SecurityIndex", 3)  # type: ignore[misc]  # no other program uses it


async def ask(cell: RealCell, level: SecurityLevel, kind: type[RxkadClient]) -> str:
    """The level of a call that the file server has answered, or how it refuses."""
    async with client(cell) as endpoint:
        security = kind.of_service(service_keys(cell), ADMIN, level, clock=time.time)
        connection = endpoint.connect((cell.fs1.address, fs.PORT), fs.SERVICE_ID, security=security)
        try:
            await connection.call(fs.GET_CAPABILITIES, Void())
        except CallAborted as exc:
            return abort_name(exc.code)
    return security.level.name


@pytest.mark.parametrize("level", list(SecurityLevel))
async def test_a_level_is_demanded_where_nobody_comes(
    real_cell: RealCell, level: SecurityLevel
) -> None:
    assert await ask(real_cell, level, RxkadClient) == level.name
    enough = level is SecurityLevel.CRYPT
    assert await ask(real_cell, level, Encrypting) == (
        level.name if enough else "19270402 RXKADLEVELFAIL"
    )
