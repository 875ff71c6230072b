"""What systemd is told: over real sockets, with a path and with an abstract name."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.systemd import Notifier, Watch, asks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Manager:
    """The service manager's end of the protocol."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(10)

    def message(self) -> dict[str, str]:
        """The next one."""
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(10)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@afsfuse-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify"
    manager = Manager(name)
    yield manager
    manager.close()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back whoever removes it
        monkeypatch.delenv(name)
    return monkeypatch


def test_a_message_is_one_datagram_of_lines(
    manager: Manager, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("NOTIFY_SOCKET", manager.address)
    notifier = Notifier.from_environment()
    assert notifier.active
    assert "NOTIFY_SOCKET" not in os.environ, "children have no part in it"
    notifier.tell(READY=1, STATUS="two\nlines \udcff")
    assert manager.message() == {"READY": "1", "STATUS": "two lines ?"}


def test_a_reload_is_bracketed(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    before = time.monotonic_ns() // 1000
    with contextlib.suppress(ValueError), notifier.reloading():
        message = manager.message()
        raise ValueError("whatever goes wrong")
    assert message["RELOADING"] == "1"
    assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert manager.message() == {"READY": "1"}


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("30000000", "", 30.0),
        ("1500000", "own", 1.5),
        ("30000000", "1", None),
        ("", "own", None),
        ("0", "own", None),
        ("soon", "own", None),
    ],
)
def test_whether_the_watchdog_watches_us(
    environment: pytest.MonkeyPatch, microseconds: str, pid: str, seconds: float | None
) -> None:
    environment.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    environment.setenv("WATCHDOG_USEC", microseconds)
    environment.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert Notifier.from_environment().watchdog == seconds


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
def test_nobody_is_told_without_a_manager(environment: pytest.MonkeyPatch, address: str) -> None:
    environment.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier.from_environment()
    assert not notifier.active
    notifier.tell(READY=1)


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nowhere")).tell(READY=1)


async def well() -> bool:
    return True


async def test_ready_after_the_mount_answers_then_food_at_a_third_of_the_time(
    manager: Manager, nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    answers = {2.0: True, 12.5: False, 13.0: True}
    begin = trio.current_time()

    async def answer() -> bool:
        now = trio.current_time() - begin
        return [value for since, value in answers.items() if since <= now][-1:] == [True]

    nursery.start_soon(Watch(Notifier(manager.address, 30.0), answer, lambda: "fine").run)
    await trio.sleep(1.5)
    assert manager.silent(), "nothing answers yet"
    await trio.sleep(1)
    assert manager.message() == {"READY": "1", "STATUS": "fine"}
    await trio.sleep(8)
    assert manager.silent()
    await trio.sleep(2)
    assert manager.message() == {"WATCHDOG": "1", "STATUS": "fine"}
    answers[20.0], answers[35.0] = False, True
    await trio.sleep(21)
    assert manager.silent(), "it does not answer"
    await trio.sleep(3)
    assert manager.message() == {"WATCHDOG": "1", "STATUS": "fine"}


async def test_a_mount_that_hangs_starves_the_watchdog(
    manager: Manager, nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    hang = trio.Event()
    hang.set()
    watch = Watch(Notifier(manager.address, 30.0), lambda: answer(), lambda: "")

    async def answer() -> bool:
        await hang.wait()
        return True

    nursery.start_soon(watch.run)
    await trio.sleep(1)
    assert manager.message()["READY"] == "1"
    hang = trio.Event()
    await trio.sleep(300)
    assert manager.silent()
    hang.set()
    await trio.sleep(1)
    assert manager.message()["WATCHDOG"] == "1"


async def test_without_a_watchdog_only_the_status_is_told(
    manager: Manager, nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    nursery.start_soon(Watch(Notifier(manager.address), well, lambda: "well").run)
    await trio.sleep(11)
    assert manager.message() == {"READY": "1", "STATUS": "well"}
    assert manager.message() == {"STATUS": "well"}


async def test_the_end_says_what_is_left_and_asks_for_time(
    manager: Manager, nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    left = ["2 files", "2 files", "1 file", "nothing"]
    watch = Watch(Notifier(manager.address), well, lambda: "well")
    async with watch.farewell(lambda: left.pop(0)):
        await trio.sleep(3)
    assert manager.message() == {"STOPPING": "1", "STATUS": "2 files"}
    assert manager.message() == {"EXTEND_TIMEOUT_USEC": "15000000", "STATUS": "2 files"}
    assert manager.message() == {"EXTEND_TIMEOUT_USEC": "15000000", "STATUS": "1 file"}
    assert manager.message() == {"STATUS": "nothing"}
    await watch.run()
    assert manager.silent(), "it is not ready any more"


async def test_an_error_is_an_answer_but_not_that_nobody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await asks(str(tmp_path), "afsfuse.pid")()
    assert await asks(str(tmp_path / "missing"), "afsfuse.pid")()

    def gone(*_: object) -> bytes:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(os, "getxattr", gone)
    assert not await asks(str(tmp_path), "afsfuse.pid")()
