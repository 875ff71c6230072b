"""pagsh: who is in the PAG and for how long; real processes, no daemon."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from afsfuse import cli
from afsfuse.auth.store import TokenStore
from afsfuse.control.places import Place
from afsfuse.errors import NoDaemon
from afsfuse.tools import pagsh
from tests.unit.afsfuse.auth.test_token import token

FAR = 4_000_000_000
ROOT = Path(cli.__file__).parent.parent
SECONDS = 60.0
TOKENS = f"{sys.executable} -m afsfuse tokens --json"


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "afsfuse", "pagsh", *arguments]
    return subprocess.run(
        command, capture_output=True, cwd=ROOT, timeout=SECONDS, check=False, **more
    )


def gone(place: Path) -> bool:
    """Wait until no PAG is left; whether that came."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        store = TokenStore(place)
        store.load()
        left = len(store.pags)
        store.close()
        if not left:
            return True
        time.sleep(0.02)
    return False


def test_the_shell_is_in_a_pag_and_the_outside_is_not(place: Path) -> None:
    outside = Place(place)
    outside.ask("set", token=token(end=FAR).encode())
    done = run("-c", f"{TOKENS}; sh -c '{TOKENS}'")
    inside, deeper = _two(done.stdout)
    assert inside["identity"] == deeper["identity"]
    assert inside["identity"].startswith("pag-")
    assert inside["tokens"] == []
    assert [one["cell"] for one in outside.ask("tokens")["tokens"]] == ["example.org"]
    assert gone(place)


def _two(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two JSON values, one behind the other."""
    decoder = json.JSONDecoder()
    text = data.decode()
    first, end = decoder.raw_decode(text)
    second, _ = decoder.raw_decode(text[end:].lstrip())
    return first, second


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -2 $$", 130)]
)
def test_it_ends_as_the_shell_ends(script: str, status: int) -> None:
    assert run("-c", script).returncode == status


def test_arguments_and_streams_are_the_shells() -> None:
    done = run("-s", "one", "two words", input=b'echo "$2"; echo oops >&2\n')
    assert done.stdout == b"two words\n"
    assert done.stderr == b"oops\n"


def test_a_job_that_outlives_the_shell_stays_in_the_pag(place: Path, tmp_path: Path) -> None:
    """It is an orphan by then, and it holds nothing that the caller waits for."""
    go, out = tmp_path / "go", tmp_path / "out"
    os.mkfifo(go)
    job = f"(read x < {go}; {TOKENS} > {out}) > /dev/null 2>&1 &"
    assert run("-c", f"{job} true").returncode == 0
    store = TokenStore(place)
    store.load()
    (pag,) = store.pags
    store.close()
    go.write_text("\n")
    assert gone(place)
    assert json.loads(out.read_text())["identity"] == f"pag-{pag}"


def test_a_pag_in_a_pag_is_another(place: Path) -> None:
    inner = f"{sys.executable} -m afsfuse pagsh -c '{TOKENS}'"
    first, second = _two(run("-c", f"{TOKENS}; {inner}").stdout)
    assert first["identity"] != second["identity"]
    assert second["identity"].startswith("pag-")


def test_what_cannot_begin_is_told_in_a_line(place: Path) -> None:
    place.mkdir()
    (place / "tokens").write_text("this is no folder")
    done = run("-c", "echo started")
    assert done.returncode == 32
    assert done.stdout == b""
    assert done.stderr.startswith(b"afsfuse: ")
    assert done.stderr.count(b"\n") == 1


def test_begin_at_the_places_that_are_there(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    missing = {tmp_path / "a"}

    def ask(self: Place, verb: str) -> dict[str, Any]:
        if self.folder in missing:
            raise NoDaemon("none")
        asked.append(self.folder)
        return {}

    monkeypatch.setattr(Place, "ask", ask)
    a, b = Place(tmp_path / "a"), Place(tmp_path / "b")
    assert pagsh.begin([a, b]) == [a]
    assert asked == [tmp_path / "b"]
    with pytest.raises(NoDaemon, match="could keep a PAG"):
        pagsh.begin([a])
    missing.clear()
    assert pagsh.begin([a]) == []


class Terminal:
    """pagsh at a terminal of its own."""

    def __init__(self) -> None:
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-m", "afsfuse", "pagsh", "-i"])
        self.pid = pid
        self._seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def wait_for(self, text: bytes) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self._seen:
            rest = deadline - time.monotonic()
            assert select.select([self._terminal], [], [], max(0, rest))[0], self._seen
            self._seen += os.read(self._terminal, 4096)

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        os.close(self._terminal)


def test_the_terminal_is_the_shells() -> None:
    """Ctrl-C ends what the shell runs, and neither the shell nor its PAG."""
    terminal = Terminal()
    try:
        terminal.type(b"sh -c 'echo go-$((1+1)); exec sleep 1000'\n")
        terminal.wait_for(b"go-2")
        terminal.type(b"\x03")
        terminal.type(f"echo ended-$?; {TOKENS}; exit 6\n".encode())
        terminal.wait_for(b"ended-130")
        terminal.wait_for(b'"identity": "pag-')
        assert terminal.status() == 6
    finally:
        terminal.close()
