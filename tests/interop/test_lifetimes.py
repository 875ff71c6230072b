"""Tokens as time goes by: they end, in the middle of work or not, or are renewed.

All of it is waiting, so the longest wait, for the end of a ticket while somebody reads, goes on
beside all other tests of this module, and is looked at by the last one.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.interop.desk import SECONDS, Desk
from tests.interop.mounts import RealMount, eventually, mounted
from tests.realcell import seed
from tests.realcell.configuration import CELL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

MIB = 1 << 20
LIFE = 25  # seconds of the reader's ticket
GRACE = 1.0  # seconds around its end in which a read may be of either kind
PAUSE = 0.02
PRIVATE = seed.secret("alice")


@dataclass(frozen=True)
class Read:
    """One read of a file that was open all the time."""

    began: float
    ended: float
    private: bool
    errno: int


class Reader(threading.Thread):
    """Reads what everybody may and what only alice may, over and over, past all caches."""

    def __init__(self, desk: Desk, mount: RealMount) -> None:
        super().__init__()
        self.desk = desk
        self.mount = mount
        self.home = mount.cell / "home.alice"
        self.reads: list[Read] = []
        (token,) = desk.tokens()
        self.end: int = token["end"]
        self._over = threading.Event()
        self._public = (mount.cell / "big/big.bin").open("rb", buffering=0)
        self._private = (self.home / "secret.bin").open("rb", buffering=0)

    def run(self) -> None:
        for number in itertools.count():
            block = number * 7 % (seed.BIG.length // MIB)
            self.read(self._public, block * MIB, seed.BIG.block(block))
            offset = number % 3 * MIB
            self.read(self._private, offset, PRIVATE.read(offset, MIB))
            if self._over.wait(PAUSE):
                return

    def read(self, file: FileIO, offset: int, expected: bytes) -> None:
        """What comes is right to the last byte, or it is an error."""
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began, error = time.time(), 0
        try:
            data = os.pread(file.fileno(), len(expected), offset)
        except OSError as exc:
            error = exc.errno or -1
        else:
            if data != expected:
                error = -2
        self.reads.append(Read(began, time.time(), file is self._private, error))

    def results(self, *, private: bool, since: float = 0, until: float = 2**40) -> list[int]:
        """Errors, or 0, of the reads that were made within some time."""
        return [
            read.errno
            for read in list(self.reads)
            if read.private is private and read.began >= since and read.ended <= until
        ]

    def stop(self) -> None:
        self._over.set()
        self.join(SECONDS)
        assert not self.is_alive()
        self._public.close()
        self._private.close()


@pytest.fixture(scope="module", autouse=True)
def reader(real_cell: RealCell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Root, reading in alice's name on another host, from the first test of the module on."""
    folder = tmp_path_factory.mktemp("reader")
    desk = Desk(real_cell, folder, folder / "run")
    desk.write_keytab()
    desk.aklog("-l", f"{LIFE}s")
    options = "noallow_other,debug,memory=1M"
    with mounted(
        real_cell, "client2", folder / "afs", options=options, runtime=desk.runtime
    ) as mount:
        reader = Reader(desk, mount)
        reader.start()
        yield reader
        reader.stop()


def test_a_token_of_a_short_ticket_expires(desk: Desk) -> None:
    with desk.mount():
        desk.kinit("-l", "5s")
        assert desk.afsfuse("aklog").returncode == 0
        (token,) = desk.tokens()
        assert 0 < token["end"] - token["start"] <= 6
        assert eventually(
            lambda: f"for {CELL} [>> Expired <<]\n" in desk.afsfuse("tokens").stdout, SECONDS
        )


def ends(desk: Desk) -> int:
    (token,) = desk.tokens()
    assert token["kept"] is True
    end: int = token["end"]
    return end


def test_a_token_is_kept_with_a_keytab(desk: Desk) -> None:
    """KDCs give what is asked for, so the life is the realm's default; the daemon's clock is ours:
    we make the token old instead of waiting for it to be."""
    with desk.mount(RENEWALS=3.0):
        done = desk.afsfuse("klog", "alice", "--keytab", str(desk.keytab), "--keep")
        assert done.returncode == 0, done.stderr
        desk.keytab.unlink()
        end = ends(desk)
        (path,) = (desk.runtime / "tokens").iterdir()
        values = json.loads(path.read_text())
        values["start"] -= 90_000
        fresh = path.with_name(".fresh")
        fresh.write_text(json.dumps({**values, "end": int(time.time()) + 5}))
        fresh.rename(path)
        assert eventually(lambda: ends(desk) >= end, SECONDS)
        secrets = desk.secrets()
        assert desk.afsfuse("unlog").returncode == 0
        assert list((desk.runtime / "keeps").iterdir()) == []
        log = (desk.folder / "afs.log").read_text()
    assert not [secret for secret in secrets if secret in log]


def test_a_token_is_kept_with_a_renewable_ticket_as_long_as_that_lasts(desk: Desk) -> None:
    with desk.mount() as mount:
        desk.kinit("-l", "8s", "-r", "18s")
        done = desk.afsfuse("aklog", "--keep")
        assert done.returncode == 0, done.stderr
        end = ends(desk)
        assert eventually(lambda: ends(desk) > end, SECONDS)
        assert eventually(
            lambda: "cannot be renewed, it is good until" in mount.log.read_text(), SECONDS
        )
        assert eventually(lambda: "Expired" in desk.afsfuse("tokens").stdout, SECONDS)
        assert mount.log.read_text().count("cannot be renewed") == 1


def test_what_cannot_be_kept(desk: Desk) -> None:
    desk.kinit()
    done = desk.afsfuse("aklog", "--keep")
    assert done.returncode == 32
    assert "your ticket is not renewable: get one with kinit -r 7d" in done.stderr
    done = desk.afsfuse("klog", "alice", "-pipe", "--keep", input=b"x\n")
    assert done.returncode == 1
    assert done.stderr == "afsfuse: --keep needs --keytab: a password is not kept\n"


def test_a_ticket_that_ends_in_the_middle_of_reads(reader: Reader) -> None:
    """What everybody may read goes on without a fault, and what only alice may ends with EACCES,
    by an open file as by its name, until there is another token: then the open file is read again.
    """
    assert eventually(lambda: time.time() > reader.end + 2 * GRACE, SECONDS + LIFE)
    log = reader.mount.log.read_text
    before = reader.results(private=True, until=reader.end - GRACE)
    after = reader.results(private=True, since=reader.end + GRACE)
    assert len(before) > LIFE / 2
    assert set(before) == {0}
    assert set(after) == {errno.EACCES}
    assert set(reader.results(private=True)) == {0, errno.EACCES}
    for look in (lambda: os.listdir(reader.home), (reader.home / "note").read_bytes):
        with pytest.raises(PermissionError) as caught:
            look()
        assert caught.value.errno == errno.EACCES
    assert (reader.mount.cell / "README").exists()
    assert log().count(f"the token of uid-0 for {CELL} has expired: anonymous there until") == 1
    reader.desk.aklog()
    assert eventually(lambda: log().count("has a token for") == 2, SECONDS)
    assert (reader.home / "note").read_text() == "alice's own\n"
    renewed = time.time()
    assert eventually(lambda: len(reader.results(private=True, since=renewed)) > 3, SECONDS)
    assert set(reader.results(private=True, since=renewed)) == {0}
    assert set(reader.results(private=False)) == {0}
