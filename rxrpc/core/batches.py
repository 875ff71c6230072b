"""Datagrams that came together: ACKs that another one overtakes need not be read.

A server acknowledges every second packet, so that 250 MiB which are stored bring 95,000 ACKs,
twenty of a call at a time. Each says all that the one before it said.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from rxrpc.wire.ack import AckReason
from rxrpc.wire.packet import ACK, CLIENT_INITIATED
from rxrpc.wire.serial import before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxrpc.wire.packet import Address

_SERIAL, _TYPE, _FLAGS, _REASON = 16, 20, 21, 44  # offsets in an ACK packet
_CALL_SIZE = 12  # bytes in front that name the call: epoch, cid, call number
_PLAIN = frozenset({AckReason.REQUESTED, AckReason.DELAY, AckReason.IDLE})
"""Reasons that ask for nothing, and of which the last one counts."""
_WORD = struct.Struct("!I")


def newest_acks(
    datagrams: Sequence[tuple[bytes, Address]],
) -> list[tuple[bytes, Address]]:
    """The same without plain ACKs behind which a newer one of the same call and peer comes."""
    newest: dict[tuple[bytes, int, Address], int] = {}
    kept: list[tuple[bytes, Address]] = []
    for datagram in reversed(datagrams):
        data, address = datagram
        if len(data) > _REASON and data[_TYPE] == ACK and data[_REASON] in _PLAIN:
            call = (data[:_CALL_SIZE], data[_FLAGS] & CLIENT_INITIATED, address)
            serial = _WORD.unpack_from(data, _SERIAL)[0]
            later = newest.get(call)
            if later is not None and before(serial, later):
                continue
            newest[call] = serial
        kept.append(datagram)
    kept.reverse()
    return kept
