"""`klog --kaserver` as a whole: the command in a process of its own asks a cell over UDP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse import cli
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Token
from afsfuse.democell import DemoCell
from afsfuse.democell.acl import ALL_RIGHTS, AccessList
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint, SecurityLevel
from rxrpc.security.rxkad import RxkadClient
from tests.cell.raw import RawClient
from tests.cell.site import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# One for each process: tests run side by side.
ADDRESS = f"127.78.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
REPOSITORY = Path(cli.__file__).parent.parent
WARNING = "afsfuse: warning: --kaserver is deprecated: its DES keys can be found within days"
NO_MOUNT = "afsfuse: test.afs: no mount is running: the token is kept for one that you make"
PASSWORD = "open sesame"


@pytest.fixture
async def cell() -> AsyncIterator[DemoCell]:
    cell = DemoCell("test.afs", [ADDRESS])
    number = cell.add_user("alice", password=PASSWORD)
    cell.create_volume("data", acl=AccessList({number: ALL_RIGHTS}))
    async with cell.serving():
        yield cell


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "ThisCell").write_text("test.afs\n")
    (folder / "CellServDB").write_text(f">test.afs\n{ADDRESS} #db1.test.afs\n>silent.afs\n")
    return folder


async def klog(confdir: Path, *words: str, typed: str = PASSWORD) -> tuple[int, str, list[str]]:
    """Its exit status, what it said, and its complaints."""
    done = await trio.run_process(
        [sys.executable, "-m", "afsfuse", "klog", "--kaserver", *words, "--password-stdin",
         "--confdir", str(confdir)],
        stdin=f"{typed}\n".encode(), capture_stdout=True, capture_stderr=True, check=False,
        cwd=REPOSITORY, env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode().splitlines()


def tokens(place: Path) -> list[Token]:
    store = TokenStore(place)
    store.load()
    try:
        return [Token.decode(token.encode()) for _, token in store.all()]  # it wipes its own
    finally:
        store.close()


@pytest.mark.parametrize("words", [["alice"], ["alice@test.afs"], ["alice", "-c", "Test.AFS"]])
async def test_a_password_becomes_a_token_that_a_file_server_takes(
    cell: DemoCell, confdir: Path, place: Path, words: list[str]
) -> None:
    status, out, complaints = await klog(confdir, *words)
    assert (status, out) == (0, "")
    assert complaints[0].startswith(WARNING)
    assert complaints[1:] == [NO_MOUNT]
    (token,) = tokens(place)
    assert (token.cell, token.client) == ("test.afs", "alice@TEST.AFS")
    security = RxkadClient(
        ticket=token.ticket, session_key=token.key.reveal(), kvno=token.kvno,
        level=SecurityLevel.CRYPT, expires=token.end, clock=time.time,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        client = RawClient(Endpoint(bind=(ADDRESS, 0)))
        await nursery.start(client.endpoint.run)
        client.use((ADDRESS, fs.PORT), security)
        root = Fid(cell.volume("data").id, ROOT, ROOT)
        assert (await client.status(root)).caller_access == 127
        client.use((ADDRESS, fs.PORT))
        assert (await client.status(root)).caller_access == 0
        nursery.cancel_scope.cancel()


async def test_what_it_tells_of_its_work(cell: DemoCell, confdir: Path) -> None:
    _, out, _ = await klog(confdir, "alice", "-d")
    assert out.splitlines() == [
        "asking the authentication servers of test.afs as alice@TEST.AFS",
        "asking for a ticket for afs",
    ]


@pytest.mark.parametrize(
    ("user", "typed", "told"),
    [
        ("alice", "wrong", "test.afs: alice: the password is wrong"),
        ("bob", PASSWORD, "test.afs: bob: the authentication server knows no such user"),
        (".x", PASSWORD, "test.afs: .x: that is no name"),
        ("x" * 64, PASSWORD, f"test.afs: {'x' * 64}: the name is longer than names can be"),
    ],
)
async def test_what_it_refuses(
    cell: DemoCell, confdir: Path, place: Path, user: str, typed: str, told: str
) -> None:
    status, _, complaints = await klog(confdir, user, typed=typed)
    assert status == 32
    assert complaints[1:] == [f"afsfuse: {told}"]
    assert tokens(place) == []


async def test_a_cell_without_such_a_server(confdir: Path) -> None:
    """Nobody listens there, and the machine says so at once."""
    status, _, complaints = await klog(confdir, "alice")
    assert status == 32
    assert "no authentication server of the cell answers at port 7004" in complaints[1]


async def test_a_cell_that_nobody_knows(confdir: Path) -> None:
    status, _, complaints = await klog(confdir, "alice@nowhere")
    assert status == 32
    assert "nowhere: alice: this cannot be the name of a cell" in complaints[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["alice", "--keytab", "/x"], "neither keytabs nor realms"),
        (["alice", "-k", "TEST.AFS"], "neither keytabs nor realms"),
        (["alice@test.afs", "-c", "other.afs"], "not a user of other.afs"),
        (["@test.afs"], "name one cell"),
    ],
)
def test_mistakes(
    confdir: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("afsfuse.tools.klog.harden", lambda: None)
    assert cli.main(["klog", "--kaserver", *words, "--confdir", str(confdir)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_password_is_no_argument(confdir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afsfuse", "klog", "--kaserver", "alice", PASSWORD,
         "--confdir", str(confdir)],
        capture_output=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"unrecognized arguments" in done.stderr
