"""What was put into the cell by OpenAFS's own tools is what the mount shows, to the last byte."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.realcell import seed
from tests.realcell.contents import EPOCH, Directory, File

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.mounts import RealMount
    from tests.realcell.contents import Content

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

MIB, GIB = 1 << 20, 1 << 30
READERS = 64


def digest(content: Content) -> str:
    """The hash of a seeded content, computed without the cell."""
    total = hashlib.sha256()
    for offset in range(0, content.length, MIB):
        total.update(content.read(offset, MIB))
    return total.hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_every_length_around_a_border(afs: RealMount) -> None:
    files = seed.files_tree().entries[b"files"]
    assert isinstance(files, Directory)
    for name, node in files.entries.items():
        assert isinstance(node, File)
        path = afs.cell / "tree/files" / os.fsdecode(name)
        assert path.stat().st_size == node.content.length
        assert digest_of_file(path) == digest(node.content), name


def test_a_tree_is_listed_whole(afs: RealMount) -> None:
    expected = {b"/".join(path) for path, _ in seed.walk(seed.files_tree())}
    root = os.fsencode(afs.cell / "tree")
    seen = {
        os.path.relpath(os.path.join(folder, name), root)
        for folder, folders, files in os.walk(root)
        for name in folders + files
    }
    assert seen == expected


def test_attributes_are_those_of_the_server(afs: RealMount) -> None:
    tree = afs.cell / "tree"
    assert stat.S_IMODE((tree / "modes/mode-755").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree / "modes/mode-600").stat().st_mode) == 0o600
    assert (tree / "old").stat().st_mtime == 31_536_000
    assert (tree / "files/size-1").stat().st_mtime == EPOCH
    assert (tree / "owned").stat().st_uid == 1234
    assert stat.S_ISDIR((tree / "empty").stat().st_mode)


def test_suid_and_sgid_bits_are_not_shown(afs: RealMount) -> None:
    assert stat.S_IMODE((afs.cell / "tree/modes/mode-6755").stat().st_mode) == 0o755


def test_the_large_file_by_hash(afs: RealMount) -> None:
    assert digest_of_file(afs.cell / "big/big.bin") == digest(seed.BIG)


def test_random_places_of_the_large_file(afs: RealMount) -> None:
    number = random.randrange(1 << 32)
    print(f"seed {number}")
    rng = random.Random(number)
    with (afs.cell / "big/big.bin").open("rb", buffering=0) as file:
        for _ in range(200):
            offset, size = rng.randrange(seed.BIG.length), rng.randrange(1, 300_000)
            expected = seed.BIG.read(offset, size)
            assert os.pread(file.fileno(), size, offset) == expected, (offset, size)


def test_a_mapped_file(afs: RealMount) -> None:
    with (
        (afs.cell / "replicated/data.bin").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view,
    ):
        assert hashlib.sha256(view).hexdigest() == digest(seed.REPLICATED)


def test_names_that_are_no_utf_8_or_255_bytes_long(afs: RealMount) -> None:
    folder = os.fsencode(afs.cell / "names")
    assert set(os.listdir(folder)) == set(seed.ODD_NAMES)
    for name in seed.ODD_NAMES:
        with open(os.path.join(folder, name), "rb") as file:
            assert file.read() == name


def test_sixty_thousand_names(afs: RealMount) -> None:
    expected = {b"n%05d" % number for number in range(seed.MANY_NAMES)}
    folder = afs.cell / "many/directory"
    with os.scandir(os.fsencode(folder)) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    assert sizes.keys() == expected
    assert set(sizes.values()) == {6}
    for name in ("n00000", "n31415", "n59999"):
        assert (folder / name).read_text() == name
    assert not (folder / "n60000").exists()


def test_a_sparse_file_around_two_and_four_gibibytes(afs: RealMount) -> None:
    path = afs.cell / "sparse/sparse.bin"
    assert path.stat().st_size == 5 * GIB
    with path.open("rb", buffering=0) as file:
        for border in (0, 2 * GIB, 4 * GIB, 5 * GIB):
            for distance in (-70_000, -100, -8, -1, 0, 1):
                offset = border + distance
                if offset >= 0:
                    expected = seed.SPARSE.read(offset, 100_000)
                    assert os.pread(file.fileno(), 100_000, offset) == expected, offset


def test_many_readers_of_one_file_at_once(afs: RealMount) -> None:
    path = afs.cell / "replicated/data.bin"
    with ThreadPoolExecutor(READERS) as pool:
        digests = set(pool.map(digest_of_file, [path] * READERS))
    assert digests == {digest(seed.REPLICATED)}


def test_many_readers_of_many_files_at_once(afs: RealMount) -> None:
    numbers = range(0, seed.SMALL_FILES, 5)

    def differs(number: int) -> bool:
        path = afs.cell / "small/files" / f"f{number:04d}"
        content = seed.small_content(number)
        return path.read_bytes() != content.read(0, content.length)

    with ThreadPoolExecutor(READERS) as pool:
        assert not any(pool.map(differs, numbers))


def test_inode_numbers_are_distinct_over_volumes(afs: RealMount) -> None:
    numbers = [
        entry.stat(follow_symlinks=False).st_ino
        for volume in ("tree/files", "names", "small/files", "rights", "scratch", "scratch2")
        for entry in os.scandir(afs.cell / volume)
        if not (volume == "rights" and entry.name == "none")
    ]
    assert len(set(numbers)) == len(numbers)
