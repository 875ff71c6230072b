"""Taking connections when that is not always possible."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, cast

import trio

from afsfuse.control.accepting import accept

if TYPE_CHECKING:
    from trio.socket import SocketType

    from tests.conftest import ExpectedWarnings


class Listener:
    """A listening socket: one result after the other."""

    def __init__(self, *results: int) -> None:
        """`results`: an errno, or 0 for a connection."""
        self._results = list(results)

    async def accept(self) -> tuple[str, None]:
        await trio.lowlevel.checkpoint()
        if code := self._results.pop(0):
            raise OSError(code, os.strerror(code))
        return "connection", None


async def accepted(*results: int) -> object:
    return await accept(cast("SocketType", Listener(*results)), " for tests")


async def test_who_left_before_his_turn_is_passed_over(autojump_clock: object) -> None:
    began = trio.current_time()
    assert await accepted(errno.ECONNABORTED, errno.ECONNABORTED, 0) == "connection"
    assert trio.current_time() == began


async def test_without_descriptors_it_is_told_and_tried_again_after_a_pause(
    autojump_clock: object, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("no connection for tests can be accepted: Too many open files")
    began = trio.current_time()
    assert await accepted(errno.EMFILE, errno.EMFILE, 0) == "connection"
    assert trio.current_time() > began
