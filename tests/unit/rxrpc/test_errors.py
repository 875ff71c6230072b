"""The tree of errors."""

import errno

from rxrpc.errors import (
    CallAborted,
    CallBusy,
    CallError,
    CallTimeout,
    EndpointClosed,
    LocalError,
    NetworkError,
    ParseError,
    ProtocolError,
    RxError,
    SecurityError,
)


def test_the_tree() -> None:
    for error in (CallAborted, CallTimeout, CallBusy, NetworkError, EndpointClosed):
        assert issubclass(error, CallError)
    for root in (CallError, ParseError, LocalError, SecurityError):
        assert issubclass(root, RxError)
    assert issubclass(ProtocolError, CallAborted)


def test_an_abort_says_who_and_what() -> None:
    assert str(CallAborted(-2, remote=True)) == (
        "call aborted by peer with code -2 (INVALID_OPERATION)"
    )
    assert str(CallAborted(110, reason="busy")) == ("call aborted by this side with code 110: busy")


def test_the_others_say_what() -> None:
    assert str(CallTimeout("dead peer")) == "call timed out: dead peer"
    assert str(NetworkError(errno.ECONNREFUSED)) == "network error: Connection refused"
    error = SecurityError(19270405, "ticket too long")
    assert (error.code, error.reason) == (19270405, "ticket too long")


def test_again_is_equal_and_fresh() -> None:
    for error in (
        CallAborted(5, remote=True, reason="why"),
        ProtocolError("short reply", code=-451),
        CallTimeout("idle"),
        NetworkError(113),
        CallBusy(),
        EndpointClosed(),
    ):
        error.__traceback__ = None
        other = error.again()
        assert other is not error
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)
