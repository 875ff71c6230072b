"""What servers lack is remembered for a while, and of a bounded number of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
import trio

from afsfuse.cell.servers import FileServer
from afsfuse.fileserver.procedures import Procedures
from afsfuse.interfaces.fileserver import INLINE_BULK_STATUS
from rxrpc import CallAborted
from rxrpc.rpc import RxgenCode

if TYPE_CHECKING:
    from trio.testing import MockClock


class Site:
    """As much of a site as is looked at."""

    def __init__(self, number: int = 1) -> None:
        self.server = FileServer("test.afs", UUID(int=number), 1, [("192.0.2.1", 7000)])
        self.connection = cast("Any", self)
        self.address = self.server.addresses[0]


LACKING = CallAborted(RxgenCode.OPCODE)


async def test_what_a_server_lacks_is_believed_for_a_while(autojump_clock: MockClock) -> None:
    procedures, site = Procedures(), cast("Any", Site())
    assert procedures.has(site, INLINE_BULK_STATUS)
    procedures.note_lacking(site, INLINE_BULK_STATUS, LACKING)
    assert not procedures.has(site, INLINE_BULK_STATUS)
    await trio.sleep(601)
    assert procedures.has(site, INLINE_BULK_STATUS)
    with pytest.raises(CallAborted):
        procedures.note_lacking(site, INLINE_BULK_STATUS, CallAborted(7))


async def test_servers_that_lack_something_are_bounded() -> None:
    procedures = Procedures()
    for number in range(10_000):
        procedures.note_lacking(cast("Any", Site(number)), INLINE_BULK_STATUS, LACKING)
    assert len(procedures._lacking) == 4096
