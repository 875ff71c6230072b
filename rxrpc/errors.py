"""Every error that leaves this package, in one tree.

::

    RxError
    ├── ParseError           bytes from a peer are no valid packet or value
    ├── LocalError           this side was asked for something it cannot do
    │   ├── MessageSizeError    more or less was sent than had been announced
    │   ├── PhaseError          the bytes of a call go the other way now
    │   └── SecurityLevelError  an identity protects less than what is demanded
    ├── SecurityError        a peer did not prove who it is, or a packet is not the peer's
    └── CallError            what a call can end with
        ├── CallAborted      either side ended it with a code
        │   └── ProtocolError   the peer broke the protocol and the call was aborted for it
        ├── CallTimeout      the peer was silent, or the call took too long
        ├── CallBusy         the server had no room for the call and never started it
        ├── NetworkError     the network said that the peer cannot be reached
        └── EndpointClosed   our own socket is gone
"""

from __future__ import annotations

import enum
import os
from typing import Self


class RxCode(enum.IntEnum):
    """Abort codes of Rx itself; all other codes belong to the service. Source: rx.h."""

    CALL_DEAD = -1
    INVALID_OPERATION = -2
    CALL_TIMEOUT = -3
    EOF = -4
    PROTOCOL_ERROR = -5
    USER_ABORT = -6
    ADDRESS_IN_USE = -7
    MESSAGE_TOO_BIG = -8
    RESTARTING = -100


class RxError(Exception):
    """Root of all errors of this package."""


class ParseError(RxError):
    """Bytes from a peer are no valid packet or value."""


class LocalError(RxError):
    """This side was asked for something that it cannot do: a caller's mistake, not a peer's."""


class MessageSizeError(LocalError):
    """More or less is sent in a call than was announced for it; nothing of it was sent.

    AF_RXRPC's EMSGSIZE. The call is not over, but can only be completed by sending what is missing.
    """


class PhaseError(LocalError):
    """The bytes of a call go the other way now, so this is not possible any more.

    A call has a request and then a reply. To begin the reply ends the request, whether it had
    been sent whole or not: the client cannot send more, the server cannot read more.
    """


class SecurityLevelError(LocalError):
    """An identity protects packets less than what is demanded; nothing was sent."""


class SecurityError(RxError):
    """A peer did not prove who it is, or a packet is not what its key says.

    ``code`` is what the connection is aborted with; it belongs to the security class.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class CallError(RxError):
    """Root of what a call can end with other than its reply."""

    def again(self) -> Self:
        """An equal error to raise: one that ended several calls is raised in several tasks."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


class CallAborted(CallError):
    """The call was ended by an abort, with a code of Rx, of RXGEN or of the service.

    ``code`` is a signed 32-bit number. ``remote`` says who sent it: the peer, or this side.
    A server's handler raises it to end the call with that code.
    """

    def __init__(self, code: int, *, remote: bool = False, reason: str = "") -> None:
        super().__init__(code, remote, reason)
        self.code = code
        self.remote = remote
        self.reason = reason

    def __str__(self) -> str:
        """Say who aborted, and with what."""
        side = "peer" if self.remote else "this side"
        try:
            name = f" ({RxCode(self.code).name})"
        except ValueError:
            name = ""
        detail = f": {self.reason}" if self.reason else ""
        return f"call aborted by {side} with code {self.code}{name}{detail}"


class ProtocolError(CallAborted):
    """The peer broke the protocol inside a call, which was aborted for it.

    Also raised when a reply ends before its value does, or goes on after it.
    """

    def __init__(self, reason: str, *, code: int = RxCode.PROTOCOL_ERROR) -> None:
        super().__init__(code, remote=False, reason=reason)


class CallTimeout(CallError):
    """The call ended by a clock; ``what`` names which one.

    ``"dead peer"``: not one packet of the peer came in time, although pings asked for one.
    ``"idle"``: the peer lives but the call made no progress. ``"hard"``: the whole call took
    longer than it may. ``"connect"``: the call never got a channel. ``"reconnect"``: the endpoint
    was told to make its connections anew. ``"forgotten"``: the peer was started anew and knows
    nothing of the call. ``"too large"``: the peer lives, but large datagrams seem to vanish on the
    way; the call may be made again, in smaller ones. ``"lull"``: packets are lost on the way, and
    the reply had better be asked for again, see `CallTimeouts.lull`.
    """

    TOO_LARGE = "too large"
    LULL = "lull"
    SILENCE = frozenset({"dead peer", "forgotten"})

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        """Name the clock."""
        return f"call timed out: {self.what}"


class CallBusy(CallError):
    """The server has no room for the call and has not started it, so it may be tried again."""


class NetworkError(CallError):
    """The network or the local kernel refused; ``errno`` says how (ICMP errors come this way)."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno

    def __str__(self) -> str:
        """Spell the errno out."""
        return f"network error: {os.strerror(self.errno)}"


class EndpointClosed(CallError):
    """The endpoint that carried the call is not running any more."""
