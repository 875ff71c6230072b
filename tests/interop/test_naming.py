"""This mount and OpenAFS's client make and remove names; each sees what the other did."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, eventually, mounted
from tests.mount.harness import wait_until
from tests.realcell.configuration import USER_IDS
from tests.tools.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.desk import Desk
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SOON = 1.0


@pytest.fixture(scope="module")
def peer(real_cell: RealCell) -> Iterator[Path]:
    """The volume scratch as afsd.fuse mounts it."""
    with Peer(real_cell, "client2") as peer:
        yield peer.mount_point / f".{real_cell.name}/scratch"


@pytest.fixture
def place(afs: RealMount, request: pytest.FixtureRequest) -> str:
    """A directory of the test's own in the volume scratch, made by our mount."""
    name = str(request.node.name)
    (afs.writable / "scratch" / name).mkdir()
    return name


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def touch(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o644))


def test_the_peer_sees_what_we_change(afs: RealMount, peer: Path, place: str) -> None:
    ours, theirs = afs.writable / "scratch" / place, peer / place
    seen: set[str] = set()

    def agreed() -> None:
        nonlocal seen
        seen = names(ours)
        assert eventually(lambda: names(theirs) == seen, SOON), (seen, names(theirs))

    agreed()
    for number in range(3):
        touch(ours / f"file-{number}")
        agreed()
    (ours / "folder").mkdir()
    agreed()
    (ours / "link").symlink_to("file-0")
    agreed()
    assert os.readlink(theirs / "link") == "file-0"
    os.link(ours / "file-0", ours / "second")
    agreed()
    assert eventually(lambda: (theirs / "file-0").stat().st_nlink == 2, SOON)
    (ours / "file-1").rename(ours / "folder/moved")
    agreed()
    assert eventually(lambda: names(theirs / "folder") == {"moved"}, SOON)
    (ours / "file-2").rename(ours / "second")
    agreed()
    assert eventually(lambda: (theirs / "file-0").stat().st_nlink == 1, SOON)
    (ours / "folder/moved").unlink()
    (ours / "folder").rmdir()
    agreed()
    assert seen == {"file-0", "link", "second"}


def test_we_see_what_the_peer_changes(afs: RealMount, peer: Path, place: str) -> None:
    ours, theirs = afs.writable / "scratch" / place, peer / place
    assert eventually(theirs.exists, SOON)

    def agreed(expected: set[str]) -> None:
        assert eventually(lambda: names(ours) == expected, SOON), names(ours)
        for name in expected:
            assert os.path.lexists(ours / name)

    assert not (ours / "file").exists()
    touch(theirs / "file")
    agreed({"file"})
    (theirs / "folder").mkdir()
    agreed({"file", "folder"})
    touch(ours / "folder/ours")
    (theirs / "file").rename(theirs / "folder/file")
    agreed({"folder"})
    assert eventually(lambda: names(ours / "folder") == {"file", "ours"}, SOON)
    (theirs / "folder/file").unlink()
    assert eventually(lambda: names(ours / "folder") == {"ours"}, SOON)
    assert eventually(lambda: not (ours / "folder/file").exists(), SOON)


def test_both_change_one_directory(afs: RealMount, peer: Path, place: str) -> None:
    ours, theirs = afs.writable / "scratch" / place, peer / place
    assert eventually(theirs.exists, SOON)
    expected = set()
    for number in range(40):
        touch((ours, theirs)[number % 2] / f"file-{number}")
        expected.add(f"file-{number}")
        if number % 5 == 4:
            (ours, theirs)[number % 3 % 2].joinpath(f"file-{number - 3}").unlink()
            expected.remove(f"file-{number - 3}")
    assert eventually(lambda: names(ours) == expected, SOON)
    assert eventually(lambda: names(theirs) == expected, SOON)


def test_a_mount_point_is_made_as_the_peer_makes_it(afs: RealMount, peer: Path, place: str) -> None:
    ours, theirs = afs.writable / "scratch" / place, peer / place
    (ours / "point").symlink_to("#tree.")
    expected = names(afs.writable / "tree")
    assert names(ours / "point") == expected
    assert eventually(
        lambda: (theirs / "point").is_dir() and names(theirs / "point") == expected, SOON
    )


def test_a_file_that_is_open_here_stays(afs: RealMount, peer: Path, place: str) -> None:
    ours = afs.writable / "scratch"
    contents = os.urandom(1000)
    (ours / place / "file").write_bytes(contents)
    with (ours / place / "file").open("rb", buffering=0) as file:
        (ours / place / "file").unlink()
        (silly,) = names(ours / place)
        assert silly.startswith(".__afs")
        assert eventually(lambda: names(peer / place) == {silly}, SOON)
        assert file.read() == contents
    assert eventually(lambda: names(ours / place) == set(), SOON)
    assert eventually(lambda: names(peer / place) == set(), SOON)


def test_what_a_killed_daemon_left_goes_with_the_next(
    afs: RealMount, real_cell: RealCell, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFSFUSE_RUNTIME_DIR", str(tmp_path / "run"))
    folder = afs.writable / "scratch" / place
    touch(folder / "file")
    touch(folder / ".__afs1234")
    point = tmp_path / "mnt"
    point.mkdir()
    doomed = RealMount(real_cell, real_cell.clients["client2"], "afs", point, "")
    code = "import os; f = open('file'); os.unlink('file'); print('ready', flush=True); input()"
    try:
        doomed.wait_until_mounted()
        holder = subprocess.Popen(
            [sys.executable, "-S", "-c", code], cwd=doomed.writable / "scratch" / place,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n"
            doomed.daemon.kill()
            doomed.daemon.wait()
        finally:
            holder.kill()
            holder.communicate()
    finally:
        doomed.clear()
    assert len(names(folder)) == 2
    with mounted(real_cell, "client2", point):
        wait_until(lambda: names(folder) == {".__afs1234"}, "the name to be removed", 10.0)


OWN = "noallow_other"  # a mount that acts for root, who has the desk's tokens


def refused(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(OSError, match="Errno") as caught:
        call(*arguments)
    return errno.errorcode[caught.value.errno or 0]


def test_the_server_judges_by_the_token(desk: Desk) -> None:
    """Alice's home is closed to everybody else: with her token names are made, without none."""
    desk.aklog()
    with desk.mount(options=OWN) as mount:
        home = mount.writable / "home.alice"
        (home / "folder").mkdir()
        touch(home / "folder/file")
        (home / "folder/file").rename(home / "folder/second")
        os.link(home / "folder/second", home / "folder/third")
        made = (home / "folder/third").stat()
        assert (made.st_uid, made.st_nlink) == (USER_IDS["alice"], 2)
        assert names(home / "folder") == {"second", "third"}
        assert refused(touch, mount.writable / "rights/read/file2") == "EACCES"
        assert refused((mount.writable / "rights/read/file").unlink) == "EACCES"
        assert refused((mount.writable / "home.bob/folder").mkdir) == "EACCES"
        desk.afsfuse("unlog")
        assert refused(touch, home / "folder/fourth") == "EACCES"
        assert refused((home / "folder/third").unlink) == "EACCES"
        desk.aklog()
        assert names(home / "folder") == {"second", "third"}
        (home / "folder/third").unlink()
        (home / "folder/second").unlink()
        (home / "folder").rmdir()


def test_a_mount_point_takes_the_right_to_administer(desk: Desk, afs: RealMount) -> None:
    desk.aklog()
    with desk.mount(options=OWN) as mount:
        home = mount.writable / "home.alice"
        point, moved = home / "point", home / "moved"
        point.symlink_to("#tree.")
        assert names(point) == names(afs.writable / "tree")
        assert refused(point.rmdir) == "EBUSY"
        assert refused(point.unlink) == "EISDIR"
        point.rename(moved)
        assert names(moved) == names(afs.writable / "tree")
        desk.afsfuse("fs", "rmmount", str(moved))  # which no system call does
        assert "moved" not in names(home)


def test_what_was_left_goes_once_its_user_has_a_token(desk: Desk) -> None:
    desk.aklog()
    point = desk.folder / "doomed"
    point.mkdir()
    doomed = RealMount(desk.cell, desk.cell.clients["client1"], "afs", point, OWN)
    try:
        doomed.wait_until_mounted()
        home = doomed.writable / "home.alice"
        touch(home / "file")
        holder = os.open(home / "file", os.O_RDONLY)
        (home / "file").unlink()
        left = {name for name in names(home) if name.startswith(".__afs")}
        assert len(left) == 1
        doomed.daemon.kill()
        doomed.daemon.wait()
        with contextlib.suppress(OSError):  # nobody is there to be told
            os.close(holder)
    finally:
        doomed.clear()
    desk.afsfuse("unlog")
    with desk.mount("next", OWN) as mount:
        home = mount.writable / "home.alice"
        notes = desk.runtime / "unlinked"
        wait_until(lambda: any(path.stat().st_size for path in notes.iterdir()), "inheritance")
        desk.aklog()
        assert eventually(lambda: not left & names(home), 10.0)
        assert eventually(lambda: not any(path.stat().st_size for path in notes.iterdir()), 10.0)
