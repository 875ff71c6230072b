"""What the core hands upwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxrpc.core.call import Call
    from rxrpc.core.server_call import ServerCall


@dataclass(frozen=True, slots=True)
class CallChanged:
    """Something for which the user of a call may wait has happened.

    Data came that it asked for, there is room to send more, or the call is over.
    """

    call: Call


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A client began a call to one of our services; its request may still be arriving."""

    call: ServerCall


Event = CallChanged | IncomingCall
