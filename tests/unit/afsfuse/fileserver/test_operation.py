"""What the end of a call means."""

from __future__ import annotations

import errno

import pytest

from afsfuse.fileserver.operation import Verdict, judge
from rxrpc import (
    CallAborted,
    CallBusy,
    CallError,
    CallTimeout,
    EndpointClosed,
    NetworkError,
    ProtocolError,
)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (CallAborted(-1, remote=True), Verdict.UNREACHABLE),
        (CallAborted(-3, remote=True), Verdict.UNREACHABLE),
        (CallAborted(105, remote=True), Verdict.UNREACHABLE),
        (CallTimeout("dead peer"), Verdict.UNREACHABLE),
        (CallTimeout(CallTimeout.TOO_LARGE), Verdict.AGAIN),
        (NetworkError(errno.ECONNREFUSED), Verdict.UNREACHABLE),
        (CallBusy(), Verdict.BUSY),
        (CallAborted(-100, remote=True), Verdict.BUSY),
        (CallAborted(101, remote=True), Verdict.OFFLINE),
        (CallAborted(111, remote=True), Verdict.MOVED),
        (CallAborted(1, remote=True), Verdict.REFUSED),
        (CallAborted(19270408, remote=True), Verdict.TOKEN),
        (CallAborted(19270410, remote=True), Verdict.TOKEN),
        (CallAborted(19270410, remote=False), Verdict.BROKEN),  # a packet from the server
        (CallAborted(19270401, remote=True), Verdict.BROKEN),
        (ProtocolError("nonsense"), Verdict.BROKEN),
        (CallError(), Verdict.BROKEN),
        (EndpointClosed(), Verdict.CLOSED),
    ],
)
def test_verdicts(error: CallError, verdict: Verdict) -> None:
    assert judge(error) is verdict
