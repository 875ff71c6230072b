"""The lines between commands and daemons."""

from __future__ import annotations

import json

import pytest

from afsfuse.control.protocol import (
    answer_line,
    error_line,
    read_answer,
    read_request,
    request_line,
)
from afsfuse.errors import ControlRefused


def test_a_request_and_its_answer() -> None:
    line = request_line("drop", cells=["a.org"])
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert read_request(line) == {"v": 1, "do": "drop", "cells": ["a.org"]}
    assert read_answer(answer_line({"dropped": ["a\nb"]})) == {"dropped": ["a\nb"]}


def test_a_complaint_is_raised() -> None:
    with pytest.raises(ControlRefused, match=r"^not so\nfast$"):
        read_answer(error_line("not so\nfast"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not a line of JSON"),
        (b"\xff\xfe", "not a line of JSON"),
        (b"[" * 60_000, "not a line of JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "speaks version 1: restart it"),
        (b'{"v": 2, "do": "hello"}', "speaks version 1: restart it"),
        (b'{"v": 1}', "says not what to do"),
        (b'{"v": 1, "do": 5}', "says not what to do"),
    ],
)
def test_what_is_no_request(line: bytes, said: str) -> None:
    with pytest.raises(ControlRefused, match=said):
        read_request(line)


@pytest.mark.parametrize("answer", [{}, {"v": 1}, {"v": 2, "ok": {}}, {"v": 1, "ok": 5}, []])
def test_what_is_no_answer(answer: object) -> None:
    with pytest.raises(ControlRefused, match=r"makes no sense|not a JSON object"):
        read_answer(json.dumps(answer).encode())
