"""Whatever somebody has put where our files are to be, or puts there meanwhile: nothing is written
through it, nothing is read from it, and no mode is changed behind it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.files import Folder
from afsfuse.auth.folders import CONTROL, KEEPS, PAGS, TOKENS, prepare
from afsfuse.auth.identity import Identity
from afsfuse.auth.store import TokenStore
from afsfuse.control.places import Place
from afsfuse.control.server import short_path
from afsfuse.democell.folder import NAME, StoreError
from afsfuse.democell.folder import Folder as CellFolder
from afsfuse.errors import AfsError, NoDaemon, UsageError
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_700_000_100.0
OTHER = 54321
ROUNDS = 300


def _link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _dangling(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere / "missing")


def _file(path: Path, elsewhere: Path) -> None:
    path.touch()


def _fifo(path: Path, elsewhere: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, elsewhere: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _of_another(path: Path, elsewhere: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder away")
    path.mkdir(0o777)
    os.chown(path, OTHER, OTHER)


PLANTED = pytest.mark.parametrize(
    "plant", [_link, _dangling, _file, _fifo, _socket, _of_another], ids=lambda f: f.__name__[1:]
)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Somebody's folder, which is to stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(0o751)
    folder.chmod(0o751)
    return folder


def untouched(elsewhere: Path) -> bool:
    return os.listdir(elsewhere) == [] and stat.S_IMODE(elsewhere.stat().st_mode) == 0o751


@PLANTED
@pytest.mark.parametrize("where", ["", TOKENS, PAGS, KEEPS, CONTROL])
def test_what_stands_in_place_of_a_folder(
    tmp_path: Path, elsewhere: Path, where: str, plant: Callable[[Path, Path], None]
) -> None:
    run = tmp_path / "run"
    if where:
        prepare(run)
        (run / where).rmdir()
    plant(run / where if where else run, elsewhere)
    with pytest.raises(UsageError, match="belongs to somebody else, or is no folder"):
        TokenStore(run).load()
    assert untouched(elsewhere)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to(tmp_path: Path, mode: int) -> None:
    """Be it that it was opened after somebody had looked at it."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens").chmod(mode)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PermissionError, match="others may write there"):
        Folder(tmp_path / "tokens")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_folder_of_sockets_is_no_link(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / CONTROL).symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError), short_path(tmp_path / CONTROL):
        pass


def test_a_command_says_nothing_to_a_link(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, uid = [], os.geteuid()
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(str(elsewhere / "1.sock"))
        trap.listen()
        trap.setblocking(False)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / CONTROL).symlink_to(elsewhere)
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)  # not this user's
        with pytest.raises(NoDaemon):
            Place(tmp_path / "run").ask("set", token=token().encode())
        with pytest.raises(BlockingIOError):
            heard.append(trap.accept())
    assert not heard


def test_the_store_of_a_cell_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / NAME).symlink_to(tmp_path / "target")
    with pytest.raises(StoreError):
        CellFolder(tmp_path / "cell")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("where", [TOKENS, KEEPS, PAGS])
def test_what_changes_while_it_is_used(tmp_path: Path, elsewhere: Path, where: str) -> None:
    """Somebody with our own rights swaps a folder for a link, over and over."""
    run = tmp_path / "run"
    prepare(run)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            try:
                os.rename(run / where, run / "aside")
                os.symlink(elsewhere, run / where)
                os.unlink(run / where)
                os.rename(run / "aside", run / where)
            except OSError:  # it was made anew meanwhile
                shutil.rmtree(run / "aside", ignore_errors=True)

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes = {"refused": 0, "used": 0}
    try:
        for _ in range(ROUNDS):
            store = TokenStore(run, lambda: NOW)
            try:
                store.load()
                store.set(Identity(uid=1000), token())
                store.drop(Identity(uid=1000))
                outcomes["used"] += 1
            except (AfsError, OSError):
                outcomes["refused"] += 1
            finally:
                store.close()
    finally:
        done.set()
        swapper.join()
    print(outcomes)
    assert untouched(elsewhere)
    assert sum(outcomes.values()) == ROUNDS
