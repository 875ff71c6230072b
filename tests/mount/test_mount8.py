"""mount(8), umount(8), findmnt(8) and an fstab, as people use them; no cell is needed.

mount(8) finds its helpers in /sbin only. So all of it happens in a mount namespace with a /sbin of
its own, which a sleeping process holds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import blocks
from tests.mount.harness import ROOT, environment, state_of
from tests.mount.usersmount import beside
from tests.mount.writesd import CELL
from tests.mount.writing import WritableMount

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a /sbin of its own"),
]

PROGRAMS = Path(sys.executable).parent
SETUP = """
set -e
mount --make-rprivate /
mkdir "$1/sbin"
mount --bind /usr/sbin "$1/sbin"
mount -t tmpfs none /usr/sbin
ln -s "$1"/sbin/* /usr/sbin/
# Users get what they have elsewhere: /dev/fuse, and a way to this Python.
mkdir "$1/dev"
mount -t tmpfs none "$1/dev"
mknod -m 666 "$1/dev/fuse" c 10 229
mount --bind "$1/dev/fuse" /dev/fuse
case "$3" in /root/*)
    mkdir "$1/python"
    mount --bind "$3" "$1/python"
    mount -t tmpfs -o mode=755 none /root
    mkdir -p "$3"
    mount --bind "$1/python" "$3"
esac
ln -sf "$2/mount.fuse.afs" "$2/umount.fuse.afs" /usr/sbin/
echo ready
exec sleep 600
"""


class Machine:
    """A mount namespace in which our helpers are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "conf"
        self.conf.mkdir()
        (self.conf / "ThisCell").write_text("example.org\n")
        (self.conf / "CellServDB").write_text(">example.org\n192.0.2.1 #db\n")
        (folder / "afs").mkdir()
        self.directory = folder / "mnt"
        self.directory.mkdir()
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", SETUP, "bash", folder, PROGRAMS, sys.base_prefix],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n"

    @property
    def option(self) -> str:
        return f"confdir={self.conf}"

    def __call__(self, *words: str | Path, status: int = 0) -> str:
        """Run a command there; -> what it says."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.holder.pid), "--mount", f"--wdns={self.folder}", *words],
            env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, (words, done)
        return done.stdout + done.stderr

    def shown(self, directory: Path | None = None) -> str:
        """Source, type and options of a mount, by findmnt; empty if there is none."""
        words = ["findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", directory or self.directory]
        return " ".join(self("sh", "-c", f"{' '.join(map(str, words))} || true").split())

    def end(self) -> None:
        assert self.holder.stdout is not None
        self.holder.terminate()
        self.holder.wait(30)
        self.holder.stdout.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no mount namespace can be made")
    with tempfile.TemporaryDirectory(prefix="afsfuse-mount8-") as folder:
        os.chmod(folder, 0o755)
        machine = Machine(Path(folder).resolve())
        yield machine
        machine.end()


@pytest.fixture
def clean(machine: Machine) -> Iterator[Machine]:
    yield machine
    while machine.shown():
        machine("umount", "-l", machine.directory)


ALWAYS = "nosuid,nodev"
NOBODY = 65534  # mount(8) wants the user to have a name


def test_mount_shown_used_unmounted(clean: Machine) -> None:
    """A directory named afs stands where mount(8) is called: it makes a path of the source.

    umount(8) asks our helper, which waits for the daemon, but not when root gives an absolute path:
    it knows the type `fuse` only then, by statfs(2).
    """
    assert clean("mount", "-t", "fuse.afs", "afs", clean.directory, "-o", clean.option) == ""
    shown = clean.shown()
    assert shown.startswith(f"afs fuse.afs rw,{ALWAYS},relatime,")
    assert "allow_other" in shown
    assert "example.org" in clean("ls", clean.directory)
    pid = int(clean("getfattr", "--only-values", "-n", "afsfuse.pid", "mnt"))
    assert clean("umount", "mnt") == ""
    assert clean.shown() == ""
    assert state_of(pid) in ("", "Z")


def test_generic_options_and_ours(clean: Machine) -> None:
    options = f"noatime,noexec,sync,crypt=auth,_netdev,noauto,x-systemd.automount,{clean.option}"
    said = clean("mount", "-v", "-r", "-n", "-t", "fuse.afs", "afs", clean.directory, "-o", options)
    assert said == f"mount.fuse.afs: afs mounted on {clean.directory}\n"
    assert clean.shown().startswith(f"afs fuse.afs ro,{ALWAYS},noexec,noatime,sync")
    said = clean("mount", "-o", "remount,rw", clean.directory, status=1)
    assert said == (
        "afsfuse: -o remount: a mount cannot be changed: unmount it and mount it anew\n"
    )


def test_unknown_options_are_refused_unless_sloppy(clean: Machine) -> None:
    words: list[str | Path] = [
        "-t",
        "fuse.afs",
        "afs",
        clean.directory,
        "-o",
        f"prot=1,{clean.option}",
    ]
    said = clean("mount", *words, status=1)
    assert said == "afsfuse: -o prot: unknown option: did you mean port?\n"
    assert clean("mount", "-s", *words) == ""
    assert clean.shown().startswith("afs fuse.afs")


def test_a_fake_mount(clean: Machine) -> None:
    said = clean("mount", "-fv", "-t", "fuse.afs", "afs", clean.directory, "-o", clean.option)
    assert "would be mounted" in said
    assert clean.shown() == ""


def test_failures_have_statuses(clean: Machine) -> None:
    words: list[str | Path] = ["mount", "-t", "fuse.afs", "-o", clean.option]
    said = clean(*words, "afs", clean.folder / "nowhere", status=32)
    assert said.endswith("nowhere: no such directory: create it with mkdir -p\n")
    said = clean(*words, "#no_such:root.cell.", clean.directory, status=32)
    assert "no_such" in said
    assert "afsfuse: example.org: for this cell write afs" in clean(
        *words, "example.org", clean.directory, status=1
    )


def test_fstab(clean: Machine) -> None:
    other = clean.folder / "other"
    other.mkdir()
    table = clean.folder / "fstab"
    table.write_text(
        f"afs {clean.directory} fuse.afs _netdev,noauto,x-systemd.automount,"
        f"x-systemd.idle-timeout=60,{clean.option} 0 0\n"
        f"afs {other} fuse.afs _netdev,nofail,user,crypt=auth,{clean.option} 0 0\n"
    )
    clean("mount", "-a", "-T", table)
    assert clean.shown() == "", "noauto"
    assert clean.shown(other).startswith("afs fuse.afs rw,")
    clean("mount", "-T", table, clean.directory)
    assert clean.shown().startswith("afs fuse.afs rw,")
    clean("umount", clean.directory, other)
    assert clean.shown() == clean.shown(other) == ""


@pytest.mark.skipif(
    "autofs" not in Path("/proc/filesystems").read_text(), reason="the kernel has no autofs"
)
def test_on_demand(clean: Machine) -> None:
    """By `x-systemd.automount`: whoever comes waits in the kernel until it is mounted, and so would
    our daemon if it were not of the process group of him who mounts.
    """
    told = json.loads(
        clean(sys.executable, "-m", "tests.mount.autofs", clean.directory, clean.option)
    )
    assert told["mount"] == [0, ""]
    assert "example.org" in told["seen"]
    status, said = told["again"]
    assert (status, "busy: afs (type fuse.afs) is mounted there" in said) == (32, True)
    assert told["umount"] == [0, ""]


def test_the_commands_and_the_fstab_of_the_guide(clean: Machine) -> None:
    """With directories of our own, and what needs no server in place of a volume."""
    name = "test_the_commands_and_the_fstab_of_the_guide"
    guide = list(blocks(ROOT / "docs" / "installing.md"))
    (script,) = (block.text for block in guide if block.words.endswith(f"::{name}"))
    (table,) = (block.text for block in guide if "fuse.afs  _netdev" in block.text)
    other = clean.folder / "guide"
    other.mkdir()
    places = {"/afs": clean.directory, "/mnt": other, "'#example.org:project.'": "afs"}
    for word, here in places.items():
        script = re.sub(rf"(?<= ){re.escape(word)}(?=\s|$)", str(here), script)
        table = table.replace(f" {word} ", f" {here} ")
    toml = clean.folder / "afsfuse.toml"
    toml.write_text(f'confdir = "{clean.conf}"\n')
    own = ["env", f"AFSFUSE_CONFIG={toml}"]
    said = clean(*own, "sh", "-ec", script)
    assert re.search(rf"^{clean.directory} +afs +fuse.afs rw", said, re.M)
    assert re.search(rf"^{other} +afs +fuse.afs ro", said, re.M)
    assert clean.shown() == clean.shown(other) == ""
    (clean.folder / "table").write_text(f"{table}\n")
    clean(*own, "mount", "-T", clean.folder / "table", clean.directory)
    assert clean.shown().startswith("afs fuse.afs rw")


def test_one_volume_of_a_cell_that_is_there(clean: Machine, tmp_path: Path) -> None:
    cell = WritableMount(tmp_path.resolve())
    try:
        conf = tmp_path.resolve() / "conf"
        address = (conf / "CellServDB").read_text().split()[1]
        options = f"ro,crypt=auth,confdir={conf},bind={beside(address, 253)}"
        source = f"#{CELL}:root.cell."
        clean("mount", "-t", "fuse.afs", source, clean.directory, "-o", options)
        assert clean.shown().startswith(f"{source} fuse.afs ro,")
        assert "full" in clean("ls", clean.directory)
        assert "Read-only file system" in clean("touch", "mnt/new", status=1)
        clean("umount", clean.directory)
    finally:
        cell.end()


def test_an_ordinary_user_by_an_fstab_line_with_user(clean: Machine) -> None:
    """mount(8) has the helper run as the user, who mounts by fusermount3."""
    own = clean.folder / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    table = clean.folder / "users"
    table.write_text(f"afs {own} fuse.afs noauto,user,cell=example.org 0 0\n")
    who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    if clean(*who, "sh", "-c", "mount.fuse.afs --help >&2 || echo no").endswith("no\n"):
        pytest.skip("ordinary users have no way to this Python")
    clean("mount", "--bind", table, "/etc/fstab")
    environment = ["env", f"AFSFUSE_RUNTIME_DIR={own}-run", "HOME=/nonexistent"]
    (clean.folder / "own-run").mkdir()
    os.chown(clean.folder / "own-run", NOBODY, NOBODY)
    clean(*who, *environment, "mount", own)
    assert f"afs fuse.afs rw,{ALWAYS},noexec,relatime,user_id={NOBODY}" in clean.shown(own)
    assert "example.org" in clean(*who, "ls", own)
    clean(*who, *environment, "umount", own)
    assert clean.shown(own) == ""
    clean("umount", "/etc/fstab")


def test_another_mount_namespace(clean: Machine) -> None:
    """`-N` comes to the helper, which enters it."""
    words = ["-N", str(clean.holder.pid)]
    outside = [*words, "-t", "fuse.afs", "afs", str(clean.directory), "-o", clean.option]
    # mount(8) of the tests' own namespace has no helper of ours: it is called as mount(8) would.
    script = f"unshare --mount mount {' '.join(outside)}"
    clean("sh", "-c", script)
    assert clean.shown().startswith("afs fuse.afs")
    clean("umount", *words, clean.directory)
    assert clean.shown() == ""
