"""How the end of a call is told: to the peer, and to whoever looks on."""

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


def describe(error: CallError) -> str:
    """An error for a trace or a snapshot: without the reason, which may quote what a peer sent."""
    if isinstance(error, CallAborted):
        return str(CallAborted(error.code, remote=error.remote))
    return str(error) or type(error).__name__
