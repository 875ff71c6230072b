"""`afsfuse mount` and `afsfuse umount` on the real cell, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.folders import OVERRIDE
from tests.interop.mounts import RealMount, eventually, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.visitor import Visitor
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

COMMAND = [sys.executable, "-m", "afsfuse"]


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """An empty folder to mount on; whatever is mounted there goes at the end."""
    folder = tmp_path / "mnt"
    folder.mkdir()
    yield folder
    if is_mounted(folder):
        subprocess.run(["umount", "-l", str(folder)], check=False)


def is_mounted(point: Path) -> bool:
    lines = Path("/proc/mounts").read_text().splitlines()
    return any(line.split()[1] == str(point) for line in lines)


def run(cell: RealCell, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command on client1, mounting where everybody sees it."""
    return cell.clients["client1"].run([*COMMAND, *arguments], mounts=False, check=check)


def test_in_the_background_and_away_again(
    real_cell: RealCell, visitor: Visitor, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OVERRIDE, str(visitor.runtime))
    options = ",".join(filter(None, (f"confdir={real_cell.confdir}", visitor.options)))
    run(real_cell, "mount", "afs", str(point), "-o", options)
    assert "README" in os.listdir(point / real_cell.name)
    run(real_cell, "umount", str(point))
    assert not is_mounted(point)


@pytest.mark.parametrize("source", ["#test.afs:tree.", "%test.afs:tree.", "%tree."])
def test_a_single_volume(visitor: Visitor, tmp_path: Path, source: str) -> None:
    with visitor.mounted(tmp_path / "afs", source=source) as mount:
        assert "files" in os.listdir(mount.point)
        with open("/proc/mounts") as table:
            (line,) = (line for line in table if str(mount.point) in line)
        assert line.split()[0].replace("\\043", "#") == source


def test_a_missing_volume_is_an_error_of_mounting(real_cell: RealCell, point: Path) -> None:
    options = f"confdir={real_cell.confdir}"
    done = run(
        real_cell, "mount", "#test.afs:no.such.volume.", str(point), "-o", options, check=False
    )
    assert done.returncode not in (0, 1)
    assert "no.such.volume" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not is_mounted(point)


def test_a_port_that_is_taken(real_cell: RealCell, tmp_path: Path, point: Path) -> None:
    with mounted(real_cell, "client1", tmp_path / "afs", options="port=7321"):
        options = f"confdir={real_cell.confdir},port=7321"
        done = run(real_cell, "mount", "afs", str(point), "-o", options, check=False)
    assert done.returncode != 0
    assert "7321" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_killed_daemon_is_cleared_away(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path
) -> None:
    point = tmp_path / "afs"
    point.mkdir()
    client1 = real_cell.clients["client1"]
    first = RealMount(real_cell, client1, "afs", point, visitor.options, visitor.runtime)
    try:
        first.wait_until_mounted()
        first.daemon.kill()
        first.daemon.wait()
        with visitor.mounted(point) as second:
            assert "README" in os.listdir(second.cell)
    finally:
        first.clear()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path, number: signal.Signals
) -> None:
    with visitor.mounted(tmp_path / "afs") as mount:
        os.listdir(mount.cell)
        mount.daemon.send_signal(number)
        assert mount.daemon.wait(20) == 0
        assert not is_mounted(mount.point)
        # For the checks at the end of `mounted`: a fresh one in the old one's place.
        again = type(mount)(real_cell, real_cell.clients["client1"], "afs", mount.point, "")
        again.wait_until_mounted()
        mount.daemon = again.daemon


@pytest.fixture
def nobodys_folder(real_cell: RealCell) -> Iterator[Path]:
    """A mount point of an ordinary user, who may also read the configuration."""
    user = pwd.getpwnam("nobody")
    point = Path("/tmp") / f"afsfuse-user-{os.getpid()}"
    point.mkdir(mode=0o755)
    os.chown(point, user.pw_uid, user.pw_gid)
    # Debian's udev lets everybody use /dev/fuse; a machine without udev may not.
    opened = {real_cell.folder: 0o755, Path("/dev/fuse"): 0o666}
    modes = {path: path.stat().st_mode for path in opened}
    for path, mode in opened.items():
        path.chmod(mode)
    yield point
    for path, mode in modes.items():
        path.chmod(mode)
    if is_mounted(point):
        subprocess.run(["umount", "-l", str(point)], check=False)
    point.rmdir()


def test_an_ordinary_user(real_cell: RealCell, nobodys_folder: Path, tmp_path: Path) -> None:
    user, point = pwd.getpwnam("nobody"), nobodys_folder
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    mount = [*COMMAND, "mount", "afs", str(point), "-f", "-o", f"confdir={real_cell.confdir}"]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        daemon = real_cell.clients["client1"].popen([*become, *mount], mounts=False, stderr=stderr)
    assert eventually(lambda: is_mounted(point) or daemon.poll() is not None, 20)
    assert daemon.poll() is None, log.read_text()
    listing = ["ls", str(point / real_cell.name)]
    seen = subprocess.run([*become, *listing], capture_output=True, text=True, check=True)
    assert "README" in seen.stdout
    # Not even root sees what an ordinary user has mounted without allow_other.
    assert subprocess.run(listing, capture_output=True, check=False).returncode != 0
    daemon.terminate()
    assert daemon.wait(20) == 0
    assert not is_mounted(point)
