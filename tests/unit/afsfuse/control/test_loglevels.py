"""Levels of the log by part: who may set them, and that they hold."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.control.loglevels import PARTS, LogLevels
from afsfuse.control.verbs import Peer
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = Peer(os.geteuid(), os.getegid(), 1)
OTHER = Peer(1001, 1001, 1)


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Leave the loggers of this process as they were."""
    loggers = [logging.getLogger(name) for names in PARTS.values() for name in names]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


async def ask(verbs: LogLevels, peer: Peer = OWNER, /, **levels: str) -> dict[str, str]:
    told: dict[str, Any] = await verbs.verbs["log-levels"]({"set": levels}, peer)
    assert told["mount"] == "/afs"
    levels = told["levels"]
    return levels


async def test_levels_by_part() -> None:
    logging.getLogger("afsfuse").setLevel(logging.INFO)
    verbs = LogLevels("/afs")
    assert (await ask(verbs))["cache"] == "info"
    told = await ask(verbs, cache="debug", all="warning")
    assert (told["cache"], told["vfs"], told["all"]) == ("debug", "warning", "warning")
    assert logging.getLogger("afsfuse.cache.storing").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("afsfuse.vfs.files").isEnabledFor(logging.INFO)
    assert logging.getLogger("pyfuse3").level >= logging.INFO
    told = await ask(verbs, cache="default", all="default")
    assert set(told.values()) >= {"info"}
    assert told["cache"] == "info"


async def test_what_is_wrong_changes_nothing() -> None:
    verbs = LogLevels("/afs")
    before = await ask(verbs)
    for wrong in ({"cache": "debug", "nothing": "debug"}, {"cache": "debug", "vfs": "loud"}):
        with pytest.raises(ControlRefused, match="no such"):
            await ask(verbs, OWNER, **wrong)
    assert await ask(verbs) == before


async def test_others_may_neither_set_nor_see_them() -> None:
    for levels in ({}, {"cache": "debug"}):
        with pytest.raises(ControlRefused, match="only root"):
            await ask(LogLevels("/afs"), OTHER, **levels)
