"""Which daemon serves a path: by its device, among those that answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.control.places import Daemon, Place
from afsfuse.errors import ControlRefused, NoDaemon
from afsfuse.tools import daemons

if TYPE_CHECKING:
    from pathlib import Path


class Fake(Daemon):
    """One that answers without a socket."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, object]]] = []

    def ask(self, verb: str, seconds: float = 1.0, /, **arguments: object) -> dict[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.asked.append((verb, arguments))
        return self.answer


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[Daemon]:
    """The daemons of this place."""
    found: list[Daemon] = []
    monkeypatch.setattr(Place, "daemons", lambda self: found if self.folder == place else [])
    return found


def device_of(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def test_the_one_of_the_device_is_asked(answering: list[Daemon], tmp_path: Path) -> None:
    right = Fake({"device": device_of(tmp_path), "directory": "/afs", "pid": 7})
    answering += [Fake(NoDaemon("dead")), Fake({"device": "0:0", "directory": "/x"}), right]
    with daemons.of(str(tmp_path)) as served:
        served.ask("volume", more=1)
        assert (served.path, served.directory) == (str(tmp_path), "/afs")
    assert right.asked[-1] == (
        "volume",
        {"device": device_of(tmp_path), "inode": tmp_path.stat().st_ino, "more": 1},
    )


def test_links_are_followed_or_not(answering: list[Daemon], tmp_path: Path) -> None:
    answering.append(Fake({"device": device_of(tmp_path), "directory": "/afs"}))
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for follow, status in ((True, link.stat()), (False, link.lstat())):
        with daemons.of(str(link), follow=follow) as served:
            assert served.inode == status.st_ino


def test_what_nobody_serves(answering: list[Daemon], tmp_path: Path) -> None:
    for path in (str(tmp_path), "/proc"):
        with pytest.raises(daemons.Elsewhere, match="not in an AFS file system"):
            daemons.of(path).__enter__()
        with pytest.raises(daemons.Elsewhere, match="not in an AFS file system"):
            daemons.around(path)
    with pytest.raises(FileNotFoundError):
        daemons.of(str(tmp_path / "nowhere")).__enter__()
    answering.append(Fake(ControlRefused("the daemon does not answer")))
    with pytest.raises(daemons.Elsewhere, match="any daemon that answers"):
        daemons.of(str(tmp_path)).__enter__()


def test_a_path_by_its_name_alone(answering: list[Daemon]) -> None:
    """Of something that is not even there, in the mount of /proc."""
    with open("/proc/self/mountinfo") as table:
        fields = [line.split() for line in table]
    device = next(words[2] for words in reversed(fields) if words[4] == "/proc")
    proc = Fake({"device": device, "directory": "/proc"})
    answering.append(proc)
    assert daemons.around("/proc/there/../is/none") == (proc, "/is/none")
    assert daemons.around("/proc") == (proc, "/")
