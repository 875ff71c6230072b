"""Access lists as programs set them: what one user takes away, the others have no more."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import wait_until
from tests.mount.usersmount import ALICE, BOB, CELL, OTHER, SUPERUSER
from tests.mount.userworker import LOOKING, READING, SHARED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.usersmount import UsersMount

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users"),
]

OWN = {"alice": "rlidwka"}


@pytest.fixture
def mount(mounts: dict[str, UsersMount]) -> UsersMount:
    return mounts["strict"]


def test_what_one_user_takes_away_is_gone_for_the_others(mount: UsersMount) -> None:
    """Be it that they had just seen it, and the kernel with them."""
    for operation in LOOKING + READING:
        mount.make(operation, OWN)
        assert mount.does(OTHER, operation, operation) == "EACCES"
        assert mount.does(ALICE, "share", operation) == "ok"
        for uid in (OTHER, BOB, SUPERUSER, ALICE):
            assert mount.does(uid, operation, operation) == "ok", uid
        assert mount.does(BOB, "writable", operation) == "ok"
        assert mount.does(OTHER, "writable", operation) == "EACCES"
        assert mount.does(ALICE, "close", operation) == "ok"
        for uid in (OTHER, BOB, SUPERUSER):
            # The kernel forgets what was public as soon as it has let the change go.
            wait_until(
                lambda uid=uid, done=operation: mount.does(uid, done, done) == "EACCES",  # type: ignore[misc]
                f"{uid} is refused",
            )
            assert mount.does(uid, "writable", operation) == "EACCES"
            assert mount.does(uid, "share", operation) == "EACCES"
        assert mount.does(ALICE, operation, operation) == "ok"


def test_private_rights_are_gone_at_once(mount: UsersMount) -> None:
    """Of what only some may see the kernel keeps nothing, so there is nothing to wait for."""
    for operation in LOOKING + READING:
        mount.make(operation, {"alice": "rlidwka", "bob": "rl"})
        assert mount.does(BOB, operation, operation) == "ok"
        assert mount.does(ALICE, "close", operation) == "ok"
        assert mount.does(BOB, operation, operation) == "EACCES"


def test_what_cannot_be_set(mount: UsersMount) -> None:
    mount.make("list", OWN)
    for action, said in (
        ("make_acl", "EEXIST"), ("remove_acl", "EPERM"), ("set_file_acl", "ENOTDIR"),
        ("set_other", "ENOTSUP"), ("set_stacktrace", "ENOTSUP"),
    ):  # fmt: skip
        assert mount.does(ALICE, action, "list") == said, action
    assert mount.does(ALICE, "list", "list") == "ok"


@pytest.mark.skipif(shutil.which("getfattr") is None, reason="needs getfattr (package attr)")
def test_what_getfattr_says_setfattr_takes(mount: UsersMount, tmp_path: Path) -> None:
    mount.make("list", OWN)
    assert mount.does(ALICE, "share", "list") == "ok"
    path = f"{mount.point.name}/{CELL}/list"
    dumped = as_alice(tmp_path, "getfattr", "-n", "afs.acl", path)
    assert mount.does(ALICE, "close", "list") == "ok"
    assert mount.does(BOB, "read", "list") == "EACCES"
    as_alice(tmp_path, "setfattr", "--restore=-", input=dumped)
    assert mount.does(BOB, "read", "list") == "ok"
    assert as_alice(tmp_path, "getfattr", "-n", "afs.acl", path) == dumped
    text = as_alice(tmp_path, "getfattr", "--only-values", "-n", "afs.acl", path)
    assert text == b"3\n0\nsystem:anyuser\t9\nalice\t127\nbob\t63\n", SHARED


def as_alice(folder: Path, *command: str, input: bytes = b"") -> bytes:
    """What a program of hers prints; paths are relative to a folder, above which she is nobody."""
    done = subprocess.run(
        command, cwd=folder, input=input, capture_output=True, check=False,
        user=ALICE, group=ALICE, extra_groups=[],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
