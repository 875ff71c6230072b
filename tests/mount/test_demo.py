"""`afsfuse demo`: a cell and its mount from one command."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from afsfuse.fuse import mount
from tests.mount.harness import ROOT, SECONDS, Children, clear, environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

TOUR_STOPS = (
    "This is the root of a cell",
    "A cell is all that one organisation administers",
    "hello from another client",
    "and this is what it says now",
    "a client with a ticket of alice's reads private/diary",
    "Curiouser and curiouser!",
    "and a client without one: 13 EACCES",
    "what the file server holds:",
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path.resolve()
    clear(tmp_path.resolve() / "afs")


def tour(children: Children, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """The command without a terminal, in a folder of its own."""
    return children.run(
        sys.executable, "-m", "afsfuse", "demo", str(folder / "afs"), *words, cwd=ROOT
    )


def test_without_a_terminal_it_takes_a_tour(folder: Path, children: Children) -> None:
    done = tour(children, folder)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    places = [text.index(stop) for stop in TOUR_STOPS]
    assert places == sorted(places)
    assert not (folder / "afs").exists(), "what was made for it is taken away"


def test_a_store_keeps_what_was_written(folder: Path, children: Children) -> None:
    (folder / "afs").mkdir()
    for number in (1, 2):
        done = tour(children, folder, "--store", str(folder / "store"))
        assert (done.returncode, done.stderr) == (0, b"")
        assert f"scratch/tour-{number}/hello" in done.stdout.decode()
    assert (folder / "afs").is_dir(), "what was there before stays"
    assert os.listdir(folder / "afs") == []


def test_what_cannot_be_used_is_told_in_a_line(folder: Path, children: Children) -> None:
    (folder / "file").write_text("")
    done = tour(children, folder, "--store", str(folder / "file"))
    assert done.returncode == 32
    assert done.stderr.count(b"\n") == 1
    assert b"name a folder" in done.stderr
    done = tour(children, folder / "missing")
    assert done.returncode == 32
    assert b"name a directory that can be made" in done.stderr


def test_at_a_terminal_it_stays_until_it_is_interrupted(folder: Path, children: Children) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "afsfuse", "demo", str(folder / "afs")],
        cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, env=environment(),
    )  # fmt: skip
    os.close(terminal)
    try:
        said = b""
        while b"Ctrl-C unmounts and ends it." not in said:
            said += os.read(main, 4096)
        listed = children.run("ls", folder / "afs/demo.afs").stdout.split()
        assert listed == [b"README", b"library", b"private", b"scratch"]
        refused = children.run("ls", folder / "afs/demo.afs/private")
        assert b"Permission denied" in refused.stderr
        assert str(folder / "afs").encode() in said
        command = re.search(rb"afsfuse (klog --kaserver .*?)\r\n", said)
        assert command is not None
        password = re.search(rb"whose password is (\S+);", said)
        assert password is not None
        done = children.run_with(
            password[1] + b"\n", sys.executable, "-m", "afsfuse",
            *command[1].decode().split(), "--password-stdin", cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(b"\n") == 1, "the warning alone: the mount has the token"
        assert children.run("ls", folder / "afs/demo.afs/private").stdout == b"diary\n"
        process.send_signal(signal.SIGINT)
        wait_until(lambda: process.poll() is not None, "the end", SECONDS)
        assert process.returncode == 0
        assert mount.find_mount(str(folder / "afs")) is None
        # The token outlives its cell, and must be good for the next one of this name.
        done = tour(children, folder)
        assert (done.returncode, done.stderr) == (0, b"")
        unlog = children.run(sys.executable, "-m", "afsfuse", "unlog", "demo.afs", cwd=ROOT)
        assert unlog.returncode == 0, unlog.stderr
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_two_of_them_side_by_side(folder: Path, children: Children) -> None:
    first, second = folder / "first", folder / "second"
    for path in (first, second):
        path.mkdir()
    running = [
        children.start(sys.executable, "-m", "afsfuse", "demo", path / "afs", "--tour", cwd=ROOT)
        for path in (first, second)
    ]
    for process in running:
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, err) == (0, b"")
        assert TOUR_STOPS[-1].encode() in out
