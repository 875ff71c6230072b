"""The commands' end of the control socket: which daemon is asked, and what without any."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth import folders
from afsfuse.auth.identity import Identity
from afsfuse.auth.store import TokenStore
from afsfuse.control import places
from afsfuse.control.places import Place
from afsfuse.control.protocol import answer_line
from afsfuse.control.server import ControlServer
from afsfuse.errors import ControlRefused, NoDaemon
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ME = f"uid-{os.geteuid()}"
FAR = 4_000_000_000  # seconds since 1970: a token that has not expired


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(folders.OVERRIDE, str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def store(folder: Path) -> Iterator[TokenStore]:
    store = TokenStore(folder)
    store.load()
    yield store
    store.close()


async def test_a_daemon_is_asked(nursery: trio.Nursery, store: TokenStore) -> None:
    await nursery.start(ControlServer(store).run)
    (place,) = places.places()
    encoded = token(end=FAR).encode()
    answer = await trio.to_thread.run_sync(lambda: place.ask("set", token=encoded))
    assert answer == {"identity": ME}
    assert place.by_daemon
    assert store.get(Identity(uid=os.geteuid()), "example.org") == token(end=FAR)
    with pytest.raises(ControlRefused, match="does not know how"):
        await trio.to_thread.run_sync(place.ask, "fly")


def test_without_a_daemon_the_command_does_it(folder: Path) -> None:
    place = Place(folder)
    place.ask("set", token=token(end=FAR).encode())
    assert not place.by_daemon
    (told,) = place.ask("tokens")["tokens"]
    assert told["cell"] == "example.org"
    assert place.ask("drop") == {"dropped": ["example.org"]}
    assert list((folder / "tokens").iterdir()) == []


def test_another_owners_place_needs_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    with pytest.raises(NoDaemon, match="no mount for all users"):
        Place(tmp_path / "none").ask("hello")


def test_a_dead_daemons_socket_is_passed_over(store: TokenStore) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(store.folder / "control" / "1-dead.sock"))
    place = Place(store.folder)
    assert place.ask("hello")["identity"] == ME
    assert not place.by_daemon


@pytest.fixture
def silent(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A daemon that was stopped: connections are taken, and nothing more."""
    monkeypatch.setattr(places, "ANSWER_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(store.folder / "control" / "1-silent.sock"))
        listener.listen(0)
        yield listener


def test_a_silent_daemon_is_told_of(store: TokenStore, silent: socket.socket) -> None:
    with pytest.raises(ControlRefused, match="does not answer: see its log"):
        Place(store.folder).ask("hello")


def test_a_daemon_whose_queue_is_full(store: TokenStore, silent: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as another:
        for client in (other, another):
            client.setblocking(False)
            client.connect_ex(silent.getsockname())
        with pytest.raises(ControlRefused, match="does not answer"):
            Place(store.folder).ask("hello")


def test_who_finds_the_queue_full_knocks_again(
    store: TokenStore, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user can fill it for a moment, again and again."""
    monkeypatch.setattr(places, "ANSWER_SECONDS", 10.0)
    silent.settimeout(10)
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(silent.getsockname())

        def let_in(_: float) -> None:
            """Between two attempts."""
            silent.accept()[0].close()
            monkeypatch.setattr(time, "sleep", lambda _: None)
            thread.start()

        def answer() -> None:
            with silent.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(answer_line({"identity": ME}))

        thread = threading.Thread(target=answer)
        monkeypatch.setattr(time, "sleep", let_in)
        assert Place(store.folder).ask("hello") == {"identity": ME}
        thread.join()


def test_a_silent_daemon_may_be_left_out(
    store: TokenStore, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(store.folder)
    told: list[str] = []
    assert place.ask_each("hello", told.append) == []
    assert told == ["a daemon does not answer: see its log"]
    monkeypatch.setattr(places, "places", lambda: [place])
    with pytest.raises(ControlRefused, match="does not answer"):
        places.ask_each("hello", told.append)


async def test_of_several_daemons_one_that_answers(
    nursery: trio.Nursery, store: TokenStore, silent: socket.socket
) -> None:
    await nursery.start(ControlServer(store).run)
    place = Place(store.folder)
    assert (await trio.to_thread.run_sync(place.ask, "hello"))["identity"] == ME
    assert place.by_daemon


def answering(listener: socket.socket, *answers: bytes) -> threading.Thread:
    """A daemon that says whatever a test wants it to."""

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_daemon_that_ends_in_the_middle_is_passed_over(
    store: TokenStore, silent: socket.socket
) -> None:
    thread = answering(silent, b'{"v": 1, "o')
    place = Place(store.folder)
    assert place.ask("hello")["identity"] == ME
    assert not place.by_daemon
    thread.join()


def test_an_answer_that_is_too_long_is_told_of(
    store: TokenStore, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its daemon is not dead, and what it serves is not nothing."""
    monkeypatch.setattr(places, "ANSWER_MAX", 100)
    thread = answering(silent, b'{"v": 1, "o' + 200 * b"x", b'{"v": 1, "o' + 200 * b"x")
    place = Place(store.folder)
    with pytest.raises(ControlRefused, match="too long"):
        place.ask("hello")
    with pytest.raises(ControlRefused, match="too long"):
        place.ask_each("hello")
    thread.join()


def test_a_socket_of_somebody_else_gets_no_token(
    store: TokenStore, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    monkeypatch.setattr(places, "_CREDENTIALS", FakeCredentials(uid + 2))
    with pytest.raises(NoDaemon, match="no mount for all users"):
        Place(store.folder).ask("hello")


class FakeCredentials:
    """`struct ucred` of a stranger, whoever it is."""

    size = 12

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def unpack(self, _: bytes) -> tuple[int, int, int]:
        return 1, self._uid, 1


def test_all_places_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, missing = tmp_path / "ours", tmp_path / "missing"
    monkeypatch.setattr(places, "folders", lambda: (missing, ours))
    monkeypatch.setattr(places, "is_ours", lambda folder: folder == ours)
    ((place, answer),) = places.tell_all("hello")
    assert place.folder == ours
    assert answer["identity"] == ME
    monkeypatch.setattr(places, "folders", lambda: (missing,))
    with pytest.raises(NoDaemon):
        places.tell_all("hello")
    monkeypatch.setattr(places, "folders", lambda: (ours, missing))
    with pytest.raises(ControlRefused, match="a token is expected"):
        places.tell_all("set")
