"""What a daemon takes over from files that have changed, and what it leaves alone."""

from __future__ import annotations

import logging
import os
import signal
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse import configfile
from afsfuse.cell.directory import CellDirectory
from afsfuse.fileserver.preferences import Preferences
from afsfuse.reloading import Reloader, cell_files
from afsfuse.systemd import Notifier

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ExpectedWarnings

NETWORK, OTHER = IPv4Network("192.0.2.0/25"), IPv4Network("192.0.2.128/25")


class Machine:
    """Files, and a daemon's parts that came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.toml = folder / "afsfuse.toml"
        self.toml.write_text('serverprefs = "192.0.2.0/25=10"\n')
        self.cells(">example.org\n192.0.2.1 #db\n>second.org\n192.0.2.2 #db\n")
        (folder / "ThisCell").write_text("example.org\n")
        config = configfile.effective("afs", "/afs", [f"confdir={folder}"]).config
        self.directory = CellDirectory(cell_files(config))
        self.preferences = Preferences(config.serverprefs)
        self.reloader = Reloader(config, self.directory, self.preferences)

    def cells(self, text: str) -> None:
        (self.folder / "CellServDB").write_text(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv(configfile.OVERRIDE, str(tmp_path / "afsfuse.toml"))
    return Machine(tmp_path)


def test_nothing_has_changed(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "afsfuse"):
        machine.reloader.reload()
    assert caplog.messages == ["the configuration was read anew: nothing has changed"]


async def test_cells_are_taken_over_and_keep_who_they_are(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    second = await machine.directory.find("second.org")
    first = await machine.directory.find("example.org")
    machine.cells(">third.org\n192.0.2.3 #db\n>example.org\n192.0.2.9 #db\n")
    (machine.folder / "CellAlias").write_text("third.org 3\n")
    (machine.folder / "ThisCell").write_text("third.org\n")
    with caplog.at_level(logging.INFO, "afsfuse"):
        machine.reloader.reload()
    assert machine.directory.this_cell == "third.org"
    assert (await machine.directory.find("3")).vl_servers == (("192.0.2.3", 7003),)
    assert await machine.directory.find("example.org") is first
    assert first.vl_servers == (("192.0.2.9", 7003),)
    assert machine.directory.known_cells() == ("third.org", "example.org", "second.org")
    assert not machine.directory.configured("second.org")
    assert second.expires == 0, "the DNS is asked when somebody uses it next"
    changed = "the local cell, aliases, cell third.org, cell example.org, cell second.org"
    assert caplog.messages == [f"the configuration was read anew: {changed}"]
    machine.cells(">second.org\n192.0.2.2 #db\n>third.org #the DNS knows\n")
    machine.reloader.reload()
    assert await machine.directory.find("second.org") is second
    assert second.vl_servers == (("192.0.2.2", 7003),)


def test_ranks_are_those_of_the_file_and_what_commands_set_stays(machine: Machine) -> None:
    machine.preferences.set(IPv4Network("203.0.113.1"), 7)
    machine.toml.write_text('serverprefs = "192.0.2.128/25=20"\n')
    machine.reloader.reload()
    assert machine.preferences.rules == [(OTHER, 20), (IPv4Network("203.0.113.1"), 7)]
    machine.toml.write_text('serverprefs = "192.0.2.128/25=20:192.0.2.0/25=1"\n')
    machine.preferences.set(OTHER, 30)
    machine.reloader.reload()
    assert dict(machine.preferences.rules)[OTHER] == 30, "the file has said nothing new of it"
    assert dict(machine.preferences.rules)[NETWORK] == 1


def test_what_cannot_change_is_named_and_the_log_level_does(
    machine: Machine,
    expected_warnings: ExpectedWarnings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels: list[bool] = []
    monkeypatch.setattr("afsfuse.logs.set_level", lambda *, debug: levels.append(debug))
    expected_warnings("^expire has another value now, which the next mount will have$")
    machine.toml.write_text("debug = true\nexpire = 5\n")
    machine.reloader.reload()
    machine.reloader.reload()
    assert levels == [True]


def test_a_mistake_changes_nothing(machine: Machine, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("the configuration stays as it was: .*:1: prot: unknown key")
    machine.toml.write_text("prot = 1\n")
    machine.cells(">third.org\n192.0.2.3 #db\n")
    machine.reloader.reload()
    assert machine.directory.known_cells() == ("example.org", "second.org")


async def test_at_sighup(machine: Machine, nursery: trio.Nursery) -> None:
    done = trio.Event()
    machine.reloader.reload = done.set  # type: ignore[method-assign]
    await nursery.start(machine.reloader.run, Notifier())
    os.kill(os.getpid(), signal.SIGHUP)
    with trio.fail_after(10):
        await done.wait()
