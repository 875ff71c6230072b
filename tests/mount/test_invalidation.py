"""What the kernel is told to forget, it forgets; and telling it never stops the mount."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import wait_until

if TYPE_CHECKING:
    from tests.mount.harness import Children, ToyMount

pytestmark = pytest.mark.mount


def test_pages_stay_until_they_are_invalidated(toy: ToyMount) -> None:
    toy.order("add", "file", b"old" * 10_000)
    path = toy / "file"
    with path.open("rb", buffering=0) as file:
        assert file.read(6) == b"oldold"
        toy.order("change", "file", b"new" * 10_000)
        file.seek(0)
        assert file.read(6) == b"oldold"  # same size and time: nothing tells the kernel
        toy.order("invalidate_data", "file")
        assert toy.order("settle", 10)
        file.seek(0)
        assert file.read(6) == b"newnew"


def test_a_new_version_is_not_read_from_old_pages_after_open(toy: ToyMount) -> None:
    toy.order("add", "file", b"old")
    assert (toy / "file").read_bytes() == b"old"
    toy.order("change", "file", b"new")
    assert (toy / "file").read_bytes() == b"new"  # keep_cache is not set for another version
    assert (toy / "file").read_bytes() == b"new"
    assert toy.state()["calls"]["read"] <= 3


def test_attributes_stay_until_they_are_invalidated(toy: ToyMount) -> None:
    toy.order("add", "file", b"1")
    assert (toy / "file").stat().st_size == 1
    toy.order("change", "file", b"22")
    assert (toy / "file").stat().st_size == 1
    toy.order("invalidate_attributes", "file")
    assert toy.order("settle", 10)
    assert (toy / "file").stat().st_size == 2


def test_names_stay_until_they_are_invalidated(toy: ToyMount) -> None:
    toy.order("add_directory", "dir", 2)
    assert not (toy / "dir" / "new").exists()
    assert (toy / "dir" / "0").exists()
    toy.order("add", "dir/new", b"")
    toy.order("remove", "dir/0")
    assert not (toy / "dir" / "new").exists()
    assert (toy / "dir" / "0").exists()
    for name in (b"new", b"0", b"never seen"):
        toy.order("invalidate_name", "dir", name)
    assert toy.order("settle", 10)
    assert (toy / "dir" / "new").exists()
    assert not (toy / "dir" / "0").exists()


def test_invalidating_a_page_that_is_being_read_stops_nothing(
    toy: ToyMount, children: Children
) -> None:
    """From the event loop's thread this would be a deadlock that not even SIGKILL ends."""
    toy.order("add", "file", b"a" * 500_000)
    toy.order("add", "other", b"old")
    assert (toy / "other").read_bytes() == b"old"
    toy.order("behave", "file", "read", "hang")
    reader = children.start("cat", toy / "file")
    wait_until(lambda: toy.state()["waiting"], "the read")

    toy.order("invalidate_data", "file")
    assert not toy.order("settle", 0.5)
    assert children.run("stat", toy / "file").returncode == 0
    toy.order("change", "other", b"new")
    toy.order("invalidate_data", "other")
    toy.order("invalidate_attributes", "other")
    wait_until(
        lambda: children.run("cat", toy / "other").stdout == b"new", "another file's invalidation"
    )

    toy.order("let_go", "file")
    out, _ = reader.communicate(timeout=30)
    assert len(out) == 500_000
    assert toy.order("settle", 10)
    wait_until(lambda: toy.connection("waiting") == 0, "nothing waits")


def test_invalidating_a_name_that_is_being_looked_up_stops_nothing(
    toy: ToyMount, children: Children
) -> None:
    toy.order("add_directory", "dir", 2)
    assert (toy / "dir" / "0").exists()
    toy.order("behave", "dir", "lookup", "hang")
    looker = children.start("stat", toy / "dir" / "new")
    wait_until(lambda: toy.state()["waiting"], "the lookup")
    toy.order("invalidate_name", "dir", b"0")
    toy.order("invalidate_name", "dir", b"new")
    assert children.run("stat", toy.path).returncode == 0
    toy.order("let_go", "dir")
    assert looker.wait(30) == 1
    assert toy.order("settle", 10)
    wait_until(lambda: toy.connection("waiting") == 0, "nothing waits")


def test_many_invalidations_at_once(toy: ToyMount) -> None:
    toy.order("add_directory", "dir", 2000)
    assert len(os.listdir(toy / "dir")) == 2000
    for number in range(2000):
        toy.order("invalidate_attributes", f"dir/{number}")
    assert toy.order("settle", 30)
    before = toy.state()["calls"].get("getattr", 0)
    for number in range(2000):
        os.stat(toy / "dir" / str(number))
    assert toy.state()["calls"]["getattr"] - before == 2000


def test_the_end_comes_also_with_a_stuck_invalidation(toy: ToyMount, children: Children) -> None:
    toy.order("add", "file", b"a" * 500_000)
    toy.order("behave", "file", "read", "hang")
    reader = children.start("cat", toy / "file")
    wait_until(lambda: toy.state()["calls"].get("read"), "the read")
    toy.order("invalidate_data", "file")
    assert not toy.order("settle", 0.2)
    toy.process.send_signal(signal.SIGTERM)
    assert toy.process.wait(30) == 0
    assert reader.wait(30) != 0
    assert not toy.mounted
