"""Programs that walk over trees: what they take for one file, where they end, how they stay out."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mount.treesmount import TreesMount

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see all processes"),
]


def test_volumes_that_are_alike_are_not_mistaken_for_one(
    trees_mount: Callable[..., TreesMount],
) -> None:
    """Two names of one file are one file; the same vnode of two volumes is two."""
    mount = trees_mount(options="expire=0")
    for number in range(3):
        mount.ask("link", f"v.{number:03d}")
    files = [mount.volume(n) / name for n in range(3) for name in ("file", "twin")]
    stats = [file.stat() for file in files]
    assert {status.st_nlink for status in stats} == {2}
    assert len({status.st_dev for status in stats}) == 1
    assert len({status.st_ino for status in stats}) == 3
    archive = mount.folder / "archive.tar"
    subprocess.run(["tar", "-cf", archive, "-C", mount.cell, "v"], check=True)
    listed = subprocess.run(["tar", "-tvf", archive], check=True, capture_output=True).stdout
    links = [line.split()[5::3] for line in listed.decode().splitlines() if " link to " in line]
    assert sorted((os.path.dirname(name), os.path.dirname(target)) for name, target in links) == [
        (place, place) for place in ("v/000", "v/000/below", "v/001", "v/002")
    ], "each within its volume, at its place"
    used = subprocess.run(["du", "-sb", mount.cell / "v"], check=True, capture_output=True).stdout
    each = subprocess.run(
        ["du", "-sb", *(mount.volume(n) for n in range(3))], check=True, capture_output=True
    ).stdout
    assert int(used.split()[0]) > sum(int(line.split()[0]) for line in each.splitlines())


def test_find_ends_in_a_volume_inside_itself(trees_mount: Callable[..., TreesMount]) -> None:
    mount = trees_mount(volumes=1)
    done = mount.children.run("find", mount.cell, "-name", "file")
    paths = done.stdout.decode().split()
    assert sorted(paths, key=len) == [
        f"{mount.cell}{'/loop' * rounds}/v/000/file" for rounds in range(8)
    ]
    assert done.returncode == 1
    assert done.stderr.decode().count("Too many levels of symbolic links") == 1


def test_find_and_updatedb_can_be_told_to_leave_it_out(
    trees_mount: Callable[..., TreesMount],
) -> None:
    mount = trees_mount()
    done = mount.children.run(
        "find", mount.folder, "-fstype", "fuse.afs", "-prune", "-o", "-name", "*file*", "-print"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
