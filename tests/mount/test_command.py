"""The command `afsfuse` with real mounts; no cell is needed for the dynamic root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import mount
from tests.mount.harness import ROOT, Children, clear, state_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

CELLSERVDB = """\
>example.org        #Example
192.0.2.1           #db.example.org
this line is wrong
>second.example.org
192.0.2.2           #db.second.example.org
"""


class Command:
    """Runs `afsfuse` with a configuration folder and a directory of its own."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.confdir = folder / "conf"
        self.confdir.mkdir()
        (self.confdir / "ThisCell").write_text("example.org\n")
        (self.confdir / "CellServDB").write_text(CELLSERVDB.replace("this line is wrong\n", ""))
        self.directory = folder / "mnt"
        self.directory.mkdir()
        self.log = folder / "log"
        self._children = children

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
        return self._children.run(sys.executable, "-m", "afsfuse", *words, cwd=ROOT)

    def options(self, *more: str) -> str:
        # Documentation addresses answer nobody; any port, as tests run side by side.
        return ",".join([f"confdir={self.confdir}", f"logfile={self.log}", *more])

    def start(self, *more: str, source: str = "afs") -> subprocess.CompletedProcess[bytes]:
        return self("mount", source, self.directory, "-o", self.options(*more))

    def popen(self, *more: str) -> subprocess.Popen[bytes]:
        """In the foreground."""
        words = ["mount", "afs", str(self.directory), "-f", "-o", self.options(*more)]
        process = self._children.start(sys.executable, "-m", "afsfuse", *words, cwd=ROOT)
        wait_until(lambda: self.shown is not None and os.path.ismount(self.directory), "the mount")
        return process

    @property
    def shown(self) -> mount.Mount | None:
        return mount.find_mount(str(self.directory))

    @property
    def pid(self) -> int:
        return int(os.getxattr(self.directory, "afsfuse.pid"))


@pytest.fixture
def afsfuse(tmp_path: Path, children: Children) -> Iterator[Command]:
    command = Command(tmp_path.resolve(), children)
    yield command
    if command.shown is not None:
        command("umount", "-l", command.directory)
    clear(command.directory)


def test_mount_returns_when_the_mount_answers_and_umount_when_the_daemon_is_gone(
    afsfuse: Command,
) -> None:
    done = afsfuse.start()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "example.org" in os.listdir(afsfuse.directory)
    assert os.readlink(afsfuse.directory / "@cell") == "example.org"
    shown = afsfuse.shown
    assert shown is not None
    assert (shown.type, shown.source) == ("fuse.afs", "afs")
    assert "allow_other" in shown.options
    pid = afsfuse.pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) != os.getsid(0)
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}

    done = afsfuse("umount", afsfuse.directory)
    assert (done.returncode, done.stderr) == (0, b"")
    assert afsfuse.shown is None
    assert state_of(pid) in ("", "Z")


def test_in_the_background_a_hangup_reloads(afsfuse: Command) -> None:
    assert afsfuse.start().returncode == 0
    (afsfuse.confdir / "CellServDB").write_text(">fresh.org\n192.0.2.3 #db.fresh.org\n")
    os.kill(afsfuse.pid, signal.SIGHUP)
    wait_until(lambda: "fresh.org" in os.listdir(afsfuse.directory), "the new cell")
    assert "the configuration was read anew: " in afsfuse.log.read_text()


def test_nothing_inherited_stays_open_in_the_daemon(afsfuse: Command) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = [sys.executable, "-m", "afsfuse", "mount", "afs", str(afsfuse.directory)]
    subprocess.run([*command, "-o", afsfuse.options()], pass_fds=[writer], cwd=ROOT, check=True)
    os.close(writer)
    os.set_blocking(reader, False)
    assert os.read(reader, 1) == b""  # the end: nobody holds the other side
    os.close(reader)


def test_without_standard_streams(afsfuse: Command, children: Children) -> None:
    """As some supervisors start what they start."""
    words = ["mount", "afs", str(afsfuse.directory), "-o", afsfuse.options()]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "afsfuse"]
    assert children.run(*closed, *words, cwd=ROOT).returncode == 0
    descriptors = {os.readlink(f"/proc/{afsfuse.pid}/fd/{number}") for number in range(3)}
    assert descriptors == {"/dev/null"}
    assert children.run(*closed, *words, cwd=ROOT).returncode == 32
    assert children.run(*closed, "umount", afsfuse.directory, cwd=ROOT).returncode == 0


def test_options_reach_the_mount(afsfuse: Command) -> None:
    done = afsfuse.start("nosubtype", "noallow_other", "noexec", "ro", "_netdev", "x-a=b")
    assert done.returncode == 0
    shown = afsfuse.shown
    assert shown is not None
    assert shown.type == "fuse"
    assert "allow_other" not in shown.options
    assert afsfuse("umount", afsfuse.directory).returncode == 0
    assert afsfuse.shown is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_in_the_foreground_a_signal_ends_it_with_success(
    afsfuse: Command, number: signal.Signals
) -> None:
    process = afsfuse.popen()
    assert process.pid == afsfuse.pid
    assert "example.org" in os.listdir(afsfuse.directory)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert afsfuse.shown is None
    log = afsfuse.log.read_text()
    assert "mounted afs at" in log
    assert f"{number.name}: unmounting" in log


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a location server that says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}", 7003))
        server.setblocking(True)
        yield server.getsockname()[0]


def test_a_signal_before_it_is_mounted(afsfuse: Command, children: Children, silent: str) -> None:
    """Nothing is there then, so it is no success, and no bug either."""
    (afsfuse.confdir / "CellServDB").write_text(f">example.org\n{silent} #db\n")
    words = ["mount", "#example.org:root.cell.", str(afsfuse.directory)]
    said = f"afsfuse: {afsfuse.directory}: interrupted before it was mounted\n".encode()
    for foreground in ([], ["-f"]):
        afsfuse.log.write_text("")
        command = [sys.executable, "-m", "afsfuse", *words, "-o", afsfuse.options(), *foreground]
        process = children.start(*command, cwd=ROOT)
        wait_until(lambda: "control socket " in afsfuse.log.read_text(), "the start")
        pid = int(afsfuse.log.read_text().partition("control socket ")[2].partition("-")[0])
        os.kill(pid, signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (8, said)


def test_umount_outside_ends_the_foreground(afsfuse: Command) -> None:
    process = afsfuse.popen()
    assert afsfuse("umount", afsfuse.directory).returncode == 0
    assert process.wait(30) == 0


def test_a_dead_mount_is_cleared(afsfuse: Command) -> None:
    assert afsfuse.start().returncode == 0
    os.kill(afsfuse.pid, signal.SIGKILL)
    wait_until(lambda: mount.is_dead(str(afsfuse.directory)), "the daemon is dead")
    assert afsfuse.shown is not None
    assert afsfuse.start().returncode == 0
    assert "example.org" in os.listdir(afsfuse.directory)
    assert afsfuse("umount", afsfuse.directory).returncode == 0
    assert afsfuse.shown is None


def test_a_dead_mount_is_unmounted(afsfuse: Command) -> None:
    assert afsfuse.start().returncode == 0
    os.kill(afsfuse.pid, signal.SIGKILL)
    wait_until(lambda: mount.is_dead(str(afsfuse.directory)), "the daemon is dead")
    assert afsfuse("umount", afsfuse.directory).returncode == 0
    assert afsfuse.shown is None


def test_a_malformed_line_is_named_and_skipped(afsfuse: Command) -> None:
    (afsfuse.confdir / "CellServDB").write_text(CELLSERVDB)
    done = afsfuse.start()
    assert done.returncode == 0
    assert f"{afsfuse.confdir}/CellServDB:3".encode() in done.stderr
    assert {"example.org", "second.example.org"} <= set(os.listdir(afsfuse.directory))


def test_two_clients_do_not_fight_for_the_port(
    afsfuse: Command, tmp_path: Path, children: Children
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    second = Command(other, children)
    try:
        assert afsfuse.start().returncode == 0
        assert second.start().returncode == 0
        assert "example.org" in os.listdir(second.directory)
    finally:
        second("umount", second.directory)


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line that a failed command says."""
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("afsfuse: ")
    assert done.stdout == b""
    return line


def test_a_port_that_is_taken(afsfuse: Command) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = afsfuse.start(f"port={port}", "bind=127.0.0.1")
    assert done.returncode == 2
    assert complaint(done).startswith(f"afsfuse: UDP port {port} at 127.0.0.1: taken")
    assert afsfuse.shown is None


def test_an_address_of_another_machine(afsfuse: Command) -> None:
    done = afsfuse.start("bind=192.0.2.77")
    assert done.returncode == 2
    assert "not an address of this machine: correct -o bind=" in complaint(done)


def test_a_directory_that_is_in_use(afsfuse: Command) -> None:
    assert afsfuse.start().returncode == 0
    done = afsfuse.start()
    assert done.returncode == 32
    assert "busy: afs (type fuse.afs) is mounted there" in complaint(done)
    assert "example.org" in os.listdir(afsfuse.directory), "the first one is not hurt"


def test_a_directory_that_is_missing_or_none(afsfuse: Command, tmp_path: Path) -> None:
    done = afsfuse("mount", "afs", tmp_path / "missing", "-o", afsfuse.options())
    assert done.returncode == 32
    assert complaint(done).endswith("missing: no such directory: create it with mkdir -p")
    done = afsfuse("mount", "afs", afsfuse.log, "-o", afsfuse.options())
    assert done.returncode == 32
    assert "not a directory" in complaint(done)


def test_a_cell_that_nobody_knows(afsfuse: Command) -> None:
    done = afsfuse.start(source="#nosuchcell:root.cell.")
    assert done.returncode == 32
    assert "nosuchcell" in complaint(done)
    assert afsfuse.shown is None


def test_a_log_file_that_cannot_be_written(afsfuse: Command) -> None:
    done = afsfuse.start("logfile=/nowhere/log")
    assert done.returncode == 1
    assert "/nowhere/log: the log cannot be written there" in complaint(done)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to hide /dev/fuse")
def test_no_device(afsfuse: Command, children: Children) -> None:
    script = 'mount --make-rprivate / && mount --bind /dev/null /dev/fuse && exec "$@"'
    words = ["mount", "afs", str(afsfuse.directory), "-o", afsfuse.options()]
    done = children.run(
        *("unshare", "--mount", "sh", "-c", script, "sh"),
        *(sys.executable, "-m", "afsfuse", *words),
        cwd=ROOT,
    )
    assert done.returncode != 0
    complaint(done)
    assert afsfuse.shown is None


def test_what_is_not_ours_is_not_unmounted(afsfuse: Command) -> None:
    done = afsfuse("umount", afsfuse.directory)
    assert done.returncode == 32
    assert complaint(done).endswith("nothing is mounted there")
    done = afsfuse("umount", "/proc")
    assert done.returncode == 32
    assert "is not ours" in complaint(done)


def test_a_busy_mount_is_told_and_stays(afsfuse: Command, children: Children) -> None:
    assert afsfuse.start().returncode == 0
    user = children.start("sleep", "60", cwd=afsfuse.directory)
    wait_until(lambda: state_of(user.pid) == "S", "a process inside")
    done = afsfuse("umount", afsfuse.directory)
    assert done.returncode == 32
    assert "fuser -m" in complaint(done)
    assert "example.org" in os.listdir(afsfuse.directory)
    assert afsfuse("umount", "-l", afsfuse.directory).returncode == 0
    user.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to copy the mount table")
def test_a_mount_that_goes_on_elsewhere_is_told(afsfuse: Command, children: Children) -> None:
    assert afsfuse.start().returncode == 0
    shown = afsfuse.shown
    assert shown is not None
    copy = children.start("unshare", "--mount", "sleep", "60")
    wait_until(lambda: any(mount.copies_elsewhere(shown.device)), "the copy")
    wait_until(lambda: os.readlink(f"/proc/{copy.pid}/exe").endswith("sleep"), "the copy's owner")
    pid = afsfuse.pid
    done = afsfuse("umount", afsfuse.directory)
    assert done.returncode == 0
    said = f"unmounted here, but not in the mount namespace of sleep (process {copy.pid})"
    assert said in complaint(done)
    assert afsfuse.shown is None
    copy.kill()
    wait_until(lambda: state_of(pid) in ("", "Z"), "the daemon ends with the last copy")


def test_interrupting_the_command_ends_the_daemon(afsfuse: Command, children: Children) -> None:
    (afsfuse.confdir / "CellServDB").write_text(">example.org\n127.0.0.77 #silent\n")
    words = ["mount", "#example.org:root.cell.", str(afsfuse.directory), "-o", afsfuse.options()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.77", 7003))
        silent.settimeout(30)
        process = children.start(sys.executable, "-m", "afsfuse", *words, cwd=ROOT)
        silent.recv(2000)  # the daemon has asked for the volume
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (8, b"afsfuse: interrupted\n")
        wait_until(lambda: "SIGTERM: unmounting" in afsfuse.log.read_text(), "the daemon's end")
    assert afsfuse.shown is None
