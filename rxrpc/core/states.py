"""The states of a call as tables: what it listens to in each, and where it may go from there.

A packet of a type that stands in no row is dropped with the reason ``wrong state``. The tests walk
every state with every packet type and accept nothing but what stands here.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from rxrpc.wire.packet import PacketType

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

_P = PacketType


class CallState(enum.Enum):
    """Where a call is. Members that only one role has are marked."""

    WAITING = "waiting"  # no channel yet; a server's call has one from its first packet on
    SENDING = "sending"  # client: the request is not acknowledged as a whole
    AWAITING = "awaiting"  # client: the server has the request
    RECEIVING = "receiving"  # client: the reply has begun
    REQUEST = "request"  # server: the request has not come as a whole
    SERVING = "serving"  # server: the service works on it
    REPLYING = "replying"  # server: the reply has begun
    CONFIRMING = "confirming"  # server: all of the reply was sent, not all acknowledged
    COMPLETE = "complete"  # over; late duplicates are answered for a while
    FAILED = "failed"  # over with an error; late packets are told so for a while

    __hash__ = object.__hash__  # that of Enum is a function of Python, and called for every step


OVER: Set[CallState] = frozenset({CallState.COMPLETE, CallState.FAILED})

ACCEPTS: Mapping[CallState, Set[PacketType]] = {
    CallState.WAITING: frozenset(),
    CallState.SENDING: frozenset({_P.DATA, _P.ACK, _P.ACKALL, _P.ABORT, _P.BUSY}),
    CallState.AWAITING: frozenset({_P.DATA, _P.ACK, _P.ACKALL, _P.ABORT}),
    CallState.RECEIVING: frozenset({_P.DATA, _P.ACK, _P.ABORT}),  # ACK: pings
    CallState.REQUEST: frozenset({_P.DATA, _P.ACK, _P.ABORT}),
    CallState.SERVING: frozenset({_P.DATA, _P.ACK, _P.ABORT}),  # DATA: repetitions
    # DATA: repetitions, or what is thrown away of a request that was answered before its end
    CallState.REPLYING: frozenset({_P.DATA, _P.ACK, _P.ACKALL, _P.ABORT}),
    CallState.CONFIRMING: frozenset({_P.DATA, _P.ACK, _P.ACKALL, _P.ABORT}),
    CallState.COMPLETE: frozenset({_P.DATA, _P.ACK}),
    CallState.FAILED: frozenset({_P.DATA, _P.ACK}),
}

TRANSITIONS: Mapping[CallState, Set[CallState]] = {
    CallState.WAITING: frozenset({CallState.SENDING, CallState.REQUEST, CallState.FAILED}),
    CallState.SENDING: frozenset(
        {CallState.AWAITING, CallState.RECEIVING, CallState.COMPLETE, CallState.FAILED}
    ),
    CallState.AWAITING: frozenset({CallState.RECEIVING, CallState.COMPLETE, CallState.FAILED}),
    CallState.RECEIVING: frozenset({CallState.COMPLETE, CallState.FAILED}),
    CallState.REQUEST: frozenset({CallState.SERVING, CallState.REPLYING, CallState.FAILED}),
    CallState.SERVING: frozenset({CallState.REPLYING, CallState.FAILED}),
    CallState.REPLYING: frozenset({CallState.CONFIRMING, CallState.COMPLETE, CallState.FAILED}),
    CallState.CONFIRMING: frozenset({CallState.COMPLETE, CallState.FAILED}),
    CallState.COMPLETE: frozenset(),
    CallState.FAILED: frozenset(),
}

ACCEPT_MASKS: Mapping[CallState, int] = {
    state: sum(1 << kind for kind in kinds) for state, kinds in ACCEPTS.items()
}
"""The same as bits, for the path of every packet."""
