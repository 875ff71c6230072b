"""Where every task of the daemon stands: for its log, when somebody asks why nothing goes on.

Of each frame there are the file, the line and the function, and never a value: so nothing of keys,
names or contents of files gets into the log. Tasks that stand at the same place are one entry.
"""

from __future__ import annotations

import logging
import os.path
from collections import Counter
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

log = logging.getLogger(__name__)

STACKS_SHOWN = 200
"""Different ones; a daemon has some thirty."""
FRAMES_SHOWN = 40
"""Of each, the innermost."""


async def dump_on_signals(signals: AsyncIterator[int]) -> None:
    """Write all stacks into the log at each signal."""
    log.setLevel(logging.INFO)  # who asks is answered, whatever else is logged
    async for _ in signals:
        log.info("%s", stacks())


def stacks() -> str:
    """Where all tasks stand, in a few lines each; the outermost call first."""
    root = trio.lowlevel.current_root_task()
    counted = Counter((task.name, _frames(task)) for task in _below(root))
    lines = [f"{sum(counted.values())} tasks stand at {len(counted)} places:"]
    for (name, frames), count in counted.most_common(STACKS_SHOWN):
        lines.append(f"{count} x {name}" if count > 1 else name)
        lines += [f"    {frame}" for frame in frames]
    if len(counted) > STACKS_SHOWN:
        lines.append(f"{len(counted) - STACKS_SHOWN} more places were left out")
    return "\n".join(lines)


def _below(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    """All tasks, each before those that it has started."""
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks


def _frames(task: trio.lowlevel.Task) -> tuple[str, ...]:
    frames = [
        f"{_place(frame.f_code.co_filename)}:{line} {frame.f_code.co_qualname}"
        for frame, line in task.iter_await_frames()
    ]
    return tuple(frames[-FRAMES_SHOWN:])


def _place(path: str) -> str:
    """The end of a path, which says enough."""
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}"
