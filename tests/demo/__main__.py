"""Bring up a real OpenAFS cell, mount it, show some of it, and take everything down again."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.realcell import seed
from tests.realcell.cell import CellError, RealCell

if TYPE_CHECKING:
    from collections.abc import Iterator

VOLUMES = ("root.afs", "tree", "links", "root.cell")
AFSFUSE = str(Path(sys.executable).parent / "afsfuse")


def show(*command: str) -> None:
    """Run a command as a person would, who sees it and what it prints."""
    print(f"\n$ {' '.join(command)}", flush=True)
    subprocess.run(command, check=True)


@contextlib.contextmanager
def mounted(point: Path, *options: str) -> Iterator[None]:
    """The dynamic root on `point`."""
    show(AFSFUSE, "mount", "afs", str(point), "-o", ",".join(options))
    try:
        yield
    finally:
        show(AFSFUSE, "umount", str(point))


def main() -> int:
    """0 when all of it worked."""
    try:
        print("starting OpenAFS servers in network namespaces (about 15 s)", flush=True)
        with RealCell.start(servers=("fs1", "fs2"), clients=()) as cell:
            seed.populate(cell, VOLUMES)
            point = cell.folder / "afs"
            point.mkdir()
            home = point / cell.name
            with mounted(point, f"confdir={cell.confdir}"):
                show("ls", "-l", str(point))
                show("ls", "-l", str(home))
                show("ls", "-lR", str(home / "tree" / "files"))
                show("cat", str(home / "README"))
                show("getfattr", "-n", "afs.acl", str(home / "README"))
                show("df", "-h", str(home / "tree"))
    except (CellError, subprocess.CalledProcessError) as exc:
        print(f"the demonstration failed: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
