"""What the peer is told."""

import pytest

from rxrpc.core.outcomes import abort_code, describe
from rxrpc.errors import (
    CallAborted,
    CallError,
    CallTimeout,
    EndpointClosed,
    NetworkError,
    ProtocolError,
    RxCode,
)


@pytest.mark.parametrize(
    ("error", "from_client", "from_server"),
    [
        (CallAborted(4711), 4711, 4711),
        (ProtocolError("short reply", code=-451), -451, -451),
        (EndpointClosed(), RxCode.USER_ABORT, RxCode.RESTARTING),
        (CallTimeout("idle"), RxCode.CALL_TIMEOUT, RxCode.CALL_TIMEOUT),
        (NetworkError(111), RxCode.CALL_DEAD, RxCode.CALL_DEAD),
        (None, RxCode.CALL_DEAD, RxCode.CALL_DEAD),
    ],
)
def test_codes(error: CallError | None, from_client: int, from_server: int) -> None:
    assert abort_code(error, is_client=True) == from_client
    assert abort_code(error, is_client=False) == from_server


def test_what_lookers_on_are_told_quotes_nobody() -> None:
    quoting = ProtocolError("reply of Get(5): NUL byte inside a string: b'secret'", code=-451)
    assert describe(quoting) == "call aborted by this side with code -451"
    assert describe(CallAborted(5, remote=True)) == "call aborted by peer with code 5"
    assert describe(CallTimeout("idle")) == "call timed out: idle"
    assert describe(EndpointClosed()) == "EndpointClosed"
