"""A bug in a handler costs its request, never the mount."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mount.harness import ToyMount

pytestmark = pytest.mark.mount


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read()


ACTIONS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    # operation: the node whose handler fails, what is asked for, and how
    "lookup": ("dir", "dir/new", os.stat),
    "getattr": ("dir", "dir", os.stat),
    "readlink": ("link", "link", os.readlink),
    "open": ("file", "file", read),
    "read": ("file", "file", read),
    "opendir": ("dir", "dir", os.listdir),
    "readdir": ("dir", "dir", os.listdir),
    "statfs": ("dir", "dir", os.statvfs),
    "access": ("dir", "dir", os.chdir),
    "getxattr": ("file", "file", lambda path: os.getxattr(path, "afs.cell")),
    "listxattr": ("file", "file", os.listxattr),
}


@pytest.fixture
def furnished(toy: ToyMount) -> ToyMount:
    toy.order("add_directory", "dir", 3)
    toy.order("add", "file", b"content")
    toy.order("add", "link", b"", b"file")
    for name in ("dir", "file", "link"):  # so that only the action itself asks
        os.lstat(toy / name)
    return toy


@pytest.mark.parametrize("operation", ACTIONS)
def test_a_bug_is_an_eio_with_a_traceback(
    furnished: ToyMount, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")  # where one of the actions goes away from
    node, path, action = ACTIONS[operation]
    furnished.order("behave", node, operation, "bug")
    if operation == "getattr":
        furnished.order("invalidate_attributes", node)
        assert furnished.order("settle", 10)
    with pytest.raises(OSError, match="Input/output error") as caught:
        action(str(furnished / path))
    assert caught.value.errno == errno.EIO
    log = furnished.log()
    assert f"{operation} failed: a bug" in log
    assert re.search(r"Traceback.*KeyError: 'bug in " + operation, log, re.DOTALL)
    assert (furnished / "dir" / "1").read_bytes() == b"1\n" if node != "dir" else True
    furnished.order("behave", node, operation, None)
    action(str(furnished / "dir" if operation == "lookup" else furnished / path))
    assert furnished.process.poll() is None


def test_a_bug_in_release_is_only_logged(furnished: ToyMount) -> None:
    furnished.order("behave", "file", "release", "bug")
    assert (furnished / "file").read_bytes() == b"content"
    wait_until(lambda: "release failed: a bug" in furnished.log(), "the traceback")
    assert (furnished / "file").read_bytes() == b"content"


def test_a_known_error_is_its_errno_without_a_traceback(furnished: ToyMount) -> None:
    furnished.order("behave", "file", "open", "EHOSTUNREACH")
    with pytest.raises(OSError, match="No route to host"):
        (furnished / "file").read_bytes()
    assert "Traceback" not in furnished.log()
