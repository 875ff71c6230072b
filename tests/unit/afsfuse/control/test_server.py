"""The control socket: who is at the other end, and that hostile ends are survived."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from afsfuse.auth.identity import Identity
from afsfuse.auth.store import TokenStore
from afsfuse.control import server
from afsfuse.control.pacing import Pace
from afsfuse.control.protocol import LINE_MAX, read_answer, request_line
from afsfuse.control.server import ControlLimits, ControlServer, clear_stale
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import ControlRefused
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from trio.testing import MockClock

    from tests.conftest import ExpectedWarnings

NOW = 1_700_000_100.0
ME = f"uid-{os.geteuid()}"


@pytest.fixture
def store() -> Iterator[TokenStore]:
    """In a folder that every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = TokenStore(Path(folder) / "run", lambda: NOW)
        store.load()
        yield store
        store.close()


async def started(
    nursery: trio.Nursery,
    store: TokenStore,
    limits: ControlLimits | None = None,
    settled: Callable[[Identity], Awaitable[None]] | None = None,
) -> Path:
    control = ControlServer(store, limits, Verbs(store, lambda: NOW), settled)
    path: Path = await nursery.start(control.run)
    return path


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_unix_socket(str(path)) as stream:
        yield stream


async def line(stream: trio.SocketStream) -> bytes:
    """The next answer; empty at the end."""
    data = bytearray()
    while not data.endswith(b"\n"):
        try:
            chunk = await stream.receive_some()
        except trio.BrokenResourceError:  # it did not read all that we sent
            chunk = b""
        if not chunk:
            break
        data += chunk
    return bytes(data)


async def ask(stream: trio.SocketStream, verb: str, **arguments: Any) -> dict[str, Any]:
    await stream.send_all(request_line(verb, **arguments))
    return read_answer(await line(stream))


async def test_several_requests_on_one_connection(nursery: trio.Nursery, store: TokenStore) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        assert await ask(stream, "hello") == {"pid": os.getpid(), "identity": ME}
        await ask(stream, "set", token=token().encode())
        told = await ask(stream, "tokens")
        assert [one["cell"] for one in told["tokens"]] == ["example.org"]
    assert store.get(Identity(uid=os.geteuid()), "example.org") == token()


async def test_a_new_token_is_settled_before_it_is_acknowledged(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    begun, over = trio.Event(), trio.Event()
    asked: list[Identity] = []

    async def settled(identity: Identity) -> None:
        asked.append(identity)
        begun.set()
        await over.wait()

    path = await started(nursery, store, settled=settled)
    me = Identity(uid=os.geteuid())
    async with connected(path) as stream:
        await ask(stream, "tokens")
        await ask(stream, "set", token=token().encode(), wait=False)
        assert not asked
        await stream.send_all(request_line("set", token=token(kvno=5).encode()))
        await begun.wait()
        assert store.get(me, "example.org") == token(kvno=5), "it is used by then"
        async with connected(path) as other:
            assert (await ask(other, "hello"))["identity"] == ME
        over.set()
        assert read_answer(await line(stream))["identity"] == ME
    assert asked == [me]


async def test_requests_that_come_together_and_in_pieces(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        await stream.send_all(request_line("hello") + request_line("tokens")[:5])
        assert read_answer(await line(stream))["identity"] == ME
        await stream.send_all(request_line("tokens")[5:])
        assert read_answer(await line(stream))["tokens"] == []


async def test_the_socket_is_for_everybody_and_goes_with_its_server(store: TokenStore) -> None:
    async with trio.open_nursery() as nursery:
        path = await started(nursery, store)
        assert path.parent == store.folder / "control"
        assert path.stat().st_mode & 0o777 == 0o666
        assert path.name.startswith(f"{os.getpid()}-")
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_bad_request_costs_an_answer(nursery: trio.Nursery, store: TokenStore) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        for bad in (b"\n", b"what?\n", b'{"v": 9, "do": "hello"}\n', request_line("set")):
            await stream.send_all(bad)
            assert b'"error"' in await line(stream)
        assert await ask(stream, "hello")


async def test_an_endless_line(nursery: trio.Nursery, store: TokenStore) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(bytes(LINE_MAX * 1000))
        assert b"too long" in await line(stream)
    async with connected(path) as stream:
        assert await ask(stream, "hello")


async def test_a_long_line_with_an_end(nursery: trio.Nursery, store: TokenStore) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        await stream.send_all(b"x" * (LINE_MAX + 1) + b"\n")
        assert b"too long" in await line(stream)


async def test_a_slow_client(
    nursery: trio.Nursery, store: TokenStore, autojump_clock: MockClock
) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        begin = trio.current_time()
        await stream.send_all(b'{"v": 1, ')
        assert await line(stream) == b""  # hung up on
        assert trio.current_time() - begin == pytest.approx(ControlLimits().seconds)


async def test_a_client_that_does_not_read(
    nursery: trio.Nursery, store: TokenStore, autojump_clock: MockClock
) -> None:
    for number in range(60):
        store.set(Identity(uid=os.geteuid()), token(cell=f"c{number}.org", client="x" * 1000))
    path = await started(nursery, store, ControlLimits(requests=10_000))
    async with connected(path) as stream:
        begin = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(request_line("tokens") * 100_000)
        assert trio.current_time() - begin == pytest.approx(ControlLimits().seconds)
    async with connected(path) as stream:
        assert await ask(stream, "hello")


async def test_a_client_that_is_gone_at_once(nursery: trio.Nursery, store: TokenStore) -> None:
    path = await started(nursery, store)
    for _ in range(100):
        async with connected(path) as stream:
            await stream.send_all(request_line("tokens"))
    async with connected(path) as stream:
        assert await ask(stream, "hello")


async def test_a_client_that_sends_no_more_gets_its_answer(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    path = await started(nursery, store)
    async with connected(path) as stream:
        await stream.send_all(request_line("hello"))
        await stream.send_eof()
        assert read_answer(await line(stream))["identity"] == ME
        assert await line(stream) == b""


async def test_one_users_connections_are_bounded(nursery: trio.Nursery, store: TokenStore) -> None:
    path = await started(nursery, store, ControlLimits(connections_of_user=3))
    held = [await trio.open_unix_socket(str(path)) for _ in range(3)]
    for stream in held:
        assert await ask(stream, "hello")
    async with connected(path) as one_more:
        assert b"too many connections" in await line(one_more)
    await held.pop().aclose()
    await trio.testing.wait_all_tasks_blocked()
    async with connected(path) as again:
        assert await ask(again, "hello")
    for stream in held:
        await stream.aclose()


async def test_all_connections_are_bounded(nursery: trio.Nursery, store: TokenStore) -> None:
    limits = ControlLimits(connections=0, connections_of_user=5 if os.geteuid() else 0)
    path = await started(nursery, store, limits)
    async with connected(path) as stream:
        assert b"too many connections" in await line(stream)


async def test_requests_of_one_connection_are_bounded(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    path = await started(nursery, store, ControlLimits(requests=2))
    async with connected(path) as stream:
        await stream.send_all(request_line("hello") * 3)
        data = b"".join([await line(stream) for _ in range(3)])
        assert data.count(b"\n") == 2


async def test_no_descriptors_for_a_while(
    nursery: trio.Nursery,
    store: TokenStore,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("no connection can be accepted: Too many open files")
    with trio.socket.socket() as example:
        kind = type(example)
    accept = kind.accept
    failures = [OSError(24, "Too many open files"), OSError(103, "Connection aborted")]

    async def scarce(self: trio.socket.SocketType) -> Any:
        if failures:
            raise failures.pop(0)
        return await accept(self)

    monkeypatch.setattr(kind, "accept", scarce)
    path = await started(nursery, store)
    async with connected(path) as stream:
        assert await ask(stream, "hello")
    assert not failures


async def test_a_bug_costs_one_connection(
    nursery: trio.Nursery,
    store: TokenStore,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("a command was not answered: a bug")
    path = await started(nursery, store)
    with monkeypatch.context() as patch:
        patch.setattr(Verbs, "do", lambda *_: 1 / 0)
        async with connected(path) as stream:
            await stream.send_all(request_line("hello"))
            assert await line(stream) == b""
    async with connected(path) as stream:
        assert await ask(stream, "hello")


async def test_an_older_kernel_has_no_descriptor_of_the_peer(
    nursery: trio.Nursery, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SO_PEERPIDFD", 9999)
    path = await started(nursery, store)
    async with connected(path) as stream:
        assert (await ask(stream, "hello"))["identity"] == ME


def test_sockets_of_dead_daemons_are_removed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as living:
        dead.bind(str(tmp_path / "1-dead.sock"))
        living.bind(str(tmp_path / "2-living.sock"))
        living.listen()
        (tmp_path / "file").touch()
        assert clear_stale(tmp_path) == ["1-dead.sock"]
    assert sorted(os.listdir(tmp_path)) == ["2-living.sock", "file"]


async def test_a_long_path(nursery: trio.Nursery, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    store = TokenStore(folder / "run")
    store.load()
    path = await started(nursery, store)
    assert path.is_socket()
    store.close()


# Other processes, of other users and in a PAG

CLIENT = """
import json, os, socket, sys
def ask(request):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1])
        s.sendall(json.dumps(request).encode() + b"\\n")
        return json.loads(s.makefile().readline())
"""


async def run(path: Path, code: str, uid: int | None = None) -> list[Any]:
    """What a program of a user prints, as JSON, a value for each line."""
    command = [sys.executable, "-I", "-S", "-c", become(uid) + CLIENT + code, str(path)]
    done = await trio.run_process(command, capture_stdout=True)
    return [json.loads(one) for one in done.stdout.splitlines()]


def become(uid: int | None) -> str:
    """Root's interpreter may be out of a user's reach, so it is left behind after its start."""
    if uid is None:
        return ""
    return f"import json, os, socket; os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"


ASK = 'print(json.dumps(ask({"v": 1, "do": "tokens"})["ok"]))\n'
SET = f'ask({{"v": 1, "do": "set", "token": {token().encode()!r}}})\n'


async def test_inside_and_outside_of_a_pag_of_one_user(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    path = await started(nursery, store)
    code = f"""
{SET.replace("example.org", "outside.org")}
number = ask({{"v": 1, "do": "begin-pag"}})["ok"]["pag"]
if os.fork() == 0:
    if os.fork() == 0:
        {SET}
        print(json.dumps([number, ask({{"v": 1, "do": "tokens"}})["ok"]]), flush=True)
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
"""
    ((number, told),) = await run(path, code)
    assert told["identity"] == f"pag-{number}"
    assert [one["cell"] for one in told["tokens"]] == ["example.org"]
    (outside,) = await run(path, ASK)
    assert outside["identity"] == ME
    assert [one["cell"] for one in outside["tokens"]] == ["outside.org"]


async def test_a_process_that_ended_speaks_for_nobody(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    """Its child has the connection, but whose number the connection bears is not known any more."""
    path = await started(nursery, store)
    code = """
s = socket.socket(socket.AF_UNIX)
reader, writer = os.pipe()
if os.fork() == 0:
    s.connect(sys.argv[1])
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)  # until the one that connected has been reaped
        s.sendall(b'{"v": 1, "do": "tokens"}\\n')
        print(s.makefile().readline(), end="", flush=True)
    os._exit(0)
os.wait()
os.close(writer)
os.close(reader)
"""
    (answer,) = await run(path, code)
    assert answer == {"v": 1, "error": "the process that asks has ended"}


@pytest.mark.skipif(os.geteuid() != 0, reason="other users' processes need root")
async def test_other_users_are_who_the_kernel_says(
    nursery: trio.Nursery, store: TokenStore
) -> None:
    path = await started(nursery, store)
    alice, bob = 54321, 54322
    (told,) = await run(path, SET + ASK, alice)
    assert told["identity"] == "uid-54321"
    assert [one["cell"] for one in told["tokens"]] == ["example.org"]
    everything = 'print(json.dumps(ask({"v": 1, "do": "tokens", "all": True})))\n'
    drop = 'print(json.dumps(ask({"v": 1, "do": "drop"})["ok"]))\n'
    told, refused, dropped = await run(path, ASK + everything + drop, bob)
    assert told == {"identity": "uid-54322", "tokens": []}
    assert refused == {"v": 1, "error": "only root may see who has tokens"}
    assert dropped == {"dropped": []}
    (seen,) = await run(path, everything)
    assert [one["identity"] for one in seen["ok"]["tokens"]] == ["uid-54321"]
    (dropped,) = await run(path, drop, alice)
    assert dropped == {"dropped": ["example.org"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="other users' processes need root")
def test_the_files_are_roots_alone(store: TokenStore) -> None:
    store.set(Identity(uid=54321), token())
    for path in ("tokens", "tokens/uid-54321.example.org", "pags"):
        code = become(54321) + "import sys; os.open(sys.argv[1], os.O_RDONLY)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, store.folder / path],
            capture_output=True,
            check=False,
        )
        assert b"PermissionError" in done.stderr


async def test_whoever_leaves_is_not_worked_for_any_longer(
    nursery: trio.Nursery, store: TokenStore, autojump_clock: MockClock
) -> None:
    begun, ended = trio.Event(), trio.Event()

    async def for_ever(request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    verbs = Verbs(store, lambda: NOW)
    verbs.add({"for-ever": for_ever})
    path = await nursery.start(ControlServer(store, verbs=verbs).run)
    async with connected(path) as stream:
        await stream.send_all(request_line("for-ever"))
        await begun.wait()
    await ended.wait()
    async with connected(path) as stream:
        with pytest.raises(ControlRefused, match="no answer within 120 s"):
            await ask(stream, "for-ever")
        assert (await ask(stream, "hello"))["pid"] == os.getpid()


async def test_who_takes_much_of_the_loop_waits(
    nursery: trio.Nursery, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not who owns the daemon; of everybody else each for himself."""
    turns: list[int] = []
    measured: list[int] = []

    class Noted(Pace):
        async def turn(self, uid: int) -> None:
            turns.append(uid)
            await super().turn(uid)

        async def measured(self, uid: int, work: Coroutine[Any, Any, Any]) -> Any:
            measured.append(uid)
            return await super().measured(uid, work)

    monkeypatch.setattr(server, "Pace", Noted)
    path = await started(nursery, store)
    for owner, expected in ((True, []), (False, [os.geteuid()])):
        monkeypatch.setattr(Peer, "owns_daemon", owner)
        async with connected(path) as stream:
            await ask(stream, "hello")
        assert turns == measured == expected
