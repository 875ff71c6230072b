"""The unit files: what systemd says of them, and the daemon confined as they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse import configfile
from afsfuse.auth.folders import OVERRIDE
from afsfuse.fuse import mount
from tests.docs.pages import PAGES, blocks
from tests.docs.vocabulary import commands
from tests.mount import confined
from tests.mount.harness import ROOT, Children, clear, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = ROOT / "systemd"
SYSTEM = ("afsfuse.service", "afsfuse@.service")
PROGRAM = Path(sys.executable).parent / "afsfuse"

EXPOSURE = 4.9
"""What `systemd-analyze security` of systemd 252 says of the system's units. It may only fall."""

OWN_MOUNT_TABLE = (
    *("BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionImages"),
    *("InaccessiblePaths", "LogNamespace", "MountAPIVFS", "MountFlags", "MountImages"),
    *("NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp", "ProcSubset"),
    *("ProtectControlGroups", "ProtectHome", "ProtectKernelLogs", "ProtectKernelModules"),
    *("ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths"),
    *("RootDirectory", "RootImage", "TemporaryFileSystem"),
)
"""Settings with which nobody else would see a mount. Source: systemd.exec(5)"""

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units in one folder, with the program where it is."""
    folder = tmp_path_factory.mktemp("units")
    for unit in [*UNITS.glob("*.*"), *UNITS.glob("examples/*")]:
        text = unit.read_text().replace("/usr/bin/afsfuse", str(PROGRAM))
        (folder / unit.name).write_text(text)
    return folder


def run(folder: Path, *words: str, **more: str) -> str:
    """What a command says, which must end well."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**os.environ, **more}, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@analyze
def test_systemd_finds_nothing_wrong(installed: Path, tmp_path: Path) -> None:
    units = ["afsfuse.service", "afsfuse@srv-project.service", "afs.mount", "afs.automount"]
    said = run(installed, "systemd-analyze", "verify", "--man=no", *(f"./{one}" for one in units))
    assert "afs" not in re.sub(r"openafs\S*", "", said), said
    own = tmp_path / "afsfuse.service"
    own.write_text(
        (UNITS / "user" / own.name).read_text().replace("/usr/bin/afsfuse", str(PROGRAM))
    )
    words = ["systemd-analyze", "verify", "--man=no", "--user", "./afsfuse.service"]
    assert "afsfuse" not in run(tmp_path, *words, XDG_RUNTIME_DIR=str(tmp_path))


@analyze
@pytest.mark.parametrize("unit", ["afsfuse.service", "afsfuse@srv-project.service"])
def test_the_exposure_only_falls(
    installed: Path, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"./{unit}"]
    said = run(installed, *words)
    score = float(re.findall(r"exposure level for \S+: ([\d.]+)", said)[0])
    version = run(installed, "systemd-analyze", "--version").split()[1]
    with capsys.disabled():
        print(f" [exposure of {unit}: {score} by systemd {version}]", end="")
    if version == "252":
        assert score <= EXPOSURE, "it has risen"
        assert score >= EXPOSURE, "well done: write the new figure down"
    reasons = (UNITS / "afsfuse.service").read_text().partition("# What had to stay open")[2]
    for line in said.splitlines():
        if line.startswith("✗"):
            starts = named(line.split()[1])
            assert [word for word in re.findall(r"@?\w+", reasons) if word.startswith(starts)], line


def named(setting: str) -> tuple[str, ...]:
    """How words begin of which one names a setting, from what systemd-analyze writes of it."""
    if group := re.search(r"(\w+)\(([^)]*)\)", setting):  # such as CAP_(DAC_*|FOWNER|IPC_OWNER)
        return tuple(group[1] + ending.rstrip("*") for ending in group[2].split("|"))
    value = setting.partition("=~")[2]
    return (value,) if value else tuple(re.findall(r"\w+", setting))


def test_nothing_hides_the_mount_and_the_units_agree() -> None:
    first, second = (confined.settings(UNITS / name) for name in SYSTEM)
    for found in (first, second, confined.settings(UNITS / "user" / "afsfuse.service")):
        assert not set(found) & set(OWN_MOUNT_TABLE)
        assert found["Type"] == ["notify"]
        seconds = int(found["TimeoutStopSec"][0])
        assert seconds > 60 + 8, "storing, and giving promises back"
    different = {name for name in first if first[name] != second.get(name)}
    assert different == {"Description", "ExecStartPre", "ExecStart", "ExecStopPost"}
    reasons = (UNITS / "afsfuse.service").read_text().partition("# What had to stay open")[2]
    for word in first["CapabilityBoundingSet"][0].split():
        assert re.search(rf"^# [^:]*\b{word}\b[^:]*: ", reasons, re.MULTILINE), word


def test_a_users_unit_leaves_fusermount_its_rights() -> None:
    """Each of these implies NoNewPrivileges there. Source: systemd.exec(5)"""
    found = confined.settings(UNITS / "user" / "afsfuse.service")
    assert not [name for name in found if name.startswith(("Restrict", "SystemCall", "Protect"))]
    assert not {"NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute"} & set(found)


SPOKEN = [
    command.text.removeprefix("sudo ")
    for page in PAGES
    for block in blocks(page)
    for command in (commands(block) if block.language == "sh" else [])
    if command.text.removeprefix("sudo ").startswith("systemctl ")
]


@pytest.mark.parametrize("line", SPOKEN)
def test_units_of_which_the_pages_speak(line: str) -> None:
    """They are there, and can do what is told: enable, reload, stop."""
    words = shlex.split(line.replace("$(systemd-escape --path ", "$("), comments=True)
    path = UNITS / ("user" if "--user" in words else ".") / re.sub("@.*", "@.service", words[-1])
    found = confined.settings(path)
    assert "enable" not in words or found["WantedBy"]
    assert "reload" not in words or found["ExecReload"]
    assert "stop" not in words or found["TimeoutStopSec"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        yield manager


def until(manager: socket.socket, wanted: str) -> str:
    """The next message with this in it."""
    while wanted not in (message := manager.recv(4096).decode()):
        pass
    return message


@analyze
@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to confine, and be confined")
def test_the_daemon_lives_confined(
    manager: socket.socket, tmp_path: Path, children: Children
) -> None:
    """Its whole life: ready, fed, reloaded, looking at processes, ended."""
    found = confined.settings(UNITS / "afsfuse.service")
    (words,) = (shlex.split(value) for value in found["ExecStart"])
    assert words[0] == "/usr/bin/afsfuse"
    conf, theirs = tmp_path / "conf", tmp_path / "theirs"
    conf.mkdir()
    (conf / "ThisCell").write_text("example.org\n")
    (conf / "CellServDB").write_text(">example.org\n192.0.2.1 #db\n")
    directory = theirs / "mnt"
    directory.mkdir(parents=True)
    for path in (directory, theirs):  # root walks through by CAP_DAC_READ_SEARCH alone
        os.chown(path, 1234, 1234)
        path.chmod(0o700)
    command = [str(PROGRAM), *words[1:-1], str(directory), "-o", f"confdir={conf}"]
    daemon = children.start(
        "env", f"NOTIFY_SOCKET={tmp_path}/notify", "WATCHDOG_USEC=900000",
        f"{OVERRIDE}={tmp_path}/run",
        sys.executable, "-m", "tests.mount.confined", str(UNITS / "afsfuse.service"), *command,
        cwd=ROOT,
    )  # fmt: skip
    try:
        assert until(manager, "READY=1").endswith("STATUS=mounted; 0 tokens; everything is stored")
        assert "example.org" in os.listdir(directory)
        until(manager, "WATCHDOG=1")
        (conf / "CellServDB").write_text(">example.org\n192.0.2.1 #db\n>new.org\n192.0.2.2 #db\n")
        daemon.send_signal(signal.SIGHUP)  # as ExecReload does
        assert "MONOTONIC_USEC=" in until(manager, "RELOADING=1")
        until(manager, "READY=1")
        wait_until(lambda: "new.org" in os.listdir(directory), "the new cell")
        daemon.send_signal(signal.SIGTERM)
        until(manager, "STOPPING=1")
        _, err = daemon.communicate(timeout=30)
        assert daemon.returncode == 0, err
        assert mount.find_mount(str(directory)) is None
        assert b"Operation not permitted" not in err
    finally:
        clear(directory)


@pytest.mark.mount
@pytest.mark.parametrize("unit", ["afsfuse.service", "user/afsfuse.service"])
def test_a_killed_daemon_is_cleared_away_and_one_that_lives_is_not(
    unit: str, tmp_path: Path, children: Children
) -> None:
    """The lines of a unit in the order in which systemd runs them, by hand."""
    found = confined.settings(UNITS / unit)
    directory, conf = tmp_path / "mnt", tmp_path / "conf"
    conf.mkdir()
    (conf / "ThisCell").write_text("example.org\n")
    (conf / "CellServDB").write_text(">example.org\n192.0.2.1 #db\n")

    def words(setting: str) -> list[str]:
        (line,) = found[setting]
        assert setting == "ExecStart" or line.startswith("-"), "its failure is no failure"
        first, *rest, _ = shlex.split(line.removeprefix("-"))
        program = str(PROGRAM) if first == "/usr/bin/afsfuse" else first
        return [program, *rest, str(directory)]

    def run_by_itself(setting: str) -> None:
        subprocess.run(words(setting), check=False, timeout=60, capture_output=True)

    def start(file: str = "none") -> subprocess.Popen[bytes]:
        options = ["-o", f"confdir={conf},cachedir=none"]
        own = [f"{OVERRIDE}={tmp_path}/run", f"{configfile.OVERRIDE}={file}"]
        return children.start("env", *own, *words("ExecStart"), *options)

    def started() -> subprocess.Popen[bytes]:
        run_by_itself("ExecStartPre")
        daemon = start()
        wait_until(lambda: mount.find_mount(str(directory)) is not None, "the mount")
        wait_until(lambda: not mount.is_dead(str(directory)), "an answer")
        # What is answered before may be the directory below, from which a dead mount has just gone.
        wait_until(lambda: "example.org" in os.listdir(directory), "the cell")
        return daemon

    try:
        first = started()
        first.kill()
        first.communicate(timeout=30)
        assert mount.is_dead(str(directory)), "ExecStopPost has not been run"
        second = started()
        third = start()
        third.communicate(timeout=60)
        run_by_itself("ExecStopPost")
        assert third.returncode == mount.EXIT_MOUNT
        assert str(third.returncode) not in found["RestartPreventExitStatus"]
        assert "example.org" in os.listdir(directory), "it is not the third one's to remove"
        second.kill()
        second.communicate(timeout=30)
        run_by_itself("ExecStopPost")
        assert mount.find_mount(str(directory)) is None
        run_by_itself("ExecStopPost")
        (tmp_path / "file").write_text("crypto = true\n")
        mistaken = start(f"{tmp_path}/file")
        mistaken.communicate(timeout=60)
        assert found["RestartPreventExitStatus"] == [str(mistaken.returncode)]
    finally:
        clear(directory)
