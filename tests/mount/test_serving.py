"""What a mount shows, and how seldom it has to ask for it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import mount
from tests.mount.harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mount.harness import Children, ToyMount

pytestmark = pytest.mark.mount


def kernel_options(toy: ToyMount) -> set[str]:
    """The options of a mount in /proc/mounts."""
    with open("/proc/mounts", encoding="utf-8") as table:
        line = next(line for line in table if line.split()[1] == str(toy.path))
    return set(line.split()[3].split(","))


def test_the_mount_table_shows_type_source_and_safe_options(toys: Callable[..., ToyMount]) -> None:
    toy = toys(options={"source": "#example.org:root.cell.", "flags": ("noexec",)})
    shown = mount.find_mount(str(toy.path))
    assert shown is not None
    assert (shown.type, shown.source) == ("fuse.afs", "#example.org:root.cell.")
    assert {"ro", "nosuid", "nodev", "noexec"} <= kernel_options(toy)
    assert not {"default_permissions", "allow_other"} & kernel_options(toy)


def test_the_subtype_can_be_left_out_and_others_let_in(toys: Callable[..., ToyMount]) -> None:
    toy = toys(options={"subtype": False, "allow_other": True})
    shown = mount.find_mount(str(toy.path))
    assert shown is not None
    assert shown.type == "fuse"
    assert "allow_other" in kernel_options(toy)


def test_files_directories_and_links(toy: ToyMount) -> None:
    toy.order("add", "file", b"x" * 300_000)
    toy.order("add_directory", "dir", 700)
    toy.order("add", "link", b"", b"dir/5")
    assert (toy / "file").read_bytes() == b"x" * 300_000
    assert (toy / "link").read_bytes() == b"5\n"
    assert sorted(os.listdir(toy / "dir"), key=int) == [str(n) for n in range(700)]
    status = (toy / "file").stat()
    assert (status.st_size, status.st_blocks, status.st_mtime) == (300_000, 586, 1_700_000_000)
    with pytest.raises(OSError, match="Read-only"):
        (toy / "file").write_bytes(b"")


def test_a_listing_brings_attributes_and_lookups_along(toy: ToyMount) -> None:
    toy.order("add_directory", "dir", 500)
    with os.scandir(toy / "dir") as entries:
        sizes = [entry.stat().st_size for entry in entries]
    assert len(sizes) == 500
    calls = toy.state()["calls"]
    assert calls["lookup"] == 1  # of the directory itself
    assert calls.get("getattr", 0) <= 2
    assert calls["readdir"] <= 6


def test_absent_names_are_remembered(toy: ToyMount) -> None:
    for _ in range(5):
        assert not (toy / "absent").exists()
    assert toy.state()["calls"]["lookup"] == 1


def test_long_names_are_refused(toy: ToyMount) -> None:
    assert os.statvfs(toy.path).f_namemax == 255
    assert not (toy / ("n" * 255)).exists()
    with pytest.raises(OSError, match="too long") as caught:
        os.stat(toy / ("n" * 256))
    assert caught.value.errno == errno.ENAMETOOLONG


def test_statfs_is_asked_for_the_node_it_is_about(toy: ToyMount) -> None:
    toy.order("add_directory", "dir")
    inode = toy.order("add", "dir/file", b"")
    space = os.statvfs(toy / "dir" / "file")
    assert toy.state()["asked"] == [inode]
    assert (space.f_frsize, space.f_blocks, space.f_bavail) == (1024, 5000, 1234)
    descriptor = os.open(toy / "dir", os.O_RDONLY)
    os.fstatvfs(descriptor)
    os.close(descriptor)
    assert toy.state()["asked"][-1] == (toy / "dir").stat().st_ino


def test_extended_attributes(toy: ToyMount) -> None:
    toy.order("add", "file", b"")
    assert os.listxattr(toy / "file") == ["afs.cell", "afs.fid"]
    assert os.getxattr(toy / "file", "afs.cell") == b"example.org"
    with pytest.raises(OSError, match="No data"):
        os.getxattr(toy / "file", "user.other")
    asked = toy.state()["calls"]["getxattr"]
    for name in ("security.capability", "system.posix_acl_access"):  # of which nothing ever is
        with pytest.raises(OSError, match=r"No data|not supported"):
            os.getxattr(toy / "file", name)
    assert toy.state()["calls"]["getxattr"] == asked
    assert int(os.getxattr(toy.path, "afsfuse.pid")) == toy.process.pid


def test_access_asks_for_the_truth(toy: ToyMount) -> None:
    toy.order("add", "file", b"")
    assert os.access(toy / "file", os.R_OK)
    assert os.access(toy / "file", os.R_OK)
    assert toy.state()["calls"]["access"] == 2
    toy.order("behave", "file", "access", "EACCES")
    assert not os.access(toy / "file", os.R_OK)


def test_everything_opened_is_released_and_everything_looked_up_forgotten(
    toy: ToyMount, children: Children
) -> None:
    toy.order("add_directory", "dir", 50)
    children.run("sh", "-c", f"cat {toy / 'dir'}/* && ls -l {toy / 'dir'}")
    wait_until(lambda: toy.state()["handles"] == 0, "all is released")
    assert len(toy.state()["lookups"]) == 51
    # This mount alone: the kernel drops unused names of a file system that it is asked to change.
    assert children.run("mount", "-i", "-o", "remount", toy.path).returncode == 0
    assert len(toy.state()["lookups"]) < 51


def test_closing_costs_one_request(toy: ToyMount) -> None:
    toy.order("add", "file", b"content")
    for _ in range(10):
        assert (toy / "file").read_bytes() == b"content"
    wait_until(lambda: toy.state()["calls"].get("release") == 10, "the kernel releases later")
    calls = toy.state()["calls"]
    assert calls["read"] <= 2  # the pages are kept from one open to the next
    assert calls["open"] == 10


def test_small_writes_cost_one_request_each(toys: Callable[..., ToyMount]) -> None:
    toy = toys(options={"read_only": False})
    toy.order("add", "file", b"content")
    with (toy / "file").open("r+b", buffering=0) as file:
        for _ in range(20):
            file.write(b"x")
    calls = toy.state()["calls"]
    assert calls["write"] == 20
    assert "getxattr" not in calls, "for capabilities, of which there are none"
