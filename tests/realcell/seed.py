"""The standard contents of the real cell: which volume has what, and where it is seen.

All of it is computed from seeds, so a test knows every name, length and hash without looking at
the cell. From the root of the cell (`/afs/test.afs`) the volumes are reached by a mount point of
their own name. `root.afs`, for clients without a dynamic root, has `test.afs` (read-only) and
`.test.afs` (read-write) and the three broken cells.

| volume | server | what is in it |
|---|---|---|
| root.cell | fs1, read-only copies on fs1 and fs2, backup | `README`, all mount points |
| tree | fs1 | `files/size-N` for lengths around every border, `deep/0/1/…/19/leaf` |
| names | fs1 | odd names: 255 bytes, no UTF-8, blanks, newline; their contents are the names |
| many | fs2 | `directory` with 60,000 names, `n00000` …, all files, the content is the name |
| small | fs2 | `files` with 2,000 files `f0000` … of 100 to 8,099 bytes |
| big | fs1 | `big.bin`, 256 MiB pseudo-random |
| sparse | fs1 | `sparse.bin`, 5 GiB, a hole with marks around 2 and 4 GiB |
| links | fs1 | symbolic links of all kinds, mount points of all kinds; see `links_tree` |
| rights | fs1 | directories that let anonymous callers do less than all; see `rights_tree` |
| replicated | fs1, read-only on both, backup | `data.bin`, 8 MiB, and `version` |
| scratch, scratch2 | fs1, fs2 | `slot00` … `slot31` to be overwritten, `directory` |
| quota | fs1 | `half.bin`, 5,000 KiB of a quota of 10,000 KiB |
| home.alice, home.bob | fs1 | `secret.bin`, 3 MiB and 5 bytes, and `note`: for the owner only |
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from tests.realcell import dump
from tests.realcell.configuration import CELL, CLOSED_CELL, DEAD_CELL, GONE_CELL, USER_IDS
from tests.realcell.contents import (
    ADMINISTRATORS,
    ALL,
    ANYUSER,
    LOOKUP,
    READ,
    Acl,
    Bytes,
    Directory,
    File,
    MountPoint,
    PseudoRandom,
    Sparse,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.realcell.cell import RealCell
    from tests.realcell.contents import Node

MIB, GIB = 1 << 20, 1 << 30
MANY_NAMES = 60_000
SMALL_FILES = 2_000
BIG = PseudoRandom("big", 256 * MIB)
SPARSE = Sparse(
    5 * GIB,
    {
        0: b"first bytes of the sparse file",
        2 * GIB - 8: b"8 beforeafter 2 GiB",
        4 * GIB - 8: b"8 beforeafter 4 GiB",
        4 * GIB + 5: b"!",
        5 * GIB - 4: b"end.",
    },
)
REPLICATED = PseudoRandom("replicated", 8 * MIB)
HALF_OF_QUOTA = PseudoRandom("quota", 5_000 * 1024)
QUOTA_KIB = 10_000
BORDER_SIZES = (
    *(0, 1, 2, 1411, 1412, 1413, 4095, 4096, 4097, 32767, 32768, 32769),
    *(65535, 65536, 65537, MIB - 1, MIB, MIB + 1, 4 * MIB + 3),
)
DEEPEST = 20
SLOTS = 32
LONGEST = ("sparse", "big", "many", "small", "tree")
SIDE_BY_SIDE = 4
ODD_NAMES = (
    b"x" * 255,
    ("\u00e4" * 127 + "z").encode(),  # 255 bytes, but 128 characters
    b"\xff\xfe not UTF-8 \x80",
    b"latin-1 \xe4\xf6\xfc",
    b" blanks ",
    b"new\nline",
    b"tab\tand \x1b[31mescape",
    b"-rf",
    b".hidden",
    b"...",
    b"trailing.",
    b"back\\slash",
    b"\xf0\x9f\x90\x8b",  # a whale
    b"A",
    b"a",
    b"exactly15bytes!",
    b"exactly16bytes!!",
)


@dataclass(frozen=True)
class SeedVolume:
    """One volume of the standard cell. `tree` builds its description (kept by the function)."""

    tree: Callable[[], Directory]
    server: str = "fs1"
    quota: int = 0
    replicas: tuple[str, ...] = ()
    backup: bool = False
    sparse: dict[bytes, Sparse] = field(default_factory=dict)


@cache
def readme_tree() -> Directory:
    """root.cell."""
    entries: dict[bytes, Node] = {b"README": File(Bytes(b"The root of the test cell.\n"))}
    for name in VOLUMES:
        if not name.startswith("root."):
            entries[name.encode()] = MountPoint(f"#{name}.".encode())
    return Directory(entries)


@cache
def root_afs_tree() -> Directory:
    """root.afs."""
    entries: dict[bytes, Node] = {
        CELL.encode(): MountPoint(b"#root.cell."),
        b"." + CELL.encode(): MountPoint(b"%root.cell."),
    }
    for cell in (DEAD_CELL, CLOSED_CELL, GONE_CELL):
        entries[cell.encode()] = MountPoint(f"#{cell}:root.cell.".encode())
    return Directory(entries)


@cache
def files_tree() -> Directory:
    """tree."""
    sizes = {b"size-%d" % size: File(PseudoRandom(f"tree/{size}", size)) for size in BORDER_SIZES}
    below: dict[bytes, Node] = {b"leaf": File(Bytes(b"the bottom\n"))}
    for level in reversed(range(DEEPEST)):
        below = {str(level).encode(): Directory(below)}
    modes = {b"mode-%o" % mode: File(Bytes(b""), mode=mode) for mode in (0o600, 0o755, 0o6755)}
    return Directory(
        {
            b"files": Directory(sizes),
            b"deep": Directory(below),
            b"modes": Directory(modes),
            b"empty": Directory(),
            b"old": File(Bytes(b"from 1971\n"), mtime=31_536_000),
            b"owned": File(Bytes(b"by user 1234\n"), owner=1234),
        }
    )


@cache
def names_tree() -> Directory:
    """names."""
    return Directory({name: File(Bytes(name)) for name in ODD_NAMES})


@cache
def many_tree() -> Directory:
    """many."""
    names = (b"n%05d" % number for number in range(MANY_NAMES))
    return Directory({b"directory": Directory({name: File(Bytes(name)) for name in names})})


def small_content(number: int) -> PseudoRandom:
    """The content of `f0000` and so on in the volume small."""
    return PseudoRandom(f"small/{number}", 100 + number * 37 % 8000)


@cache
def small_tree() -> Directory:
    """small."""
    files = {b"f%04d" % number: File(small_content(number)) for number in range(SMALL_FILES)}
    return Directory({b"files": Directory(files)})


@cache
def links_tree() -> Directory:
    """links: what each of them is to lead to is said by its name."""
    return Directory(
        {
            b"target": File(Bytes(b"the target\n")),
            b"to-target": Symlink(b"target"),
            b"to-link": Symlink(b"to-target"),
            b"to-nothing": Symlink(b"nothing"),
            b"to-itself": Symlink(b"to-itself"),
            b"loop-a": Symlink(b"loop-b"),
            b"loop-b": Symlink(b"loop-a"),
            b"up-and-down": Symlink(b"../links/target"),
            b"absolute": Symlink(b"/afs/test.afs/links/target"),
            b"long": Symlink(b"./" * 500 + b"target"),
            b"sys": Symlink(b"@sys"),
            b"amd64_linux26": Directory({b"here": File(Bytes(b"amd64_linux26\n"))}),
            b"mount-tree": MountPoint(b"#tree."),
            b"mount-tree-rw": MountPoint(b"%tree."),
            b"mount-replicated": MountPoint(b"#replicated."),
            b"mount-replicated-rw": MountPoint(b"%replicated."),
            b"mount-replicated-readonly": MountPoint(b"#replicated.readonly."),
            b"mount-replicated-backup": MountPoint(b"#replicated.backup."),
            b"mount-in-cell": MountPoint(b"#test.afs:replicated."),
            b"mount-in-cell-rw": MountPoint(b"%test.afs:replicated."),
            b"mount-missing": MountPoint(b"#no.such.volume."),
            b"mount-no-backup": MountPoint(b"#tree.backup."),
            b"mount-self": MountPoint(b"#links."),
            b"mount-dead-cell": MountPoint(f"#{DEAD_CELL}:root.cell.".encode()),
            b"mount-closed-cell": MountPoint(f"#{CLOSED_CELL}:root.cell.".encode()),
            b"mount-gone-cell": MountPoint(f"#{GONE_CELL}:root.cell.".encode()),
            b"mount-unknown-cell": MountPoint(b"#no.such.cell:root.cell."),
        }
    )


@cache
def rights_tree() -> Directory:
    """rights: directories by what anonymous callers may do in them."""
    secret = File(Bytes(b"not for all\n"))
    return Directory(
        {
            b"all": Directory({b"file": secret}),
            b"read": Directory({b"file": secret}, acl=Acl({ANYUSER: READ | LOOKUP})),
            b"lookup": Directory({b"file": secret}, acl=Acl({ANYUSER: LOOKUP})),
            b"none": Directory({b"file": secret}, acl=Acl({ADMINISTRATORS: ALL})),
            b"negative": Directory({b"file": secret}, acl=Acl({ANYUSER: ALL}, {ANYUSER: READ})),
        }
    )


@cache
def replicated_tree() -> Directory:
    """replicated."""
    return Directory({b"data.bin": File(REPLICATED), b"version": File(Bytes(b"1\n"))})


@cache
def scratch_tree() -> Directory:
    """scratch and scratch2: files that exist, for `afsio` can change but not create."""
    slots: dict[bytes, Node] = {
        b"slot%02d" % number: File(Bytes(b"slot %02d, first\n" % number)) for number in range(SLOTS)
    }
    return Directory({**slots, b"directory": Directory()})


@cache
def quota_tree() -> Directory:
    """quota."""
    return Directory({b"half.bin": File(HALF_OF_QUOTA)})


def secret(user: str) -> PseudoRandom:
    """The content of `secret.bin` in a user's home."""
    return PseudoRandom(f"home/{user}", 3 * MIB + 5)


@cache
def home_tree(user: str) -> Directory:
    """home.alice, home.bob."""
    return Directory(
        {b"secret.bin": File(secret(user)), b"note": File(Bytes(f"{user}'s own\n".encode()))},
        acl=Acl({ADMINISTRATORS: ALL, USER_IDS[user]: ALL}),
    )


@cache
def sparse_tree() -> Directory:
    """sparse."""
    return Directory({b"sparse.bin": File(SPARSE)})


VOLUMES: dict[str, SeedVolume] = {
    "root.afs": SeedVolume(root_afs_tree),
    "tree": SeedVolume(files_tree),
    "names": SeedVolume(names_tree),
    "many": SeedVolume(many_tree, "fs2"),
    "small": SeedVolume(small_tree, "fs2"),
    "big": SeedVolume(lambda: Directory({b"big.bin": File(BIG)})),
    "sparse": SeedVolume(sparse_tree, sparse={b"sparse.bin": SPARSE}),
    "links": SeedVolume(links_tree),
    "rights": SeedVolume(rights_tree),
    "replicated": SeedVolume(replicated_tree, replicas=("fs1", "fs2"), backup=True),
    "scratch": SeedVolume(scratch_tree),
    "scratch2": SeedVolume(scratch_tree, "fs2"),
    "quota": SeedVolume(quota_tree, quota=QUOTA_KIB),
    "home.alice": SeedVolume(lambda: home_tree("alice")),
    "home.bob": SeedVolume(lambda: home_tree("bob")),
    "root.cell": SeedVolume(readme_tree, replicas=("fs1", "fs2"), backup=True),
}


def populate(cell: RealCell, names: tuple[str, ...] = tuple(VOLUMES)) -> None:
    """Make the volumes (all, or these), some side by side: each waits for its servers, too.

    Raises CommandFailed."""
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        for future in [pool.submit(_make, cell, name) for name in sorted(names, key=_place)]:
            future.result()
    for name in names:
        if VOLUMES[name].replicas:
            cell.volumes.replicate(name, VOLUMES[name].replicas)
        if VOLUMES[name].backup:
            cell.volumes.backup(name)


def _place(name: str) -> int:
    """Those that take longest are begun first."""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def _make(cell: RealCell, name: str) -> None:
    volume = VOLUMES[name]
    if volume.sparse:
        ((file_name, content),) = volume.sparse.items()
        cell.volumes.restore_sparse(name, file_name, content, volume.server)
        return
    pieces = dump.write(volume.tree(), name=name, quota=volume.quota)
    cell.volumes.restore(name, pieces, volume.server)


def walk(
    directory: Directory, above: tuple[bytes, ...] = ()
) -> Iterator[tuple[tuple[bytes, ...], Node]]:
    """Everything below a directory's description: (path, node)."""
    for name, node in directory.entries.items():
        yield (*above, name), node
        if isinstance(node, Directory):
            yield from walk(node, (*above, name))
