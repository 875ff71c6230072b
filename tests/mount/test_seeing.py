"""Looking inside of a real mount: status, why, trace, log, top, stacks, metrics.

One cell in a process of its own and one daemon serve the whole module.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from afsfuse.auth.folders import OVERRIDE
from rxrpc.wire.packet import HEADER
from tests.mount.harness import ROOT, SECONDS, Children, clear, environment, wait_until
from tests.mount.treesd import CELL
from tests.mount.treesmount import TreesMount

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TreesMount]:
    folder = tmp_path_factory.mktemp("seen").resolve()
    children = Children()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, f"{folder}/run")  # `trace` looks at every daemon that it finds
        mount = TreesMount(folder, children, 2, f"metrics=unix:{folder}/metrics")
        assert (mount.volume(0) / "file").read_bytes() == b"once\n"
        yield mount
        children.end()
        clear(mount.point)


def shown(mount: TreesMount) -> dict[str, Any]:
    """What `status` says of the mount."""
    done = mount.afsfuse("status", "--json")
    assert done.returncode == 0, done.stderr
    pictures = json.loads(done.stdout)["mounts"]
    mine: dict[str, Any] = next(one for one in pictures if one["mount"] == str(mount.point))
    return mine


def why(mount: TreesMount, path: Path) -> dict[str, Any]:
    done = mount.afsfuse("why", "--json", path)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_status_counts_what_was_done(seen: TreesMount) -> None:
    before = shown(seen)
    assert before["servers"][0]["up"]
    assert before["servers"][0]["cell"] == CELL
    assert f"{seen.cell}/v/000" in {volume["path"] for volume in before["volumes"]}
    assert (seen.volume(1) / "big").stat().st_size == 65536
    big = (seen.volume(1) / "big").read_bytes()
    after = shown(seen)
    assert after["cache"]["read_bytes"] - before["cache"]["read_bytes"] >= len(big)
    assert after["cache"]["fetched_bytes"] > before["cache"]["fetched_bytes"]
    requests = [one["requests"]["at_once"] + one["requests"]["answered"] for one in (before, after)]
    assert requests[1] > requests[0]
    text = seen.afsfuse("status").stdout.decode()
    assert "v.001" in text
    assert "Everything is stored." in text


def heard_at(pid: int) -> list[tuple[str, int]]:
    """Where a process hears UDP."""
    folder = Path(f"/proc/{pid}/fd")
    links = {os.readlink(folder / name) for name in os.listdir(folder)}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]]
    found = [row[1].split(":") for row in rows if f"socket:[{row[9]}]" in links]
    return [
        (socket.inet_ntoa(struct.pack("=I", int(host, 16))), int(port, 16)) for host, port in found
    ]


def test_what_strangers_send_is_counted_and_named(seen: TreesMount) -> None:
    before = shown(seen)
    ((host, port),) = heard_at(before["pid"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(50):  # more than of anything else: the line has the most frequent ones
            for datagram in (b"nonsense", HEADER.pack(1, 4, 1, 1, 1, 9, 1, 0, 0, 0, 1)):
                stranger.sendto(datagram, (host, port))
    named = ("malformed", "unsupported")
    wait_until(
        lambda: min(shown(seen)["network"]["drops"].get(name, 0) for name in named) >= 50,
        f"{host} {port}",
    )
    line = next(
        line for line in seen.afsfuse("status").stdout.decode().splitlines() if " refused " in line
    )
    assert all(word in line for word in named), line
    assert shown(seen)["refused"] == dict.fromkeys(before["refused"], 0), "no server lies here"


def test_why_says_where_an_answer_came_from(seen: TreesMount) -> None:
    told = why(seen, seen.volume(0) / "file")
    assert told["ending"] == "found"
    assert told["volume"]["name"] == "v.000"
    assert told["promise"]["counts"]
    assert (told["kind"], told["rest"]) == ("file", "")
    link = seen.folder / "link"
    link.symlink_to(seen.volume(0))
    through = why(seen, link / "file")
    assert (through["fid"], through["path"]) == (told["fid"], told["path"])
    assert why(seen, seen.volume(0) / "nothing")["ending"] == "absent"
    assert seen.afsfuse("why", seen.folder).returncode == 1


def test_why_answers_while_the_server_is_dead(seen: TreesMount, children: Children) -> None:
    (seen.volume(0) / "folder").stat()
    cell = seen.cell_process
    os.kill(cell, signal.SIGSTOP)
    try:
        reader = children.start("cat", seen.volume(0) / "folder" / "deeper" / "innermost")
        wait_until(lambda: why(seen, seen.volume(0) / "folder")["calls"], "the call under way")
        told = why(seen, seen.volume(0) / "folder" / "deeper")
        assert told["volume"]["name"] == "v.000"
        assert told["servers"][0]["waiting"] >= 1
        wait_until(
            lambda: b"operations hang on" in seen.afsfuse("why", seen.volume(0)).stdout,
            "the silence of the server",
        )
        assert reader.poll() is None, "it hangs, and why does not"
    finally:
        os.kill(cell, signal.SIGCONT)
    assert reader.communicate(timeout=SECONDS)[0] == b"deepest\n"
    wait_until(lambda: not why(seen, seen.volume(0) / "folder")["calls"], "the end of the call")


def test_a_trace_shows_what_is_done_for_a_process(seen: TreesMount, children: Children) -> None:
    reader = children.start(
        sys.executable, "-S", "-c",
        "import sys; sys.stdin.readline(); print(len(open(sys.argv[1], 'rb').read()))",
        seen.volume(0) / "big", stdin=subprocess.PIPE,
    )  # fmt: skip
    words = ["afsfuse", "trace", "--json"]
    traces = [
        children.start(sys.executable, "-u", "-m", *words, *which, cwd=ROOT)
        for which in (["--pid", str(reader.pid)], [seen.volume(0)], ["--pid", "1", "--calls"])
    ]
    for trace in traces:
        assert trace.stdout is not None
        assert json.loads(trace.stdout.readline())["event"] == "trace started"
    assert reader.communicate(b"\n", timeout=SECONDS)[0] == b"65536\n"
    lines = []
    for trace in traces:
        time.sleep(0.2)  # what there is has arrived
        trace.send_signal(signal.SIGINT)
        out, err = trace.communicate(timeout=SECONDS)
        assert (trace.returncode, err) == (0, b"")
        lines.append([json.loads(line) for line in out.splitlines()])
    of_process, of_volume, of_other = lines
    for events in (of_process, of_volume):
        fetches = [e for e in events if e.get("operation") == "FetchData64"]
        assert {"operation began", "call started", "operation ended"} <= {
            e["event"] for e in fetches
        }
        assert any(e["event"] == "received" and e["type"] == "DATA" for e in events)
    assert any(e["event"] == "request began" and e["what"] == "read" for e in of_process)
    assert not of_other
    assert "0123456789abcdef" not in str(lines), "no payload"


def test_levels_are_changed_and_stacks_are_told(seen: TreesMount) -> None:
    done = seen.afsfuse("log", "fileserver=debug", "all=warning")
    assert b"fileserver  debug\n" in done.stdout
    assert b"vfs         warning\n" in done.stdout
    assert seen.afsfuse("log", "nothing=debug").returncode == 32
    seen.daemon.send_signal(signal.SIGUSR1)
    wait_until(lambda: "tasks stand at" in seen.log.read_text(), "the stacks")
    log = seen.log.read_text()
    assert "fuse/session.py" in log
    assert seen.afsfuse("log", "all=default", "fileserver=default").returncode == 0


def scraped(mount: TreesMount) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(SECONDS)
        client.connect(str(mount.folder / "metrics"))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: any\r\n\r\n")
        answer = b""
        while chunk := client.recv(1 << 16):
            answer += chunk
    return answer


def test_prometheus_gets_figures(seen: TreesMount) -> None:
    held = []
    for _ in range(3):  # who says nothing
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(seen.folder / "metrics"))
        held.append(client)
    head, _, body = scraped(seen).partition(b"\r\n\r\n")
    for client in held:
        client.close()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    families = {one.name: one for one in text_string_to_metric_families(body.decode())}
    assert families["afsfuse_read_bytes"].samples[0].value > 0
    (up,) = families["afsfuse_server_up"].samples
    assert (up.labels["cell"], up.value) == (CELL, 1.0)
    assert b"uid-" not in body
    assert b"v.000" not in body


class Terminal:
    """`afsfuse top` on a terminal of its own."""

    def __init__(self, rows: int, columns: int, **more: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "afsfuse", "top", "--every", "0.5"],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, cwd=ROOT,
            env={**environment(), "TERM": "xterm", **more}, start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C comes from the terminal
        )  # fmt: skip
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str) -> str:
        """Read on until there is this text; all that came since the last time."""
        deadline = time.monotonic() + SECONDS
        start = len(self.seen)
        while text.encode() not in self.seen[start:]:
            assert time.monotonic() < deadline, self.seen[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 1 << 16)
        return self.seen[start:].decode(errors="replace")

    def press(self, keys: bytes) -> int:
        os.write(self.master, keys)
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 1 << 16)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize(("key", "colour"), [(b"q", True), (b"\x03", False)])
def test_top_fills_the_terminal_and_leaves_it_clean(
    seen: TreesMount, key: bytes, colour: bool
) -> None:
    terminal = Terminal(24, 80, **({} if colour else {"NO_COLOR": "1"}))
    try:
        terminal.until("requests wait")
        first = terminal.until("q: quit")
        terminal.resize(12, 60)
        terminal.until("requests wait")
        assert terminal.press(key) == 0, terminal.seen[-2000:]
        assert termios.tcgetattr(terminal.slave)[:4] == terminal.before[:4]
        assert b"\x1b[?1049h" in terminal.seen, "it had a screen of its own"
        hidden, again = (terminal.seen.rindex(b"\x1b[?25" + one) for one in (b"l", b"h"))
        assert hidden < again, "the cursor is shown again"
        assert b"\x1b[?1049l" in terminal.seen
        coloured = any(f"\x1b[3{n}m".encode() in terminal.seen for n in range(1, 7))
        assert coloured is colour
        assert all(len(line) < 400 for line in first.splitlines())
    finally:
        terminal.close()


def test_without_rich_top_is_plain_text(seen: TreesMount, tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('no rich')\n")
    terminal = Terminal(24, 80, PYTHONPATH=f"{tmp_path}:{ROOT}")
    try:
        terminal.until("q: quit")
        assert terminal.press(b"q") == 0
        assert b"pip install 'afsfuse[top]'" in terminal.seen
    finally:
        terminal.close()
