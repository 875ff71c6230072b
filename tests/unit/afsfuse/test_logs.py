"""Where the log goes, how it looks, and that a flood is cut short."""

from __future__ import annotations

import io
import logging
import os
import sys
import syslog
from typing import TYPE_CHECKING

import pytest

from afsfuse import logs
from afsfuse.errors import UsageError
from afsfuse.logs import JournalFormatter, RateLimit, SyslogHandler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loggers() -> Iterator[logging.Logger]:
    """Our loggers, put back as they were."""
    before = {
        name: (logger.handlers, logger.propagate, logger.level)
        for name in logs.NAMES
        for logger in [logging.getLogger(name)]
    }
    yield logging.getLogger("afsfuse")
    for name, (handlers, propagate, level) in before.items():
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate, logger.level = handlers, propagate, level


def record(level: int, message: str, *args: object, name: str = "afsfuse") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def test_a_log_file_is_appended_to(loggers: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    logs.set_up(foreground=False, logfile=str(path), debug=False)
    loggers.info("hello %s", "world")
    loggers.debug("unseen")
    lines = path.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[1].endswith("INFO afsfuse: hello world")
    assert len(lines) == 2


def test_debug_shows_all(loggers: logging.Logger, tmp_path: Path) -> None:
    logs.set_up(foreground=False, logfile=str(tmp_path / "log"), debug=True)
    loggers.debug("seen")
    assert "seen" in (tmp_path / "log").read_text()


def test_a_log_file_that_cannot_be_written(loggers: logging.Logger, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the log cannot be written there") as caught:
        logs.set_up(foreground=True, logfile=str(tmp_path / "no" / "log"), debug=False)
    assert caught.value.exit_code == 1


def test_in_the_foreground_standard_error_gets_it(
    loggers: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    logs.set_up(foreground=True, logfile=None, debug=False)
    loggers.warning("for people")
    assert shown.getvalue().endswith("WARNING afsfuse: for people\n")


def test_the_journal_gets_priorities(
    loggers: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    stderr = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{stderr.st_dev}:{stderr.st_ino}")
    logs.set_up(foreground=True, logfile=None, debug=False)
    loggers.warning("for systemd")
    assert shown.getvalue() == "<4>afsfuse: for systemd\n"


def test_in_the_background_syslog_gets_it(
    loggers: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda *what: sent.append(what))
    logs.set_up(foreground=False, logfile=None, debug=True)
    loggers.critical("worst")
    loggers.error("two\nlines")
    loggers.debug("least")
    assert sent == [
        (syslog.LOG_CRIT, "afsfuse: worst"),
        (syslog.LOG_ERR, "afsfuse: two"),
        (syslog.LOG_ERR, "    lines"),
        (syslog.LOG_DEBUG, "afsfuse: least"),
    ]


def test_answers_that_come_too_late_are_no_errors(loggers: logging.Logger, tmp_path: Path) -> None:
    logs.set_up(foreground=False, logfile=str(tmp_path / "log"), debug=True)
    pyfuse3 = logging.getLogger("pyfuse3")
    pyfuse3.error("fuse_read(): fuse_reply_* failed with %s", "No such file or directory")
    assert (tmp_path / "log").read_text() == ""
    pyfuse3.error("fuse_read(): fuse_reply_* failed with %s", "Invalid argument")
    assert "Invalid argument" in (tmp_path / "log").read_text()
    pyfuse3.filters = []


def test_each_line_of_a_traceback_has_its_priority() -> None:
    try:
        raise KeyError("bug")
    except KeyError:
        broken = record(logging.ERROR, "failed")
        broken.exc_info = sys.exc_info()
    lines = JournalFormatter().format(broken).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines)


def test_warnings_are_echoed_until_the_start_is_over(
    loggers: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    logs.set_up(foreground=False, logfile=str(tmp_path / "log"), debug=False)
    echo = logs.echo()
    loggers.warning("look here")
    loggers.info("not here")
    logs.unecho(echo)
    loggers.warning("later")
    assert shown.getvalue() == "afsfuse: look here\n"
    assert "later" in (tmp_path / "log").read_text()


def test_a_flood_is_cut_short_and_counted() -> None:
    now = [0.0]
    limit = RateLimit(burst=3, period=60.0, clock=lambda: now[0])
    flood = [limit.filter(record(logging.WARNING, "server %s", n)) for n in range(10)]
    assert flood == [True] * 3 + [False] * 7
    assert limit.filter(record(logging.WARNING, "another"))
    assert limit.filter(record(logging.WARNING, "server %s", 1, name="rxrpc"))
    now[0] = 61.0
    later = record(logging.WARNING, "server %s", 11)
    assert limit.filter(later)
    assert later.getMessage() == "server 11 (7 more like this were left out)"
    now[0] = 122.0
    again = record(logging.WARNING, "server %s", 12)
    assert limit.filter(again)
    assert again.getMessage() == "server 12"


def test_the_kinds_that_are_remembered_are_bounded() -> None:
    limit = RateLimit(burst=1, clock=lambda: 0.0)
    assert all(limit.filter(record(logging.INFO, f"kind {n}")) for n in range(5000))
    assert len(limit._kinds) <= 1024


def test_the_syslog_handler_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(syslog, "openlog", lambda *what: opened.append(what[0]))
    SyslogHandler().close()
    assert opened == ["afsfuse"]


def test_standard_error_that_the_journal_does_not_read_is_for_people(
    loggers: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")  # a shell in a service, say, and 2> redirected
    logs.set_up(foreground=True, logfile=None, debug=False)
    loggers.warning("for people")
    assert shown.getvalue().endswith(" WARNING afsfuse: for people\n")


BAD = "a\n2026-01-01 00:00:00,000 ERROR afsfuse: forged\r\x1b[2J\0\udcff\u2028b"


def test_no_name_passes_for_a_line_or_an_order(loggers: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.set_up(foreground=False, logfile=str(path), debug=False)
    loggers.info("the name %s", BAD)
    first, second = path.read_text().split("\n")[:-1]
    assert first.endswith("afsfuse: the name a")
    assert second == (
        "    2026-01-01 00:00:00,000 ERROR afsfuse: forged\\r\\x1b[2J\\x00\\udcff\\u2028b"
    )
    assert (
        JournalFormatter()
        .format(record(logging.INFO, "%s", BAD))
        .startswith("<6>afsfuse: a\n<6>    2026")
    )


def test_syslog_takes_any_name(loggers: logging.Logger) -> None:
    """A NUL, or half a character, would be an error in the midst of whatever logs."""
    logs.set_up(foreground=False, logfile=None, debug=False)
    loggers.info("the name %s", BAD)
