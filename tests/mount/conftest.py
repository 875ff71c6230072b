"""Fixtures of the mounts."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.harness import Children, ToyMount, clear
from tests.mount.treesmount import EXPIRE, TreesMount
from tests.mount.usersmount import UsersMount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Source: linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


@pytest.fixture(scope="session", autouse=True)
def _own_mount_table() -> None:
    """Keep our mounts out of the copies that others make of the mount table meanwhile.

    Such a copy, as every container has one, would let a mount and its daemon live on after
    umount. Stays for the rest of this process.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        assert libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0


@pytest.fixture
def children() -> Iterator[Children]:
    """Processes that use a mount; those still there at the end are killed."""
    running = Children()
    yield running
    running.end()


@pytest.fixture
def toys(tmp_path: Path, children: Children) -> Iterator[Callable[..., ToyMount]]:
    """Makes toy mounts: `toys(limits={...}, options={...})`."""
    made: list[ToyMount] = []

    def make(name: str = "mnt", **more: Any) -> ToyMount:
        directory = tmp_path.resolve() / name
        if all(toy.path != directory for toy in made):
            directory.mkdir()
        toy = ToyMount(directory, **more)
        made.append(toy)
        return toy.started()

    yield make
    for toy in made:
        toy.end()


@pytest.fixture
def toy(toys: Callable[..., ToyMount]) -> ToyMount:
    """A toy mount with its defaults."""
    return toys()


@pytest.fixture
def mounts(tmp_path: Path, children: Children) -> Iterator[dict[str, UsersMount]]:
    """A mount by its rule, made when it is asked for."""

    class Mounts(dict[str, UsersMount]):
        def __missing__(self, rule: str) -> UsersMount:
            self[rule] = UsersMount(tmp_path.resolve(), children, rule)
            return self[rule]

    yield Mounts()
    children.end()
    clear(tmp_path.resolve() / "afs")


@pytest.fixture
def trees_mount(tmp_path: Path, children: Children) -> Iterator[Callable[..., TreesMount]]:
    """Makes a mount of so many volumes, with more options."""
    folder = tmp_path.resolve()

    def make(volumes: int = 3, options: str = f"expire={EXPIRE}") -> TreesMount:
        return TreesMount(folder, children, volumes, options)

    yield make
    children.end()
    clear(folder / "afs")
