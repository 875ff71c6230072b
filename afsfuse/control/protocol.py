"""Lines of JSON between commands and daemons, of bounded length.

A request is ``{"v": 1, "do": VERB, …}``; its answer is ``{"v": 1, "ok": {…}}`` or
``{"v": 1, "error": MESSAGE}``, each on one line. What goes on for a while, such as a trace, is
answered by any number of ``{"v": 1, "more": {…}}`` before that one; it ends when the reader goes,
or sends anything, or does not read for too long. A reader that is too slow loses lines, and is told
how many by a line ``{"v": 1, "more": {"dropped": N}}`` in their place. A daemon of another version
refuses what it cannot read and says which version it speaks, so that the command can tell its user.
"""

from __future__ import annotations

import json
from typing import Any

from afsfuse.errors import ControlRefused

VERSION = 1
LINE_MAX = 1 << 16
"""Bytes of one request. Answers may be longer: they come from somebody who is trusted."""
ANSWER_MAX = 1 << 26
"""Bytes of one answer: some 50,000 trees with all that may be told of each."""


def request_line(verb: str, **arguments: object) -> bytes:
    """What a command sends."""
    return _line({"v": VERSION, "do": verb, **arguments})


def answer_line(result: dict[str, Any]) -> bytes:
    """What a daemon answers when it did what it was asked for."""
    return _line({"v": VERSION, "ok": result})


def more_line(result: dict[str, Any]) -> bytes:
    """One of several things that a daemon tells in answer to a request."""
    return _line({"v": VERSION, "more": result})


def error_line(message: str) -> bytes:
    """What a daemon answers when it did not."""
    return _line({"v": VERSION, "error": message})


def read_request(line: bytes) -> dict[str, Any]:
    """The values of a request. Raises `ControlRefused`, which quotes nothing of it."""
    values = _values(line)
    if values.get("v") != VERSION:
        raise ControlRefused(f"this daemon speaks version {VERSION}: restart it after an upgrade")
    if not isinstance(values.get("do"), str):
        raise ControlRefused("the request says not what to do")
    return values


def read_answer(line: bytes) -> dict[str, Any]:
    """What a daemon answered. Raises `ControlRefused` with its complaint, or about its words."""
    values = _values(line)
    if isinstance(complaint := values.get("error"), str):
        raise ControlRefused(complaint)
    result = values.get("ok")
    if values.get("v") != VERSION or not isinstance(result, dict):
        raise ControlRefused("the daemon's answer makes no sense: is it of another version?")
    return result


def raw(text: str) -> bytes:
    """A name of a request as the bytes that it stands for, as `os.fsencode` has it.

    Raises `ControlRefused` for what stands for none.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ControlRefused("a name is not text") from None


def read_more(line: bytes) -> dict[str, Any] | None:
    """One of several things that a daemon tells; None at their end. Raises as `read_answer`."""
    result = _values(line).get("more")
    if isinstance(result, dict):
        return result
    read_answer(line)
    return None


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _values(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlRefused("not a line of JSON") from None
    if not isinstance(values, dict):
        raise ControlRefused("not a JSON object")
    return values
