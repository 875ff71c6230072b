"""Cells, mount points, links and names, as people walk over them."""

from __future__ import annotations

import errno
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.realcell import seed
from tests.realcell.configuration import CLOSED_CELL, DEAD_CELL, GONE_CELL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.mounts import RealMount
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]


def error_of(path: Path) -> int:
    """The errno of listing a directory."""
    with pytest.raises(OSError, match=r".") as caught:
        os.listdir(path)
    assert caught.value.errno is not None
    return caught.value.errno


def fid_of(path: Path) -> str:
    return os.getxattr(path, "afs.fid").decode()


def test_the_dynamic_root(afs: RealMount) -> None:
    names = os.listdir(afs.point)
    assert "test.afs" in names
    assert os.readlink(afs.point / "@cell") == "test.afs"
    assert (afs.point / "@cell/README").read_text() == (afs.cell / "README").read_text()
    assert stat.S_ISDIR((afs.point / ".test.afs").stat().st_mode)


def test_the_plain_name_is_read_only_and_the_dotted_one_read_write(
    afs: RealMount, real_cell: RealCell
) -> None:
    volume = int(fid_of(afs.cell / "README").split(":")[0], 16)
    assert volume == real_cell.volumes.volume_id("root.cell.readonly")
    volume = int(fid_of(afs.writable / "README").split(":")[0], 16)
    assert volume == real_cell.volumes.volume_id("root.cell")


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("mount-tree", "tree"),
        ("mount-tree-rw", "tree"),
        ("mount-replicated-rw", "replicated"),
        ("mount-replicated-readonly", "replicated.readonly"),
        ("mount-replicated-backup", "replicated.backup"),
        ("mount-in-cell-rw", "replicated"),
    ],
)
def test_mount_points_lead_to_their_volumes(
    afs: RealMount, real_cell: RealCell, name: str, volume: str
) -> None:
    inside = afs.cell / "links" / name
    entry = inside / sorted(os.listdir(inside))[0]
    assert int(fid_of(entry).split(":")[0], 16) == real_cell.volumes.volume_id(volume)


def test_a_read_only_tree_goes_on_read_only(afs: RealMount, real_cell: RealCell) -> None:
    plain = int(fid_of(afs.cell / "replicated/version").split(":")[0], 16)
    assert plain == real_cell.volumes.volume_id("replicated.readonly")
    dotted = int(fid_of(afs.writable / "replicated/version").split(":")[0], 16)
    assert dotted == real_cell.volumes.volume_id("replicated")


def test_one_volume_at_two_places_keeps_both(afs: RealMount) -> None:
    here, there = afs.cell / "tree/deep/0", afs.cell / "links/mount-tree/deep/0"
    descriptor = os.open(here, os.O_RDONLY)
    try:
        assert os.listdir(there) == os.listdir(here)
        assert os.readlink(f"/proc/self/fd/{descriptor}") == str(here)
    finally:
        os.close(descriptor)


def test_a_volume_mounted_in_itself(afs: RealMount) -> None:
    path = afs.cell / "links"
    for _ in range(6):
        path = path / "mount-self"
    assert (path / "target").read_text() == "the target\n"
    for _ in range(6):
        path = path / "mount-self"
    assert error_of(path) == errno.ELOOP, "a walk over all there is comes to an end"


def test_a_missing_volume_is_listed_and_says_so_when_entered(afs: RealMount) -> None:
    assert "mount-missing" in os.listdir(afs.cell / "links")
    assert error_of(afs.cell / "links/mount-missing") in (errno.ENODEV, errno.ENOENT)
    assert error_of(afs.cell / "links/mount-no-backup") in (errno.ENODEV, errno.ENOENT)


def test_broken_cells_do_not_slow_the_listing_around_them(afs: RealMount) -> None:
    begin = time.monotonic()
    with os.scandir(afs.cell / "links") as entries:
        kinds = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}
    # Waiting for one dead server alone takes many times as long.
    assert time.monotonic() - begin < 5
    assert kinds.keys() == {os.fsdecode(name) for name in seed.links_tree().entries}
    assert all(stat.S_ISDIR(mode) for name, mode in kinds.items() if name.startswith("mount-"))


@pytest.mark.parametrize("visitor", ["crypt"], indirect=True)  # it takes long, and asks no server
def test_entering_a_broken_cell_gives_a_clear_error(afs: RealMount) -> None:
    unreachable = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ENETUNREACH}
    # ENOENT is for a name that DNS has denied; a machine may have no DNS that answers at all.
    expected = dict.fromkeys(("closed", "gone", "dead"), unreachable)
    expected["unknown"] = unreachable | {errno.ENOENT}
    with ThreadPoolExecutor() as pool:
        entered = [
            pool.submit(error_of, afs.cell / f"links/mount-{kind}-cell") for kind in expected
        ]
        for (kind, errors), error in zip(expected.items(), entered, strict=True):
            assert error.result() in errors, kind


def test_cells_that_are_configured_but_dead_are_there_by_name(afs: RealMount) -> None:
    for name in (DEAD_CELL, CLOSED_CELL, GONE_CELL):
        assert stat.S_ISDIR(os.lstat(afs.point / name).st_mode)


def test_symbolic_links(afs: RealMount) -> None:
    links = afs.cell / "links"
    assert (links / "to-link").read_text() == "the target\n"
    assert (links / "long").read_text() == "the target\n"
    assert (links / "sys/here").read_text() == "amd64_linux26\n"
    assert os.readlink(links / "absolute") == "/afs/test.afs/links/target"
    assert not (links / "to-nothing").exists()
    for name in ("to-itself", "loop-a"):
        with pytest.raises(OSError, match="Too many levels"):
            (links / name).stat()


def test_the_system_name(afs: RealMount) -> None:
    assert (afs.cell / "links/@sys/here").read_text() == "amd64_linux26\n"


def test_anonymous_rights(afs: RealMount) -> None:
    rights = afs.cell / "rights"
    assert (rights / "read/file").read_text() == "not for all\n"
    assert os.listdir(rights / "lookup") == ["file"]
    for name in ("lookup", "negative"):
        with pytest.raises(PermissionError):
            (rights / name / "file").read_text()
        assert not os.access(rights / name / "file", os.R_OK)
    assert error_of(rights / "none") == errno.EACCES
    assert not os.access(rights / "none", os.R_OK | os.X_OK)
    assert os.access(rights / "read/file", os.R_OK)


def test_extended_attributes(afs: RealMount) -> None:
    path = afs.cell / "tree/files/size-1"
    assert os.listxattr(path) == [], "or programs that copy files would copy them"
    assert os.getxattr(path, "afs.cell") == b"test.afs"
    assert os.getxattr(path, "afs.volume") == b"tree"
    assert b"-101" in os.getxattr(path, "afs.acl") or b"anyuser" in os.getxattr(path, "afs.acl")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(path, "user.nothing")


def test_the_space_of_a_volume_is_its_quota(afs: RealMount) -> None:
    space = os.statvfs(afs.cell / "quota")
    assert space.f_blocks * space.f_frsize == seed.QUOTA_KIB * 1024
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    assert seed.HALF_OF_QUOTA.length <= used < seed.HALF_OF_QUOTA.length + 64 * 1024
    assert space.f_namemax == 255
    assert os.statvfs(afs.cell / "quota/half.bin").f_blocks == space.f_blocks
    assert os.statvfs(afs.point).f_namemax == 255


def test_names_that_are_too_long(afs: RealMount) -> None:
    with pytest.raises(OSError, match="too long"):
        (afs.cell / ("x" * 256)).stat()
    assert not (afs.cell / ("x" * 255)).exists()


@pytest.mark.parametrize("place", ["replicated", "."])
def test_writing_to_a_copy_is_refused(afs: RealMount, place: str) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (afs.cell / place / "new").write_text("")
    with pytest.raises(OSError, match="Read-only"):
        (afs.cell / place / "new").mkdir()


def test_the_mount_table(afs: RealMount) -> None:
    with open("/proc/mounts") as table:
        (line,) = (line.split() for line in table if line.split()[1] == str(afs.point))
    assert line[0] == "afs"
    assert line[2] == "fuse.afs"
    assert {"rw", "nosuid", "nodev", "allow_other"} <= set(line[3].split(","))
