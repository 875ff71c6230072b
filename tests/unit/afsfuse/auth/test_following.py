"""A store that follows its files and its processes; the kernel tells of both."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth import following
from afsfuse.auth.following import SWEEP_SECONDS, Changes, Follower
from afsfuse.auth.identity import Identity
from afsfuse.auth.processes import Process, kin
from tests.unit.afsfuse.auth.test_store import ALICE, Clock, child, clock, make, store
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.auth.store import TokenStore
    from tests.conftest import ExpectedWarnings

__all__ = ["Clock", "child", "clock", "make", "store"]


class Told:
    """What a store has told, and a way to wait for more."""

    def __init__(self, store: TokenStore) -> None:
        self.changes: list[tuple[Identity, str]] = []
        self._more = trio.Event()
        store.subscribe(self._note)

    def _note(self, identity: Identity, cell: str) -> None:
        self.changes.append((identity, cell))
        self._more.set()
        self._more = trio.Event()

    async def next(self) -> tuple[Identity, str]:
        with trio.fail_after(30):
            while not self.changes:
                await self._more.wait()
        return self.changes.pop(0)


async def test_changes_of_another_daemon_come_by_themselves(
    make: Callable[[], TokenStore], nursery: trio.Nursery
) -> None:
    one, other = make(), make()
    await nursery.start(Follower(other).run)
    told = Told(other)
    one.set(ALICE, token())
    assert await told.next() == (ALICE, "example.org")
    assert other.get(ALICE, "example.org") == token()
    one.set(ALICE, token(kvno=5))
    assert await told.next() == (ALICE, "example.org")
    one.number(ALICE, token(kvno=5), 1001)
    one.drop(ALICE)
    assert await told.next() == (ALICE, "example.org")
    assert other.all() == []


async def test_changes_before_we_watched_are_seen(
    make: Callable[[], TokenStore], nursery: trio.Nursery
) -> None:
    one, other = make(), make()
    one.set(ALICE, token())
    await nursery.start(Follower(other).run)
    assert other.get(ALICE, "example.org") == token()


async def test_a_pag_ends_when_its_root_does(
    make: Callable[[], TokenStore], nursery: trio.Nursery, child: subprocess.Popen[bytes]
) -> None:
    one, other = make(), make()
    await nursery.start(Follower(other).run)
    pag = Identity(pag=one.begin_pag(kin(child.pid).process, 1000))
    told = Told(other)
    one.set(pag, token())
    assert await told.next() == (pag, "example.org")
    child.communicate(b"")
    assert await told.next() == (pag, "example.org")
    assert other.all() == []
    assert not other.pags


async def test_the_end_of_a_pag_that_was_loaded_is_seen(
    make: Callable[[], TokenStore], nursery: trio.Nursery, child: subprocess.Popen[bytes]
) -> None:
    first = make()
    pag = Identity(pag=first.begin_pag(kin(child.pid).process, 1000))
    first.set(pag, token())
    second = make()
    told = Told(second)
    await nursery.start(Follower(second).run)
    child.communicate(b"")
    assert await told.next() == (pag, "example.org")


async def test_the_number_of_a_root_that_is_anothers_by_now(
    store: TokenStore, nursery: trio.Nursery
) -> None:
    await nursery.start(Follower(store).run)
    store.begin_pag(Process(os.getpid(), 5), 1000)
    store.begin_pag(Process(2**22 + 1, 5), 1000)  # above every number that there can be
    await trio.testing.wait_all_tasks_blocked()
    assert not store.pags


async def test_without_pidfds_the_sweep_sees_it(
    store: TokenStore,
    nursery: trio.Nursery,
    child: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    def fail(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", fail)
    await nursery.start(Follower(store).run)
    store.begin_pag(kin(child.pid).process, 1000)
    await trio.testing.wait_all_tasks_blocked()
    assert store.pags
    child.communicate(b"")
    await trio.sleep(SWEEP_SECONDS + 1)
    assert not store.pags


async def test_without_inotify_changes_are_seen_late(
    make: Callable[[], TokenStore],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    expected_warnings: ExpectedWarnings,
) -> None:
    def fail(folders: dict[str, Path]) -> Changes:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(following, "Changes", fail)
    expected_warnings("seen late: no inotify: Too many open files")
    one, other = make(), make()
    await nursery.start(Follower(other).run)
    one.set(ALICE, token())
    await trio.sleep(SWEEP_SECONDS + 1)
    assert other.get(ALICE, "example.org") == token()


async def test_lost_events_are_made_good(
    make: Callable[[], TokenStore], nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Changes.read
    monkeypatch.setattr(Changes, "read", lambda self: [None] if list(read(self)) else [])
    one, other = make(), make()
    await nursery.start(Follower(other).run)
    told = Told(other)
    one.set(ALICE, token())
    assert await told.next() == (ALICE, "example.org")


def test_an_overflow_is_an_event_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes({"kind": tmp_path})
    overflow = following._EVENT.pack(-1, 0x4000, 0, 0)
    named = following._EVENT.pack(1, 0x80, 0, 16) + b"name".ljust(16, b"\0")
    ignored = following._EVENT.pack(77, 0x8000, 0, 0)
    monkeypatch.setattr(os, "read", lambda *_: overflow + ignored + named)
    assert list(changes.read()) == [None, ("kind", "name")]
    changes.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Changes({"kind": tmp_path / "none"})
