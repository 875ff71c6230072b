"""What two ordinary users meet in mounts of their own, one of whom has a token; told as JSON.

`python -m tests.interop.asalice SCRATCH CONFDIR KEYTAB`, as root in a mount namespace of its own:
see `tests.mount.asuser`.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
from pathlib import Path

import afsfuse.tools.klog
import afsfuse.tools.tokens  # noqa: F401 (both are for processes that are forked)
from afsfuse.auth.folders import OVERRIDE
from tests.mount.asuser import NOBODY, as_user, command, open_device
from tests.realcell.configuration import CELL

ALICE = pwd.getpwnam("daemon").pw_uid  # fusermount3 wants users that the machine knows


def visit(scratch: Path, uid: int, keytab: Path | None) -> dict[str, object]:
    """What one user is told and shown."""
    point, runtime = scratch / f"mnt-{uid}", scratch / f"run-{uid}"
    for folder in (point, runtime):
        folder.mkdir()
        os.chown(folder, uid, uid)
    os.environ[OVERRIDE] = str(runtime)
    confdir = str(scratch / "conf")
    options = f"confdir={confdir},logfile={runtime}/log,debug"
    told: dict[str, object] = {
        "mount": as_user(command("mount", "afs", str(point), "-o", options), uid)
    }
    if keytab is not None:
        klog = command("klog", "alice", "--keytab", str(keytab), "--confdir", confdir)
        told["klog"] = as_user(klog, uid)
    cell = point / CELL
    told["readme"] = as_user((cell / "README").read_text, uid)
    told["own"] = as_user((cell / "home.alice/note").read_text, uid)
    told["other"] = as_user((cell / "home.bob/note").read_text, uid)
    told["root"] = as_user((cell / "README").read_text, 0)
    told["umount"] = as_user(command("umount", str(point)), uid)
    return told


def main(scratch: Path, confdir: Path, keytab: Path) -> dict[str, object]:
    open_device(scratch)
    shutil.copytree(confdir, scratch / "conf")
    for path in (scratch / "conf", *(scratch / "conf").iterdir()):
        path.chmod(0o755)
    os.environ["KRB5_CONFIG"] = str(scratch / "conf/krb5.conf")
    own = scratch / "keytab"
    shutil.copy(keytab, own)
    os.chown(own, ALICE, ALICE)
    return {"alice": visit(scratch, ALICE, own), "nobody": visit(scratch, NOBODY, None)}


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
