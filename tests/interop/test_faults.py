"""Bad lines and dead servers: bounded waits, a way out, and nobody else is held up."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli
from afsfuse.auth.folders import OVERRIDE
from tests.interop.mounts import eventually
from tests.interop.test_contents import digest, digest_of_file
from tests.realcell import seed
from tests.realcell.afsio import Afsio
from tests.tools.relay import Line, Relay

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.visitor import Visitor
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

STUCK = 300  # more blocked requests than pyfuse3 has workers by default (99)
SLOW = pytest.mark.parametrize(
    "visitor", [pytest.param("anonymous", marks=pytest.mark.soak), "crypt"], indirect=True
)
ONCE = pytest.mark.parametrize("visitor", ["crypt"], indirect=True)
BOUND = 90.0  # no system call takes longer, whatever the servers do


READ = "import sys; open(sys.argv[1], 'rb').read()"
LIST = "import os, sys; os.listdir(sys.argv[1])"


def child(program: str, path: Path) -> subprocess.Popen[bytes]:
    """A process that does one thing to a path, in whatever state the path is."""
    return subprocess.Popen(
        [sys.executable, "-S", "-c", program, str(path)], stderr=subprocess.DEVNULL
    )


def end_all(children: list[subprocess.Popen[bytes]]) -> None:
    for process in children:
        process.kill()
    for process in children:
        process.wait()


@SLOW
def test_five_percent_of_packets_lost_both_ways(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path
) -> None:
    with (
        real_cell.loss("client1", 5),
        visitor.mounted(tmp_path / "afs") as mount,
    ):
        assert digest_of_file(mount.cell / "replicated/data.bin") == digest(seed.REPLICATED)
        for number in range(0, 200, 10):
            content = seed.small_content(number)
            path = mount.cell / "small/files" / f"f{number:04d}"
            assert path.read_bytes() == content.read(0, content.length)
        assert len(os.listdir(mount.cell / "many/directory")) == seed.MANY_NAMES


def test_a_line_that_reorders_and_doubles(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path
) -> None:
    line = Line(round_trip_ms=2, jitter_ms=3, loss=0.01, duplicate=0.02, reorder=0.02, seed=7)
    with (
        Relay(real_cell, "client1", line),
        visitor.mounted(tmp_path / "afs") as mount,
    ):
        assert digest_of_file(mount.cell / "replicated/data.bin") == digest(seed.REPLICATED)


@ONCE
def test_a_way_that_swallows_large_packets(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path
) -> None:
    """As a tunnel does that carries 1280 bytes, and drops the ICMP messages that would tell."""
    with visitor.mounted(tmp_path / "afs") as mount:
        assert (mount.cell / "small/files/f0100").exists()
        slot = mount.writable / "scratch/slot08"
        before = slot.read_bytes()
        real_cell.network.lose("client1", 100, match="udp length > 1260")
        try:
            slot.write_bytes(before * 20_000)
            assert digest_of_file(mount.cell / "small/files/f0100")
            assert digest_of_file(mount.cell / "replicated/data.bin") == digest(seed.REPLICATED)
        finally:
            real_cell.network.heal("client1")
        slot.write_bytes(before)


@SLOW
def test_a_dead_server_holds_up_nobody_else(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred processes wait for one server; the files of the other are read meanwhile."""
    monkeypatch.setenv(OVERRIDE, str(visitor.runtime))
    children: list[subprocess.Popen[bytes]] = []
    with visitor.mounted(tmp_path / "afs") as mount:
        small = mount.cell / "small/files"
        names = [small / f"f{number:04d}" for number in range(STUCK)]
        os.listdir(small)
        assert (mount.cell / "tree/files/size-1").exists()
        try:
            with real_cell.partition("fs2"):
                begin = time.monotonic()
                children += [child(READ, path) for path in names]
                for size in seed.BORDER_SIZES:
                    path = mount.cell / f"tree/files/size-{size}"
                    assert path.stat().st_size == size
                    assert digest_of_file(path)
                assert time.monotonic() - begin < BOUND
                dead = real_cell.servers["fs2"].address
                assert eventually(lambda: f"on {dead}" in why(names[0]), BOUND)
                statuses = [process.wait(BOUND) for process in children]
                assert all(statuses), "a read of a dead server succeeded"
                assert time.monotonic() - begin < BOUND
                told = why(names[0])
                assert re.search(rf"server +{dead}: does not answer", told), told
                assert re.search(rf"last error +Fetch\w+, .* ago: .*{dead}", told), told
            assert eventually(lambda: digest_of_any(small / "f0000"), 40)
        finally:
            end_all(children)


def why(path: Path) -> str:
    """What `afsfuse why` says, which waits for nobody."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["why", str(path)]) == 0
    return out.getvalue()


def digest_of_any(path: Path) -> bool:
    """Whether a file can be read at all."""
    try:
        return bool(digest_of_file(path))
    except OSError:
        return False


@ONCE
@pytest.mark.parametrize(
    ("program", "what"), [(LIST, "small/files"), (READ, "small/files/f1999"), (READ, "big/big.bin")]
)
def test_control_c_ends_a_wait(
    real_cell: RealCell, visitor: Visitor, tmp_path: Path, program: str, what: str
) -> None:
    with visitor.mounted(tmp_path / "afs") as mount:
        path = mount.cell / what
        assert path.parent.exists()
        assert path.exists()
        with real_cell.partition("fs1"), real_cell.partition("fs2"):
            process = child(program, path)
            try:
                time.sleep(1)  # it is in the middle of its wait
                assert process.poll() is None
                process.send_signal(signal.SIGINT)
                process.wait(1.0)
            finally:
                end_all([process])


def test_a_replica_takes_over(real_cell: RealCell, visitor: Visitor, tmp_path: Path) -> None:
    with visitor.mounted(tmp_path / "afs") as mount:
        data = mount.cell / "replicated/data.bin"
        with data.open("rb", buffering=0) as file:
            file.read(65536)
            with real_cell.partition("fs2"):
                file.seek(0)
                assert hashlib.sha256(file.read()).hexdigest() == digest(seed.REPLICATED)


@ONCE
def test_a_volume_that_is_offline(real_cell: RealCell, visitor: Visitor, tmp_path: Path) -> None:
    with visitor.mounted(tmp_path / "afs") as mount:
        assert (mount.cell / "owned-by-nobody").exists() is False
        number = str(real_cell.volumes.volume_id("quota"))
        where = ["-server", real_cell.servers["fs1"].address, "-partition", "a"]
        real_cell.vos(["offline", *where, "-id", number])
        try:
            begin = time.monotonic()
            with pytest.raises(OSError, match=r".") as caught:
                os.listdir(mount.cell / "quota")
            assert caught.value.errno not in (0, errno.EIO)
            assert time.monotonic() - begin < BOUND
        finally:
            real_cell.vos(["online", *where, "-id", number])
        assert eventually(lambda: digest_of_any(mount.cell / "quota/half.bin"), 15)


@SLOW
def test_callbacks_are_given_back(real_cell: RealCell, visitor: Visitor, tmp_path: Path) -> None:
    """After an unmount the servers owe us nothing: a change sends no packet to our port."""
    with visitor.mounted(tmp_path / "afs", options="port=7123") as mount:
        path = mount.writable / "scratch/slot07"
        path.read_bytes()
    program = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 7123));"
        "s.settimeout(3); print('ready', flush=True)\n"
        "try: print('called', s.recvfrom(2000))\n"
        "except TimeoutError: print('quiet')"
    )
    listener = real_cell.clients["client1"].popen(
        [sys.executable, "-c", program], mounts=False, stdout=subprocess.PIPE
    )
    assert listener.stdout is not None
    assert listener.stdout.readline() == b"ready\n"
    afsio = Afsio(real_cell.clients["client2"])
    afsio.overwrite("/afs/.test.afs/scratch/slot07", b"slot 07, changed\n")
    output, _ = listener.communicate(timeout=30)
    assert output == b"quiet\n"
