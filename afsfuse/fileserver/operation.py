"""Operations on a volume: what is to be done, without how often and where.

`rotation.Rotation` runs them: it chooses the server, calls `attempt`, and decides what a failure
means. An attempt makes the calls that the operation consists of and does not retry.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from afsfuse.auth.identity import NOBODY
from afsfuse.auth.security import is_about_token
from afsfuse.errors import ViceCode
from rxrpc.errors import (
    CallAborted,
    CallBusy,
    CallError,
    CallTimeout,
    EndpointClosed,
    NetworkError,
    ProtocolError,
    RxCode,
)
from rxrpc.security.rxkadcodes import RxkadCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from rxrpc import CallTimeouts, Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where an attempt is made: one address of one server."""

    server: FileServer
    connection: Connection
    timeouts: CallTimeouts


class Effect(enum.Enum):
    """What an operation does to the volume, and so whether it may be sent again after silence."""

    NONE = enum.auto()  # it asks
    SETS = enum.auto()  # to do it twice comes to the same
    ONCE = enum.auto()  # the second time it would do something else, or fail


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One thing to be done on a volume."""

    name: str  # of the RPC, for logs
    volume: Volume
    attempt: Callable[[Site], Awaitable[T]]  # raises CallError, or AfsError when all is lost
    who: Identity = NOBODY  # in whose name
    effect: Effect = Effect.NONE


class Verdict(enum.Enum):
    """What the failure of one attempt means for the operation."""

    UNREACHABLE = enum.auto()  # this address does not answer: the next address, the next server
    AGAIN = enum.auto()  # this very address, at once: the call will be made another way
    BUSY = enum.auto()  # the volume is in use there: the next server, then wait
    OFFLINE = enum.auto()  # the volume is off line there: the next server, then wait a little
    MOVED = enum.auto()  # the volume is not there: ask where it is
    REFUSED = enum.auto()  # an answer that is the same everywhere: tell the caller
    TOKEN = enum.auto()  # the caller's token is no good: it is the same everywhere
    BROKEN = enum.auto()  # the server broke the protocol
    CLOSED = enum.auto()  # our own endpoint is gone


_OF_CODE: dict[int, Verdict] = {
    RxCode.CALL_DEAD: Verdict.UNREACHABLE,
    RxCode.CALL_TIMEOUT: Verdict.UNREACHABLE,
    ViceCode.VNOSERVICE: Verdict.UNREACHABLE,  # OpenAFS 1.4.8 to 1.6.24: an idle call was ended
    ViceCode.VRESTARTING: Verdict.BUSY,
    ViceCode.VBUSY: Verdict.BUSY,
    ViceCode.VSALVAGING: Verdict.BUSY,
    ViceCode.VOFFLINE: Verdict.OFFLINE,
    ViceCode.VSALVAGE: Verdict.OFFLINE,
    ViceCode.VNOVOL: Verdict.MOVED,
    ViceCode.VMOVED: Verdict.MOVED,
}

VOLUME_CODES = frozenset(int(code) for code in _OF_CODE)
"""Codes that concern a whole volume or server: bulk replies repeat them in every entry."""


def judge(error: CallError) -> Verdict:
    """What the end of a call means. Sources: fs/afs/rotate.c of Linux, afs_analyze.c of OpenAFS."""
    if isinstance(error, ProtocolError):
        return Verdict.BROKEN
    if isinstance(error, CallAborted):
        if RxkadCode.INCONSISTENCY <= error.code <= RxkadCode.ILLEGAL_LEVEL:
            return Verdict.TOKEN if is_about_token(error) else Verdict.BROKEN
        return _OF_CODE.get(error.code, Verdict.REFUSED)
    if isinstance(error, CallBusy):
        return Verdict.BUSY
    if isinstance(error, CallTimeout) and error.what == CallTimeout.TOO_LARGE:
        return Verdict.AGAIN
    if isinstance(error, CallTimeout | NetworkError):
        return Verdict.UNREACHABLE
    if isinstance(error, EndpointClosed):
        return Verdict.CLOSED
    return Verdict.BROKEN
