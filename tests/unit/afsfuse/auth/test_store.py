"""The store: whose tokens are whose, what outlives it, and who is told of changes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from afsfuse.auth import store as store_module
from afsfuse.auth.files import Folder
from afsfuse.auth.identity import NOBODY, Caller, Identity
from afsfuse.auth.processes import Process, kin
from afsfuse.auth.store import CELLS_MAX, LINGER, PAGS_MAX, TokenStore
from afsfuse.errors import ControlRefused
from tests.unit.afsfuse.auth.test_renewal import BY_KEYTAB
from tests.unit.afsfuse.auth.test_token import KEY, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

ALICE = Identity(uid=1000)
BOB = Identity(uid=1001)
NOW = 1_700_000_100.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[[], TokenStore]]:
    """Stores on one folder, as several daemons have them."""
    made = []

    def one() -> TokenStore:
        store = TokenStore(tmp_path / "run", clock)
        store.load()
        made.append(store)
        return store

    yield one
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[[], TokenStore]) -> TokenStore:
    return make()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends at the end of its input."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield process
        process.communicate(b"")


def test_tokens_are_per_identity_and_cell(store: TokenStore) -> None:
    store.set(ALICE, token())
    store.set(ALICE, token(cell="other.org"))
    store.set(BOB, token(client="bob@EXAMPLE.ORG"))
    assert [one.cell for one in store.of(ALICE)] == ["example.org", "other.org"]
    bobs = store.get(BOB, "example.org")
    assert bobs is not None
    assert bobs.client == "bob@EXAMPLE.ORG"
    assert store.get(BOB, "other.org") is None
    assert [(who.text, one.cell) for who, one in store.all()] == [
        ("uid-1000", "example.org"),
        ("uid-1000", "other.org"),
        ("uid-1001", "example.org"),
    ]


def test_dropping_takes_only_what_is_meant(store: TokenStore) -> None:
    for cell in ("a.org", "b.org", "c.org"):
        store.set(ALICE, token(cell=cell))
    store.set(BOB, token(cell="a.org"))
    assert store.drop(ALICE, ["b.org", "unknown.org"]) == ["b.org"]
    assert store.drop(ALICE) == ["a.org", "c.org"]
    assert store.drop(ALICE) == []
    assert [who for who, _ in store.all()] == [BOB]


def test_tokens_outlive_the_daemon(make: Callable[[], TokenStore]) -> None:
    first = make()
    first.set(ALICE, token(viceid=7))
    first.close()
    found = make().get(ALICE, "example.org")
    assert found == token()
    assert found is not None
    assert found.viceid == 7


def test_a_number_is_added_to_the_token_that_it_was_asked_for(
    make: Callable[[], TokenStore],
) -> None:
    store, other = make(), make()
    told = []
    store.set(ALICE, token())
    other.rescan()
    for each in (store, other):
        each.subscribe(lambda *what: told.append(what))
    store.number(ALICE, token(), 1001)
    store.number(ALICE, token(kvno=5), 7)
    store.number(BOB, token(), 7)
    other.rescan()
    for each in (store, other):
        found = each.get(ALICE, "example.org")
        assert found is not None
        assert (found.viceid, found.key.reveal()) == (1001, KEY)
        assert each.get(BOB, "example.org") is None
    assert not told, "it is the same token"


def test_the_number_stays_with_the_principal(store: TokenStore) -> None:
    def number() -> int | None:
        found = store.get(ALICE, "example.org")
        assert found is not None
        return found.viceid

    store.set(ALICE, token(viceid=7))
    store.set(ALICE, token(end=token().end + 1))
    assert number() == 7
    store.set(ALICE, token(viceid=8))
    assert number() == 8
    store.set(ALICE, token(client="bob@EXAMPLE.ORG"))
    assert number() is None


def test_the_folder_holds_no_key_after_a_drop(store: TokenStore) -> None:
    store.set(ALICE, token())
    files = store.folder / "tokens"
    with (files / "uid-1000.example.org").open("rb") as held:
        store.drop(ALICE)
        assert not any(held.read())
    assert list(files.iterdir()) == []


def test_a_closed_store_has_wiped_its_keys(store: TokenStore) -> None:
    given = token()
    store.set(ALICE, given)
    store.close()
    assert len(given.key) == 0


def test_an_expired_token_is_shown_for_a_while(store: TokenStore, clock: Clock) -> None:
    store.set(ALICE, token(end=int(NOW) + 10))
    clock.now += 10
    store.sweep()
    kept = store.get(ALICE, "example.org")
    assert kept is not None
    assert kept.expired(clock.now)
    clock.now += LINGER
    store.sweep()
    assert store.get(ALICE, "example.org") is None


def test_changes_are_told_and_nothing_else(store: TokenStore) -> None:
    told: list[tuple[Identity, str]] = []
    store.subscribe(lambda identity, cell: told.append((identity, cell)))
    store.set(ALICE, token())
    store.set(ALICE, token())  # the same again
    store.reread("tokens", "uid-1000.example.org")
    assert told == [(ALICE, "example.org")]
    store.set(ALICE, token(end=1_700_099_999))
    store.drop(ALICE)
    store.drop(ALICE)
    assert told == [(ALICE, "example.org")] * 3


def test_another_daemon_takes_changes_over(make: Callable[[], TokenStore]) -> None:
    one, other = make(), make()
    told: list[tuple[Identity, str]] = []
    other.subscribe(lambda identity, cell: told.append((identity, cell)))
    one.set(ALICE, token())
    other.reread("tokens", "uid-1000.example.org")
    assert other.get(ALICE, "example.org") == token()
    one.drop(ALICE)
    other.rescan()
    assert other.get(ALICE, "example.org") is None
    assert told == [(ALICE, "example.org")] * 2


def test_nobody_has_no_token(store: TokenStore) -> None:
    with pytest.raises(ControlRefused, match="not clear who"):
        store.set(NOBODY, token())
    assert store.get(NOBODY, "example.org") is None


@pytest.mark.parametrize("cell", ["../x", "A.org", ".x", "a/b", "a" * 201, "-x"])
def test_cells_whose_names_make_no_file(store: TokenStore, cell: str) -> None:
    with pytest.raises(ControlRefused, match="of this name"):
        store.set(ALICE, token(cell=cell))


def test_the_number_of_tokens_is_bounded(store: TokenStore) -> None:
    for number in range(CELLS_MAX):
        store.set(ALICE, token(cell=f"c{number}.org"))
    with pytest.raises(ControlRefused, match="64 cells already"):
        store.set(ALICE, token(cell="one-more.org"))
    store.set(ALICE, token(cell="c0.org", viceid=5))  # in place of another one
    store.set(BOB, token(cell="one-more.org"))


def test_the_tokens_of_a_users_pags_are_his(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else 64 PAGs for 64 cells each fill the memory that /run is, which all of a machine need."""
    monkeypatch.setattr(store_module, "TOKENS_MAX", 8)
    pags = [
        Identity(pag=store.begin_pag(Process(10_000 + number, 7), ALICE.uid or 0))
        for number in range(3)
    ]
    for number in range(8):
        store.set((ALICE, *pags)[number % 4], token(cell=f"c{number}.org"))
    for identity in (ALICE, *pags):
        with pytest.raises(ControlRefused, match="8 tokens of this user"):
            store.set(identity, token(cell="one-more.org"))
    store.set(pags[0], token(cell="c1.org", end=2_000_000_000))  # in place of another one
    store.set(BOB, token(cell="one-more.org"))
    store.drop(pags[0], ["c1.org"])
    store.set(pags[2], token(cell="one-more.org"))


def test_without_descriptors_nothing_is_taken_for_gone(
    store: TokenStore,
    child: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    """Users can take many of a daemon's, for instance with PAGs, of which each takes one."""
    expected_warnings("cannot be read, and counts as before: Too many open files")
    pag = Identity(pag=store.begin_pag(kin(child.pid).process, 1000))
    for identity in (ALICE, pag):
        store.set(identity, token())
        store.keep(identity, BY_KEYTAB)
    with monkeypatch.context() as scarce:
        scarce.setattr(Folder, "_open", failing(errno.EMFILE))
        store.rescan()
        scarce.setattr(Folder, "names", failing(errno.EMFILE))
        scarce.setattr(os, "open", failing(errno.EMFILE))  # nor can processes be looked at
        store.rescan()
    assert [who for who, _ in store.all()] == [pag, ALICE]
    assert len(store.renewals()) == 2
    store.rescan()
    assert [who for who, _ in store.all()] == [pag, ALICE]
    assert sorted(os.listdir(store.folder / "tokens")) == sorted(
        f"{identity}.example.org" for identity in (ALICE, pag)
    )


def test_what_cannot_be_removed_harms_nobody_else(
    store: TokenStore,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("cannot be removed: Read-only file system")
    store.set(ALICE, token())
    with monkeypatch.context() as broken:
        broken.setattr(Folder, "remove", failing(errno.EROFS))
        clock.now += 10**6
        store.sweep()  # goes on in the daemon, whatever comes of it
        assert not store.all()
        store.rescan()
        clock.now -= 10**6
        store.set(ALICE, token())
        with pytest.raises(ControlRefused, match="cannot be removed: Read-only file system"):
            store.drop(ALICE)
        assert not store.all()


def failing(number: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_full_file_system(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write", fail)
    with pytest.raises(ControlRefused, match="No space left on device"):
        store.set(ALICE, token())
    assert store.all() == []
    with pytest.raises(ControlRefused, match="No space left on device"):
        store.begin_pag(kin(os.getpid()).process, 1000)
    assert not store.pags


def test_a_bad_file_is_told_of_and_not_used(
    store: TokenStore, expected_warnings: ExpectedWarnings, caplog: pytest.LogCaptureFixture
) -> None:
    files = store.folder / "tokens"
    store.set(ALICE, token())
    original = (files / "uid-1000.example.org").read_bytes()
    (files / "uid-1001.example.org").write_bytes(original.replace(b'"end"', b'"dne"'))
    (files / "uid-1001.other.org").write_bytes(original)
    (files / "uid-1002.other.org").write_bytes(bytes(100))  # is being wiped
    (files / "what.is.this").write_bytes(original)
    expected_warnings("for example.org of uid-1001 is not used: the token has no proper end")
    expected_warnings("for other.org of uid-1001 is for another cell")
    store.rescan()
    assert [who for who, _ in store.all()] == [ALICE]
    assert len(caplog.records) == 2
    assert "byte key" not in caplog.text


# PAGs


def test_a_pag_has_tokens_of_its_own(store: TokenStore, child: subprocess.Popen[bytes]) -> None:
    uid = os.getuid()
    mine, root = Identity(uid=uid), kin(child.pid).process
    store.set(mine, token())
    pag = Identity(pag=store.begin_pag(root, uid))
    inside, outside = Caller(uid, 0, child.pid), Caller(uid, 0, os.getpid())
    assert store.identities.of(inside) == pag
    assert store.identities.of(outside) == mine
    assert store.get(pag, "example.org") is None  # it begins without any
    store.set(pag, token(client="admin@EXAMPLE.ORG"))
    assert [one.client for one in store.of(mine)] == ["alice@EXAMPLE.ORG"]
    assert [one.client for one in store.of(pag)] == ["admin@EXAMPLE.ORG"]
    for caller, name in ((inside, "admin"), (outside, "alice")):
        held = store.get(store.identities.of(caller), "example.org")
        assert held is not None
        assert held.client == f"{name}@EXAMPLE.ORG"
    assert store.get(store.identities.of(inside), "other.org") is None


def test_a_pag_ends_with_its_root(store: TokenStore, child: subprocess.Popen[bytes]) -> None:
    pag = Identity(pag=store.begin_pag(kin(child.pid).process, 1000))
    given = token()
    store.set(pag, given)
    store.sweep()
    assert store.of(pag) == [given]
    child.communicate(b"")
    store.sweep()
    assert store.of(pag) == []
    assert not store.pags
    assert list((store.folder / "pags").iterdir()) == []
    assert list((store.folder / "tokens").iterdir()) == []


def test_a_pag_outlives_the_daemon(
    make: Callable[[], TokenStore], child: subprocess.Popen[bytes]
) -> None:
    first = make()
    pag = Identity(pag=first.begin_pag(kin(child.pid).process, 1000))
    first.set(pag, token())
    second = make()
    assert second.identities.of(Caller(0, 0, child.pid)) == pag
    assert second.of(pag) == [token()]
    first.end_pag(pag.pag or "")
    second.rescan()
    assert second.of(pag) == []
    assert second.identities.of(Caller(5, 5, child.pid)) == Identity(uid=5)


def test_a_dead_pag_is_not_loaded(
    make: Callable[[], TokenStore], child: subprocess.Popen[bytes]
) -> None:
    first = make()
    pag = Identity(pag=first.begin_pag(kin(child.pid).process, 1000))
    first.set(pag, token())
    child.communicate(b"")
    second = make()
    assert not second.pags
    assert second.all() == []


def test_the_root_of_a_pag_has_one(store: TokenStore, child: subprocess.Popen[bytes]) -> None:
    root = kin(child.pid).process
    store.begin_pag(root, 1000)
    with pytest.raises(ControlRefused, match="already"):
        store.begin_pag(root, 1000)


def test_pag_numbers_are_random_and_not_in_use(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(["a" * 16, "f" * 16, "a" * 16, "a" * 16, "b" * 16, "c" * 16])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(numbers))
    me = kin(os.getpid()).process
    one = store.begin_pag(me, 1000)
    two = store.begin_pag(Process(1, me.start + 1), 1000)
    assert (one, two) == ("a" * 16, "b" * 16)


def test_the_number_of_pags_is_bounded(store: TokenStore) -> None:
    for number in range(PAGS_MAX):
        store.begin_pag(Process(10_000 + number, 7), 1000)
    with pytest.raises(ControlRefused, match="64 PAGs of this user already"):
        store.begin_pag(Process(9, 7), 1000)
    store.begin_pag(Process(9, 7), 1001)


def test_a_bad_pag_file_is_no_pag(store: TokenStore) -> None:
    for number, text in enumerate(["", "{}", "[]", "null", '{"pid": 1}', "\0\0\0"]):
        (store.folder / "pags" / f"pag-{number:016}").write_text(text)
    (store.folder / "pags" / "uid-5").write_text('{"pid": 1, "start": 0, "uid": 5}')
    store.rescan()
    assert not store.pags


def test_keys_are_in_the_file_only(store: TokenStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        store.set(ALICE, token())
        store.drop(ALICE)
    assert KEY.decode() not in caplog.text
