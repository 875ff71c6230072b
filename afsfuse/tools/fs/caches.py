"""The cache: `flush`, `flushvolume`, `flushall`, `getcacheparms`, `setcachesize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.control.places import ask_each
from afsfuse.errors import AfsError, printable
from afsfuse.tools import complain
from afsfuse.tools.fs.doing import as_json, everywhere, gather, tell
from afsfuse.tools.fs.quota import number
from afsfuse.tools.fs.syntax import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given

_NEARLY_FULL = 90


def flush(given: Given) -> int:
    """Forget what is cached of files."""
    return _flush(given, "flush")


def flushvolume(given: Given) -> int:
    """Forget what is cached of the volumes of paths."""
    return _flush(given, "flush-volume")


def _flush(given: Given, verb: str) -> int:
    answers, status = gather(given.paths, lambda served: served.ask(verb))
    return _told(given, answers, status)


def flushall(given: Given) -> int:
    """Forget all that is cached."""
    answers, status = everywhere("flush-all", _left)
    return _told(given, answers, status)


def _left() -> str:
    """How far daemons are with it."""
    try:
        left = sum(answer["forgetting"] for answer in ask_each("cache-size"))
    except AfsError:
        return ""
    return f"{left} files and directories are left" if left else ""


def _told(given: Given, answers: list[Shown], status: int) -> int:
    """What was written and is not stored is kept: that is said, as it may be what is looked for."""
    if given.json:
        as_json(flushed=answers)
        return status
    for answer in answers:
        if answer["unstored"]:
            where = printable(answer.get("path") or answer["mount"])
            complain(f"{where}: data of {answer['unstored']} files is not stored yet, and kept")
    return status


def getcacheparms(given: Given) -> int:
    """Show the use of the cache."""
    answers, status = everywhere("cache-size")
    if given.json:
        as_json(caches=answers)
        return status
    more = given.flag("excessive")
    tell(answers, lambda answer: _parameters(answer, files=given.flag("files") or more, more=more))
    return status


def _parameters(answer: Shown, *, files: bool, more: bool) -> Iterator[str]:
    used, limit = answer["used"] >> 10, answer["limit"] >> 10
    if not files:
        yield f"AFS using {used} of the cache's available {limit} 1K byte blocks."
        return
    percent = 100 * used / limit if limit else 0
    yield f"AFS using {percent:5.0f}% of cache blocks ({used} of {limit} 1k blocks)"
    yield f"          {answer['files']} files and directories are known"
    if more:
        yield f"\tin memory:      {answer['memory'] >> 10:10d} 1k blocks"
        yield f"\tchunks there:   {answer['chunks']:10d}"
        yield f"\tchunks left:    {answer['evicted']:10d}"
        yield f"\tnot stored yet: {answer['unstored'] >> 10:10d} 1k blocks"
    if percent > _NEARLY_FULL:
        yield "[cache size usage over 90%, consider increasing cache size]"


def setcachesize(given: Given) -> int:
    """Set the limit of the cache."""
    blocks = given.one("blocks")
    if blocks is None and not given.flag("reset"):
        raise wrong("fs setcachesize: which size? -blocks or -reset")
    if blocks is not None and given.flag("reset"):
        raise wrong("fs setcachesize: a size, or -reset, not both")
    answers, status = everywhere("cache-size", limit=number(blocks or "0") << 10)
    if given.json:
        as_json(caches=answers)
        return status
    tell(answers, lambda answer: ["New cache size set."])
    return status
