"""An ordinary user mounts through fusermount3."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.harness import ROOT

if TYPE_CHECKING:
    from tests.mount.harness import Children

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("unshare") is None,
        reason="needs root to make a mount namespace in which everybody may use /dev/fuse",
    ),
]

CELLS = [".@cell", ".example.org", "@cell", "example.org"]


def story(module: str, scratch: Path, children: Children, *apart: str) -> dict[str, Any]:
    """What a module tells that is run in a mount namespace of its own, and others (`apart`)."""
    done = children.run(
        "unshare",
        "--mount",
        *apart,
        sys.executable,
        "-m",
        f"tests.mount.{module}",
        scratch,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_an_ordinary_users_trees(children: Children) -> None:
    """His daemon sees less than root's: what it cannot look into keeps all, if it began later."""
    alone = ("--pid", "--fork", "--kill-child", "--mount-proc")  # on the machine are others of him
    told = story("usertrees", Path("/mnt"), children, *alone)
    assert told["entered"] == 2
    assert told["shell"] == ["working directory", "process that cannot be looked into"]
    assert told["closed"] == ["process that cannot be looked into"]
    assert told["paths"] == ["001", "002"]
    assert told["umount"] == 0


def test_an_ordinary_user_mounts_and_unmounts(tmp_path: Path, children: Children) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):  # pytest makes them for root alone
        folder.chmod(0o755)
    scratch = tmp_path.resolve() / "scratch"
    scratch.mkdir()
    told = story("asuser", scratch, children)
    assert told["mount"] == [0, ""]
    kind, source, options = told["shown"]
    assert (kind, source) == ("fuse.afs", "afs")
    assert "user_id=65534" in options
    assert "allow_other" not in options
    assert told["list"] == CELLS
    assert told["root"] == "PermissionError", "others, even root, are kept out"
    assert {"rw", "nosuid", "nodev"} <= set(told["flags"])
    assert set(told["insides"].values()) == {"PermissionError"}, "as the user who mounted it"
    assert told["core"] == ["0", "0"]
    others = told["another's"]
    assert others["environ"] == others["fd"] == "done", "what nobody closed is open"
    assert told["umount"] == [0, ""]
    assert told["gone"], "umount waits for the daemon"

    status, said = told["allow_other"]
    assert status == 1
    assert "user_allow_other into /etc/fuse.conf" in said
    status, said = told["foreign"]
    assert (status, said.count("\n")) == (1, 1)
    assert "choose a directory of your own" in said

    assert told["again"] == [0, ""]
    assert told["cleared"] == [0, ""], "a dead mount is removed by its user, too"
    assert told["list again"] == CELLS
    assert told["end"] == [0, ""]
    status, said = told["demo"]
    assert said == "", "a whole cell, without root"
    assert status == 0

    status, said = told["no device"]
    assert status == 2
    assert said.startswith("afsfuse: /dev/fuse: Permission denied: ")
