"""Mount points: `mkmount`, `lsmount`, `rmmount`, `flushmount`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError, printable
from afsfuse.tools import complain
from afsfuse.tools.daemons import of
from afsfuse.tools.fs import EXIT_FAILED
from afsfuse.tools.fs.doing import as_json, each, refuse
from afsfuse.tools.fs.syntax import wrong

if TYPE_CHECKING:
    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given

_VOLUME_MAX = 63


def mkmount(given: Given) -> int:
    """Make a mount point. A volume that is not there is warned of, and mounted all the same."""
    path, volume = given.many("dir")[0].rstrip("/"), given.many("vol")[0]
    cell = given.one("cell")
    if not 0 < len(volume) <= _VOLUME_MAX or set(volume) & set(" /#%:\n"):
        raise wrong(f"fs mkmount: {volume!r} cannot be the name of a volume")
    parent, name = _split(path)
    try:
        with of(parent) as served:
            if not given.flag("fast"):
                found = served.ask("find-volume", volume=volume, cell=cell)
                if not found["found"]:
                    complain(
                        f"warning: volume {volume} does not exist in cell {found['cell']}: "
                        f"{printable(found['why'])}"
                    )
            body = f"{'%' if given.flag('rw') else '#'}{f'{cell}:' if cell else ''}{volume}."
            # The kernel has it made, so that it knows of it; the daemon sees what the body means.
            os.symlink(body, os.path.join(parent, name))
    except (AfsError, OSError) as exc:
        return refuse(path, exc)
    if given.json:
        as_json(path=path, target=body[:-1])
    return 0


def lsmount(given: Given) -> int:
    """Show where mount points lead."""
    answers: list[Shown] = []
    status = 0
    for path in given.many("dir"):
        try:
            link = os.path.islink(path)
            real = os.path.realpath(path) if link else path.rstrip("/") or "/"
            with of(real, follow=False) as served:
                target = served.ask("mount-point")["target"]
        except (AfsError, OSError) as exc:
            status = refuse(path, exc)
            continue
        answers.append({"path": path, "link": link, "target": target})
        if target is None:
            status = EXIT_FAILED
            complain(f"'{printable(path)}' is not a mount point.")
        elif not given.json:
            what = "a symbolic link, leading to a mount point" if link else "a mount point"
            print(f"'{printable(path)}' is {what} for volume '{target}'")
    if given.json:
        as_json(mount_points=answers)
    return status


def rmmount(given: Given) -> int:
    """Remove mount points."""
    status = 0
    for path in given.many("dir"):
        try:
            parent, name = _split(path.rstrip("/"))
            with of(parent) as served:
                served.ask("remove-mount-point", name=name)
        except (AfsError, OSError) as exc:
            status = refuse(path, exc)
    if given.json:
        as_json(removed=not status)
    return status


def flushmount(given: Given) -> int:
    """Forget where mount points lead."""
    status = each(given.paths, lambda served: served.ask("flush-mount-point"), follow=False)
    if given.json:
        as_json(flushed=not status)
    return status


def _split(path: str) -> tuple[str, str]:
    """The directory of a name, and the name. Raises `UsageError` for what names no entry."""
    parent, name = os.path.split(path)
    if name in ("", ".", ".."):
        raise wrong(f"{path or '/'}: a name in a directory is expected, not . or ..")
    return parent or ".", name
