"""libfuse's request log, received through libfuse itself."""

from __future__ import annotations

import ctypes
import logging
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import libfuse, operations, requestlog  # noqa: F401 (loads libfuse)
from afsfuse.fuse.requestlog import UNKNOWN, Request, RequestLog, loaded_libfuse, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import ExpectedWarnings

REQUEST = b"unique: %llu, opcode: %s (%i), nodeid: %llu, insize: %zu, pid: %u\n"
NODE = 2**63 - 1


@pytest.fixture(params=["in C", "in Python"])
def received(request: pytest.FixtureRequest) -> Iterator[RequestLog]:
    between = libfuse.between if request.param == "in C" else None
    if between is None and request.param == "in C":
        pytest.skip("_libfuse was not compiled")
    log = RequestLog(between)
    assert log.last == b"" or between is not None
    log.install()
    assert log.last == b""
    yield log
    log.uninstall()


def libfuse_says(level: int, template: bytes, *values: object) -> None:
    libfuse = loaded_libfuse()
    assert libfuse is not None
    libfuse.fuse_log(ctypes.c_int(level), template, *values)


def libfuse_starts(unique: int, name: bytes, nodeid: int, tid: int) -> None:
    libfuse_says(
        7,
        REQUEST,
        ctypes.c_ulonglong(unique),
        name,
        ctypes.c_int(17),
        ctypes.c_ulonglong(nodeid),
        ctypes.c_size_t(40),
        ctypes.c_uint(tid),
    )


def test_the_last_request_line_is_kept(received: RequestLog) -> None:
    libfuse_starts(8, b"STATFS", NODE, 4321)
    assert (
        received.last
        == b"unique: 8, opcode: STATFS (17), nodeid: %d, insize: 40, pid: 4321\n" % (NODE)
    )
    assert parse(received.last) == Request(NODE, 4321)
    libfuse_says(7, b"   unique: %llu, success, outsize: %i\n", ctypes.c_ulonglong(8), 16)
    assert parse(received.last) == Request(NODE, 4321)
    libfuse_starts(9, b"READ", 15, 0)
    assert parse(received.last) == Request(15, 0)


def test_another_wording_is_unknown() -> None:
    assert parse(b"") == UNKNOWN
    assert parse(b"request 8 about node 15 of process 7547") == UNKNOWN


def test_complaints_of_libfuse_go_to_our_log(
    received: RequestLog,
    caplog: pytest.LogCaptureFixture,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("libfuse: fuse: bad error value")
    libfuse_says(3, b"fuse: bad error value: %i\n", -1000)
    (record,) = caplog.records
    assert record.getMessage() == "libfuse: fuse: bad error value: -1000"
    assert record.levelno == logging.ERROR


def test_without_libfuse_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("libfuse is not among the loaded libraries")
    monkeypatch.setattr(requestlog, "loaded_libfuse", lambda: None)
    log = RequestLog(None)
    log.install()
    log.uninstall()
    assert len(caplog.records) == 1
    assert parse(log.last) == UNKNOWN
