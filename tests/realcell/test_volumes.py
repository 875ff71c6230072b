"""What real servers make of our dumps: salvager, `vos dump`, `afsio` and afsd.fuse judge."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.realcell import dump, seed
from tests.realcell.afsio import Afsio
from tests.realcell.contents import Bytes, Directory, File, MountPoint, Symlink, sha256
from tests.realcell.dumpreader import Dump
from tests.realcell.hosts import CommandFailed
from tests.tools.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell

# All that the salvager says of a volume with nothing to repair.
CLEAN_LOG = re.compile(
    r"dispatching child|\d+ nVolumesInInodeFile|waiting for fileserver|SALVAGING VOLUME"
    r"|\S+ \(\d+\) updated|totalInodes|Salvaged \S+ \(\d+\): \d+ files"
)


@pytest.fixture(scope="module")
def afsio(real_cell: RealCell) -> Afsio:
    return Afsio(real_cell.clients["client1"])


@pytest.fixture(scope="module")
def peer(real_cell: RealCell) -> Iterator[Peer]:
    with Peer(real_cell, "client2") as running:
        yield running


@pytest.mark.parametrize("name", ["names", "many", "links", "rights", "sparse"])
def test_the_salvager_finds_nothing_to_repair(real_cell: RealCell, name: str) -> None:
    log = real_cell.volumes.salvage(name, seed.VOLUMES[name].server).splitlines()
    assert any(line.startswith("Salvaged") for line in log)
    assert [line for line in log if not CLEAN_LOG.match(line)] == []


@pytest.mark.parametrize("name", ["tree", "names", "links", "rights", "small"])
def test_vos_dump_has_what_was_described(real_cell: RealCell, name: str) -> None:
    dumped = Dump(real_cell.volumes.dump(name))
    tree = seed.VOLUMES[name].tree()
    numbers = dump.Numbering(tree).by_path
    for path, node in seed.walk(tree):
        vnode = dumped.vnodes[numbers[path].vnode]
        assert vnode.unique == numbers[path].unique
        match node:
            case File():
                assert vnode.data == node.content.read(0, node.content.length)
                assert vnode.fields["b"] == node.mode
            case Directory():
                assert set(vnode.names()) == {b".", b"..", *node.entries}
                assert vnode.acl == dump.acl_bytes(node.acl)
            case Symlink():
                assert vnode.data == node.target
            case MountPoint():
                assert vnode.data == node.body


def test_60000_names(real_cell: RealCell) -> None:
    dumped = Dump(real_cell.volumes.dump("many"))
    names = dumped.lookup(b"directory").names()
    assert len(names) == seed.MANY_NAMES + 2
    for number in (0, 1, 31_415, 59_999):
        assert dumped.vnodes[names[b"n%05d" % number][0]].data == b"n%05d" % number


def test_afsio_reads_by_path_and_by_fid(real_cell: RealCell, afsio: Afsio) -> None:
    size = 65537
    expected = seed.VOLUMES["tree"].tree()
    files = expected.entries[b"files"]
    assert isinstance(files, Directory)
    node = files.entries[b"size-%d" % size]
    assert isinstance(node, File)
    assert afsio.read(f"/afs/test.afs/tree/files/size-{size}") == node.content.read(0, size)
    number = dump.Numbering(expected).by_path[b"files", b"size-%d" % size]
    fid = (real_cell.volumes.volume_id("tree"), number.vnode, number.unique)
    assert afsio.read_fid(fid) == node.content.read(0, size)


@pytest.mark.parametrize(
    "name", [name for name in seed.ODD_NAMES if name.isascii() and len(name) < 200]
)
def test_afsio_finds_odd_names(afsio: Afsio, name: bytes) -> None:
    assert afsio.read(b"/afs/test.afs/names/" + name) == name


def test_afsio_reads_256_mib(afsio: Afsio) -> None:
    data = afsio.read("/afs/test.afs/big/big.bin")
    assert hashlib.sha256(data).hexdigest() == sha256(seed.BIG)


def test_afsio_tells_of_failures(afsio: Afsio) -> None:
    with pytest.raises(CommandFailed, match="not found"):
        afsio.read("/afs/test.afs/tree/nothing")


def test_afsio_changes_files(afsio: Afsio) -> None:
    path = "/afs/.test.afs/scratch/slot31"
    before = afsio.read(path)
    afsio.append(path, b"more")
    assert afsio.read(path) == before + b"more"
    afsio.overwrite(path, b"SLOT")
    assert afsio.read(path) == b"SLOT" + before[4:] + b"more"


def test_anonymous_callers_have_the_rights_of_the_acl(afsio: Afsio) -> None:
    assert afsio.read("/afs/test.afs/rights/read/file") == b"not for all\n"
    for directory in ("lookup", "none", "negative"):
        with pytest.raises(CommandFailed):
            afsio.read(f"/afs/test.afs/rights/{directory}/file")


def test_a_created_volume_is_open_to_all(real_cell: RealCell) -> None:
    volumes = real_cell.volumes
    number = volumes.create("created", quota=4_000)
    try:
        assert volumes.volume_id("created") == number
        assert volumes.examine("created")["maxquota"] == "4000"
        root = Dump(volumes.dump("created")).vnodes[1]
        assert root.acl == dump.acl_bytes(Directory().acl)
    finally:
        volumes.remove("created")


def test_replicas_and_backups_exist(real_cell: RealCell) -> None:
    for name in ("root.cell", "replicated"):
        entry = real_cell.vos(["listvldb", "-name", name]).stdout
        assert entry.count("RO Site") == 2
        numbers = {
            real_cell.volumes.volume_id(name + suffix) for suffix in ("", ".readonly", ".backup")
        }
        assert len(numbers) == 3
    with pytest.raises(LookupError):
        real_cell.volumes.volume_id("tree.readonly")


def test_restoring_again_replaces_the_contents(real_cell: RealCell, afsio: Afsio) -> None:
    volumes = real_cell.volumes
    path = "/afs/.test.afs/scratch2/slot00"
    original = seed.VOLUMES["scratch2"]
    try:
        tree = Directory({b"slot00": File(Bytes(b"another content\n"))})
        volumes.restore("scratch2", dump.write(tree, name="scratch2"), "fs2")
        assert afsio.read(path) == b"another content\n"
    finally:
        volumes.restore("scratch2", dump.write(original.tree(), name="scratch2"), "fs2")
    assert afsio.read(path) == b"slot 00, first\n"


def test_a_bad_dump_is_refused_by_name(real_cell: RealCell) -> None:
    with pytest.raises(CommandFailed, match="restore"):
        real_cell.volumes.restore("nonsense", [b"this is no dump"])


@pytest.mark.mount
def test_the_peer_reads_what_was_described(peer: Peer) -> None:
    for name in ("tree", "names", "replicated", "quota"):
        for path, node in seed.walk(seed.VOLUMES[name].tree()):
            if isinstance(node, File):
                seen = Path(peer.cell_path, name, *(os.fsdecode(part) for part in path))
                assert hashlib.sha256(seen.read_bytes()).hexdigest() == sha256(node.content)


@pytest.mark.mount
def test_the_peer_reads_around_the_borders_of_a_sparse_file(peer: Peer) -> None:
    path = peer.cell_path / "sparse" / "sparse.bin"
    assert path.stat().st_size == seed.SPARSE.length
    with path.open("rb") as data:
        for border in seed.SPARSE.marks:
            start = max(0, border - 4096)
            data.seek(start)
            assert data.read(8192) == seed.SPARSE.read(start, 8192)


@pytest.mark.mount
def test_the_peer_makes_and_removes_names(peer: Peer, real_cell: RealCell) -> None:
    directory = peer.cell_path / "scratch" / "directory"
    names = [f"new-{number}" for number in range(100)]
    for name in names:
        (directory / name).write_text(name)
    dumped = Dump(real_cell.volumes.dump("scratch"))
    assert dumped.lookup(b"directory", b"new-99").data == b"new-99"
    assert len(dumped.lookup(b"directory").names()) == len(names) + 2
    for name in names:
        (directory / name).unlink()
    assert set(Dump(real_cell.volumes.dump("scratch")).lookup(b"directory").names()) == {
        b".",
        b"..",
    }


@pytest.mark.mount
def test_a_new_start_of_the_peer_is_cold(peer: Peer) -> None:
    path = peer.cell_path / "tree" / "files" / "size-4194307"
    expected = path.read_bytes()
    peer.restart_cold()
    assert path.read_bytes() == expected
    assert peer.peak_memory() > 1 << 20
