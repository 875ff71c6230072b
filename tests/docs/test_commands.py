"""Every command line in the pages is run; which are not, and why, is told. See `vocabulary`."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse.auth.folders import OVERRIDE
from afsfuse.manual import examples
from tests.docs.examplecell import CELL, PASSWORD
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.shell import (
    SECONDS,
    Names,
    bash,
    belongings,
    environment,
    run_block,
    shape,
    write_stand_ins,
)
from tests.docs.vocabulary import COMMANDS, OTHERS, Need, commands, understand
from tests.mount.harness import clear
from tests.mount.usersmount import beside, loopback_address
from tests.unit.rxrpc.programs.commands import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.desk import Desk

ADDRESSES = ("192.0.2.1", "192.0.2.2", "192.0.2.100", "192.0.2.0", "fs1.example.org")
"""The two file servers, the client and the network in the pages, and a server by its name."""
MANUAL = [
    Block("afsfuse(1)", 1, "sh", Need.APART.value, examples.AFSFUSE),
    Block("afsfuse-fs(1)", 1, "sh", Need.CELL.value, examples.FS),
]
"""The examples of the manual pages."""
ALL = [*(block for page in PAGES for block in blocks(page)), *MANUAL]
RUN = [block for block in ALL if block.language in COMMANDS]


def those(*needs: Need) -> pytest.MarkDecorator:
    """The blocks that need one of these."""

    def needed(block: Block) -> bool:
        try:
            return understand(block).need in needs
        except ValueError:
            return False  # what the first test is for

    return pytest.mark.parametrize("block", [block for block in RUN if needed(block)], ids=str)


def test_every_block_says_what_it_needs() -> None:
    assert len(RUN) > 10
    for block in ALL:
        if block.language not in COMMANDS:
            assert block.language in OTHERS, f"{block}: what language is that?"
            hidden = re.findall(
                r"^(?:\$ |sudo |make |afsfuse |python ).*", block.text, re.MULTILINE
            )
            assert block.language != "text" or not hidden, f"{block}: commands: {hidden}"
            continue
        understand(block)
        assert commands(block), f"{block}: no command"


@dataclass
class Place:
    """A cell, and where it can be used."""

    folder: Path
    names: Names
    env: dict[str, str]
    servers: tuple[str, str]

    @property
    def point(self) -> Path:
        return self.folder / "afs"

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return bash(script, self.folder / "home", self.env)

    def apart(self, folder: Path) -> Place:
        """The same cell for somebody who has no mount, and nothing at home yet."""
        for name in ("home", "afs"):
            (folder / name).mkdir()
        table = {**self.names.table, "/afs": str(folder / "afs"), "~": str(folder / "home")}
        env = {**self.env, "HOME": str(folder / "home"), OVERRIDE: str(folder / "run")}
        return Place(folder, Names(table), env, self.servers)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The cell example.org, mounted."""
    folder = tmp_path_factory.mktemp("documentation").resolve()
    servers = loopback_address(), loopback_address()
    client = beside(servers[0])
    point, confdir, home = folder / "afs", folder / "conf", folder / "home"
    for path in (point, confdir, home, home / "project"):
        path.mkdir()
    (home / "project" / "draft.txt").write_text("Nothing yet.\n")
    (home / "password").write_text(f"{PASSWORD}\n")
    write_stand_ins(folder / "bin", confdir)
    env = environment(home, folder / "bin", **{OVERRIDE: str(folder / "run")})
    network = beside(servers[0], 0)
    addresses = dict(zip(ADDRESSES, (*servers, client, network, servers[0]), strict=True))
    names = Names({"/afs": str(point), "~": str(home), **addresses})
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.docs.examplecell", point, confdir, *servers],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"mounted\n", (folder / "log").read_text()
            yield Place(folder, names, env, servers)
            process.communicate(timeout=SECONDS)
            said = (folder / "log").read_text()
            assert process.returncode == 0, said
            assert "Traceback" not in said
        finally:
            process.kill()
            process.wait()
            clear(point)


@pytest.fixture
def alice(place: Place) -> Place:
    """With a token, as `kinit` and `aklog` would have got one; blocks may drop it."""
    if not list((place.folder / "run" / "tokens").glob(f"*.{CELL}")):
        ask = f"klog --kaserver alice --cell {CELL} --password-stdin"
        done = place.run(f"afsfuse {ask} <<<{shlex.quote(PASSWORD)}")
        assert done.returncode == 0, done.stderr
    return place


@pytest.mark.mount
@those(Need.CELL)
def test_commands_in_a_mounted_cell(block: Block, alice: Place) -> None:
    run_block(block, alice.names, alice.run)


@pytest.mark.mount
@those(Need.APART)
def test_commands_that_mount_by_themselves(block: Block, place: Place, tmp_path: Path) -> None:
    apart = place.apart(tmp_path.resolve())
    try:
        run_block(block, apart.names, apart.run)
        below = str(tmp_path.resolve())
        left = [line for line in Path("/proc/mounts").read_text().splitlines() if below in line]
        assert not left, "what is mounted in a block is unmounted in it"
    finally:
        for path in (apart.point, *(tmp_path / "home").iterdir()):
            clear(path.resolve())


def set_up() -> bool:
    """Whether `.ci/setup` has nothing to install; it is what decides so."""
    stamp = ROOT / ".venv" / ".installed"
    script = (ROOT / ".ci" / "setup").read_text().replace("\\\n", " ")
    (sources,) = re.findall(r"^for source in (.*); do$", script, re.MULTILINE)
    made = stamp.stat().st_mtime if stamp.exists() else 0.0
    return all((ROOT / source).stat().st_mtime <= made for source in sources.split())


@pytest.mark.mount
@those(Need.CHECKOUT)
def test_commands_in_the_checkout(block: Block, tmp_path: Path) -> None:
    if not set_up():
        pytest.skip(f"{block}: it would install packages under running tests: make setup")
    env = environment(tmp_path, DEMO_ARGS=str(tmp_path / "afs"))
    run_block(block, Names(), partial(bash, cwd=ROOT, env=env))


WORK = """\
echo begun >/afs/.example.org/user/alice/work && echo begun
while read -r -t 0.2; [ $? -gt 128 ]; do
    echo $((count += 1)) >/afs/.example.org/user/alice/work
done
"""
"""What somebody does in the cell, whose process is bash itself, until its input ends."""


@pytest.mark.mount
@those(Need.STAYS)
def test_commands_that_stay(block: Block, alice: Place) -> None:
    at = {"cwd": alice.folder / "home", "env": alice.env}
    work = ["bash", "-c", alice.names.put_into(WORK)]
    with subprocess.Popen(
        work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **at  # type: ignore[call-overload]
    ) as others:  # fmt: skip
        names = Names({**alice.names.table, "4711": str(others.pid)})
        try:
            assert others.stdout.readline() == b"begun\n"
            for command in commands(block):
                stays(command.text, names.put_into(command.text), at)
        finally:
            others.stdin.close()


def stays(told: str, line: str, at: dict[str, Any]) -> None:
    """Run a command until it says something, then end it by Ctrl-C."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line}"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **at,
    )  # fmt: skip
    guard = threading.Timer(SECONDS, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, f"{told}: ends without a word"
        assert not said.startswith((b"afsfuse: ", b"rxrpc: ")), f"{told}: {said!r}"
        assert process.poll() is None, f"{told}: {said!r}"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=SECONDS)
        assert b"Traceback" not in rest
        assert process.returncode in (0, 8, -signal.SIGINT), rest
    finally:
        guard.cancel()
        process.kill()
        process.wait()


@those(Need.LISTENING)
def test_commands_to_a_server_that_listens(block: Block, tmp_path: Path) -> None:
    with listening() as server:
        port = server.address.rpartition(":")[2]
        names = Names({"127.0.0.1:7009": server.address, "192.0.2.1": server.address, "7009": port})
        env = environment(tmp_path)
        # These print what no machine changes, and failures are part of what is shown.
        for command in commands(block):
            done = bash(f"{names.put_into(command.text)} 2>&1", tmp_path, env)
            if block.language == "console":
                assert done.stdout.strip() == command.printed.strip(), command.text
            else:
                assert done.returncode == 0, f"{command.text}: {done.stdout}"


@pytest.mark.realcell
@those(Need.REAL)
def test_commands_in_a_real_cell(block: Block, desk: Desk) -> None:
    cell = desk.cell
    write_stand_ins(desk.folder / "bin", cell.confdir)
    kinit = shutil.which("kinit")
    program = desk.folder / "bin" / "kinit"  # what would be typed is in a file here
    program.write_text(f'#!/bin/sh\nexec {kinit} "$@" -kt {desk.keytab} alice\n')
    program.chmod(0o755)
    home = desk.folder / "home"
    home.mkdir()
    desk.kinit()
    desk.environment |= belongings(home, desk.folder / "bin")
    addresses = {"192.0.2.1": cell.fs1.address, "192.0.2.100": cell.clients["client1"].address}
    names = {CELL: cell.name, f".{CELL}": f".{cell.name}", **addresses}
    point, keytab = desk.folder / "afs", "/etc/openafs/server/rxkad.keytab"
    table = {f"/afs/{name}": f"{point}/{ours}" for name, ours in names.items()}
    table |= {"/afs": str(point), "~": str(home), **names, keytab: f"{cell.fs1.root}{keytab}"}
    with desk.mount() if "afsfuse" in block.text else contextlib.nullcontext():
        run_block(block, Names(table), lambda script: desk.run("bash", "-c", script))


DRY = {"make": "-n", "apt-get": "-s"}
"""How to have a program only say what it would do."""


@those(Need.DRY, Need.SKIP)
def test_commands_that_are_only_tried_or_not_even_that(block: Block) -> None:
    need, reason = understand(block)
    if need is Need.SKIP:
        pytest.skip(f"{block}: not run: {reason}: {block.text}")
    told = []
    for command in commands(block):
        program, *words = shlex.split(command.text.removeprefix("sudo "), comments=True)
        assert program in DRY, f"{block}: {program} has no way to try"
        if shutil.which(program) is None:
            told.append(f"no {program} here")
            continue
        done = subprocess.run(
            [program, DRY[program], *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        told.append(shlex.join([program, DRY[program], *words]))
    pytest.skip(f"{block}: only tried, as {reason}: {'; '.join(told)}")


@those(Need.BY)
def test_commands_that_another_test_runs(block: Block) -> None:
    assert understand(block).detail


def test_what_is_in_no_class_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ("", "shell", "skip", "skip=", "cell=why", "by=tests/gone.py::test", "by=Makefile::all")
    for words in wrong:
        with pytest.raises(ValueError, match=r"page\.md:7"):
            understand(Block("page.md", 7, "sh", words, "true"))


def test_a_command_that_fails_is_seen(tmp_path: Path) -> None:
    run = partial(bash, cwd=tmp_path, env=environment(tmp_path))
    run_block(Block("page.md", 1, "sh", "cell", "true\ntrue"), Names(), run)
    for text in ("true\nfalse\ntrue", "/afs/gone", "cd /nowhere"):
        with pytest.raises(AssertionError, match="failed:"):
            run_block(Block("page.md", 1, "sh", "cell", text), Names(), run)
    shown = "$ echo 'a 17'\na   4\n"
    run_block(Block("page.md", 1, "console", "cell", shown), Names(), run)
    with pytest.raises(AssertionError, match="and not"):
        run_block(Block("page.md", 1, "console", "cell", "$ echo a\nb\n"), Names(), run)


def test_names_are_replaced_as_words() -> None:
    names = Names({"/afs": "/tmp/x/afs", "192.0.2.1": "127.0.0.1", "~": "/home"})
    assert names.put_into("ls /afs/example.org /afs") == "ls /tmp/x/afs/example.org /tmp/x/afs"
    assert names.put_into("echo /afsd 192.0.2.100 192.0.2.1:7000 ~/a") == (
        "echo /afsd 192.0.2.100 127.0.0.1:7000 /home/a"
    )
    assert shape("192.0.2.1 12 s").search("10.0.0.1   4 s")
    assert shape("192.0.2.1  0.4 ms, in use").search("10.0.0.1  not measured, in use")
