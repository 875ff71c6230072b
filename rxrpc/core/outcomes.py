"""What the peer is told when a call fails on our side."""

from __future__ import annotations

from rxrpc.errors import CallAborted, CallError, CallTimeout, EndpointClosed, RxCode


def abort_code(error: CallError | None, *, is_client: bool) -> int:
    """The code of the ABORT for a call that ended with this error."""
    match error:
        case CallAborted(code=code):
            return code
        case EndpointClosed():
            return RxCode.USER_ABORT if is_client else RxCode.RESTARTING
        case CallTimeout():
            return RxCode.CALL_TIMEOUT
        case _:
            return RxCode.CALL_DEAD
