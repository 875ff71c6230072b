"""Three clients write to one volume: two mounts of ours, and OpenAFS's own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.interop.mounts import RealMount, eventually, mounted
from tests.tools.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SOON = 1.0  # a change is seen within a second of the end of the RPC that made it
# afsd.fuse stores what was written some time after `close` has returned, so the RPC ends later.
PEER_STORES = 10.0
KIB = 1 << 10


@pytest.fixture(scope="module")
def peer(real_cell: RealCell) -> Iterator[Path]:
    """The read-write cell as afsd.fuse mounts it."""
    with Peer(real_cell, "client2") as peer:
        yield peer.mount_point / f".{real_cell.name}"


@pytest.fixture(scope="module")
def here(afs: RealMount, peer: Path) -> Iterator[Path]:
    """A folder on client1, where all three work."""
    folder = afs.writable / "scratch/writers"
    folder.mkdir()
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.fixture(scope="module")
def there(
    real_cell: RealCell, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The same on client2, by another daemon."""
    point = tmp_path_factory.mktemp("writers") / "afs"
    with mounted(real_cell, "client2", point) as mount:
        yield mount.writable / "scratch/writers"


@pytest.fixture(scope="module")
def elsewhere(peer: Path, here: Path) -> Path:
    """The same as OpenAFS's client has it."""
    return peer / "scratch/writers"


def text(path: Path) -> bytes | None:
    """What is in a file; None while there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextmanager
def all_know(*folders: Path) -> Iterator[None]:
    """Everybody has the folder in his cache, and the kernel with him."""
    for folder in folders:
        os.listdir(folder)
        assert not (folder / "nothing").exists()
    yield


def test_what_is_made_and_written_is_seen_by_the_others(
    here: Path, there: Path, elsewhere: Path
) -> None:
    for number, (maker, others) in enumerate(
        [(here, (there, elsewhere)), (there, (here, elsewhere)), (elsewhere, (here, there))]
    ):
        name, data = f"made-{number}", bytes([number]) * 70_000
        patience = PEER_STORES if maker is elsewhere else SOON
        with all_know(here, there, elsewhere):
            (maker / name).write_bytes(data)
        for other in others:
            assert eventually(lambda: text(other / name) == data, patience), (maker, other)  # noqa: B023
        changed = data[:300] + b"changed" + data[307:]
        with (maker / name).open("r+b") as file:
            file.seek(300)
            file.write(b"changed")
        for other in others:
            assert eventually(lambda: text(other / name) == changed, patience), (maker, other)  # noqa: B023


def test_names_that_move_and_go(here: Path, there: Path, elsewhere: Path) -> None:
    for maker, others in (
        (here, (there, elsewhere)), (there, (here, elsewhere)), (elsewhere, (here, there)),
    ):  # fmt: skip
        (maker / "old").write_bytes(b"old")
        (maker / "victim").write_bytes(b"victim")
        for other in others:
            assert eventually(lambda: text(other / "old") == b"old", PEER_STORES)  # noqa: B023
            assert eventually(lambda: text(other / "victim") == b"victim", PEER_STORES)  # noqa: B023
        (maker / "old").rename(maker / "victim")
        for other in others:
            assert eventually(lambda: text(other / "victim") == b"old", SOON)  # noqa: B023
            assert eventually(lambda: not (other / "old").exists(), SOON)  # noqa: B023
        (maker / "folder").mkdir()
        (maker / "victim").rename(maker / "folder/moved")
        for other in others:
            assert eventually(lambda: text(other / "folder/moved") == b"old", SOON)  # noqa: B023
            assert eventually(lambda: not (other / "victim").exists(), SOON)  # noqa: B023
        (maker / "folder/moved").unlink()
        (maker / "folder").rmdir()
        for other in others:
            assert eventually(lambda: not (other / "folder").exists(), SOON)  # noqa: B023


def test_one_makes_another_goes_on(here: Path, there: Path, elsewhere: Path) -> None:
    """A file goes round: each appends to what the one before him has closed."""
    path, whole = "round", b""
    (here / path).write_bytes(whole)
    for turn in range(6):
        folder = (here, there, elsewhere)[turn % 3]
        assert eventually(lambda: text(folder / path) == whole, PEER_STORES), turn  # noqa: B023
        piece = bytes([turn]) * (turn * 9 * KIB + 1)
        with (folder / path).open("ab") as file:
            file.write(piece)
        whole += piece
    for folder in (here, there, elsewhere):
        assert eventually(lambda: text(folder / path) == whole, PEER_STORES)  # noqa: B023


def test_two_clients_write_one_chunk(
    afs: RealMount, here: Path, there: Path, elsewhere: Path
) -> None:
    """Each range has what was stored last, and that both are in one chunk is in the log."""
    for number, other in enumerate((there, elsewhere)):
        name = f"chunk-{number}"
        (here / name).write_bytes(b"." * 32 * KIB)
        assert eventually(lambda: len(text(other / name) or b"") == 32 * KIB, PEER_STORES)  # noqa: B023
        told = f"{name}: another client has changed the file"
        with (here / name).open("r+b", buffering=0) as mine:
            mine.write(b"a" * 1000)
            with (other / name).open("r+b", buffering=0) as theirs:
                theirs.seek(20_000)
                theirs.write(b"b" * 1000)
            assert eventually(lambda: told in afs.log.read_text(), PEER_STORES)  # noqa: B023
        whole = b"a" * 1000 + b"." * 19_000 + b"b" * 1000 + b"." * (32 * KIB - 21_000)
        for folder in (here, there, elsewhere):
            assert eventually(lambda: text(folder / name) == whole, PEER_STORES), folder  # noqa: B023
        assert afs.log.read_text().count(told) == 1


def test_the_last_close_wins_where_both_have_written(here: Path, there: Path) -> None:
    for number, first in enumerate((here, there)):
        last = there if first is here else here
        path = f"both-{number}"
        (here / path).write_bytes(b"." * 300)
        assert eventually(lambda: len(text(there / path) or b"") == 300, SOON)  # noqa: B023
        with (
            (last / path).open("r+b", buffering=0) as later,  # the other one is closed before
            (first / path).open("r+b", buffering=0) as earlier,
        ):
            later.write(b"L" * 100)
            earlier.seek(50)
            earlier.write(b"F" * 100)
        whole = b"L" * 100 + b"F" * 50 + b"." * 150
        for folder in (here, there):
            assert eventually(lambda: text(folder / path) == whole, SOON), (folder, number)  # noqa: B023


LINES = 8
APPENDER = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
print("open", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    fcntl.flock(file, fcntl.LOCK_EX)
    for part in (sys.argv[2], " ", str(number), "\\n"):
        os.write(file, part.encode())
    fcntl.flock(file, fcntl.LOCK_UN)
"""


def test_two_hosts_that_lock_and_append_lose_no_line(
    real_cell: RealCell, here: Path, there: Path
) -> None:
    """Each has the file open all the time."""
    (here / "log").write_bytes(b"")
    assert eventually(lambda: text(there / "log") == b"", SOON)
    writers = [
        real_cell.clients[host].popen(
            [sys.executable, "-S", "-c", APPENDER, str(folder / "log"), host, str(LINES)],
            mounts=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for host, folder in (("client1", here), ("client2", there))
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    lines = {f"{host} {number}" for host in ("client1", "client2") for number in range(LINES)}

    def all_there() -> bool:
        return all(
            sorted((text(folder / "log") or b"").decode().splitlines()) == sorted(lines)
            for folder in (here, there)
        )

    assert eventually(all_there, PEER_STORES), text(here / "log")


def test_an_open_file_that_another_client_removes(here: Path, there: Path) -> None:
    """AFS knows no open files: who has one open on another host is told that it is gone."""
    (here / "removed").write_bytes(b"x" * 300_000)
    assert eventually(lambda: text(there / "removed") is not None, SOON)
    with (there / "removed").open("rb", buffering=0) as file:
        (here / "removed").unlink()
        assert eventually(lambda: not (there / "removed").exists(), SOON)
        try:
            data = file.read()
        except OSError as exc:
            assert exc.errno in (errno.ENOENT, errno.ESTALE, errno.EIO)  # noqa: PT017
        else:
            assert data == b"x" * len(data)


def test_both_create_the_same_name_exclusively(here: Path, there: Path) -> None:
    for number in range(10):
        winners = 0
        for folder in (here, there) if number % 2 else (there, here):
            try:
                os.close(os.open(folder / f"lock-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                continue
            winners += 1
        assert winners == 1
