"""The end of a daemon that has data to store, as systemd is told of it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from afsfuse import ending
from afsfuse.errors import ViceCode
from afsfuse.fuse import mount
from tests.mount.harness import Children, wait_until
from tests.mount.test_writing import WRITER
from tests.mount.writing import WritableMount

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

LEFT = "STATUS=1000 bytes of 1 file are not stored"


class Service:
    """A mount, and the service manager that is told of it."""

    def __init__(self, folder: Path, manager: socket.socket) -> None:
        self.mount = WritableMount(folder, "debug,finish=20")
        self._manager = manager

    def message(self, wanted: str) -> list[str]:
        """The lines of the next message with this in it."""
        while wanted not in (message := self._manager.recv(4096).decode()):
            pass
        return message.split("\n")


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        service = Service(tmp_path.resolve(), manager)
        monkeypatch.delenv("NOTIFY_SOCKET")
        service.message("READY=1")
        yield service
        service.mount.end()


def write(service: Service, children: Children) -> subprocess.Popen[bytes]:
    return children.start(sys.executable, "-S", "-c", WRITER, service.mount / "f0", "1000")


def test_it_stores_and_asks_for_the_time(service: Service, children: Children) -> None:
    service.mount.order("abort", "STORE_DATA64", int(ViceCode.VBUSY), 1000)
    writer = write(service, children)
    wait_until(lambda: service.mount.order("calls").get("StoreData64"), "the store is under way")
    service.mount.process.send_signal(signal.SIGTERM)
    assert service.message("STOPPING=1") == ["STOPPING=1", LEFT]
    assert service.message("EXTEND_TIMEOUT_USEC") == ["EXTEND_TIMEOUT_USEC=15000000", LEFT]
    service.mount.order("clear")
    assert service.message("everything") == ["STATUS=everything is stored"]
    assert service.mount.process.wait(30) == 0
    writer.wait(30)


def test_it_says_what_is_left(service: Service, children: Children) -> None:
    service.mount.order("abort", "STORE_DATA64", int(ViceCode.VDISKFULL), 1000)
    out, _ = write(service, children).communicate(timeout=30)
    assert out == b"close %d\n" % errno.ENOSPC
    service.mount.process.send_signal(signal.SIGTERM)
    service.message("STOPPING=1")
    while service.message(LEFT) != [LEFT]:  # the last one
        pass
    assert f"f0: 1000 bytes of uid-{os.getuid()} are not stored" in service.mount.unmount()


def test_umount_tells_what_is_left_if_the_daemon_gets_no_further(
    service: Service,
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    service.mount.order("abort", "STORE_DATA64", int(ViceCode.VBUSY), 1000)
    writer = write(service, children)
    wait_until(lambda: service.mount.order("calls").get("StoreData64"), "the store is under way")
    writer.kill()
    writer.wait(30)
    # The number of the file system is free by now, and another mount may have it.
    copy = ("stranger (process 1)", str(tmp_path))
    monkeypatch.setattr(mount, "copies_elsewhere", lambda _: iter([copy]))
    monkeypatch.setattr(ending, "COPY_SECONDS", 0.1)
    monkeypatch.setattr(ending, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(ending, "FAREWELL_SECONDS", 0.5)
    assert ending.end(str(service.mount.point)) == 0
    told = "unmounted, but its daemon still runs, and 1000 bytes are not stored yet: see the log"
    assert capsys.readouterr().err == f"afsfuse: {service.mount.point}: {told}\n"
    service.mount.order("clear")
    assert service.message("everything") == ["STATUS=everything is stored"]
