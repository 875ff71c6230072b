"""Directories and what is below them, within their volume."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError
from afsfuse.tools.daemons import of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def below(top: str, failed: Callable[[str, AfsError | OSError], object]) -> Iterator[str]:
    """A directory and all below it; links are not followed, and mount points not entered.

    What is below a directory comes before it, so that a change of its list that takes rights away
    hinders nobody from getting there; but where one may not look in yet, it comes first, as the
    change may let one in. `failed` is told what cannot be looked at, and is left out.
    """
    waiting = [(top, False)]  # and whether what is below it has been
    while waiting:
        path, complete = waiting.pop()
        if complete:
            yield path
            continue
        try:
            inside = _directories(path)
            waiting.append((path, True))
        except NotADirectoryError:
            yield path
            continue
        except PermissionError:
            yield path
            try:
                inside = _directories(path)
            except (AfsError, OSError) as exc:
                failed(path, exc)
                continue
        except (AfsError, OSError) as exc:
            failed(path, exc)
            continue
        waiting += [(child, False) for child in reversed(inside)]


def _directories(path: str) -> list[str]:
    """Those in a directory that belong to the same volume, by name. Raises `AfsError`, OSError."""
    with os.scandir(path) as entries:
        found = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return [child for child in found if not _is_mount_point(child)]


def _is_mount_point(path: str) -> bool:
    with of(path, follow=False) as served:
        return served.ask("mount-point")["target"] is not None
