"""A desk: where somebody works who has Kerberos tickets, tokens and mounts."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from afsfuse.auth.folders import OVERRIDE
from tests.interop.mounts import RealMount, mounted
from tests.realcell.configuration import REALM, USERS
from tests.tools import hasty

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.realcell.cell import RealCell
    from tests.realcell.hosts import Host

ALICE = f"alice@{REALM}"
SECONDS = 60.0


class Desk:
    """His Kerberos cache, and the daemons' folder. Commands find the latter by themselves, daemons
    by the environment: see the fixture `desk`."""

    def __init__(self, cell: RealCell, folder: Path, runtime: Path) -> None:
        self.cell = cell
        self.folder = folder
        self.runtime = runtime
        self.keytab = folder / "alice.keytab"
        self.environment = {
            **os.environ,
            "KRB5_CONFIG": str(cell.confdir / "krb5.conf"),
            "KRB5CCNAME": f"FILE:{folder}/cc",
            OVERRIDE: str(runtime),
        }

    def write_keytab(self) -> None:
        """Alice's key; her password is still good, too."""
        make = f"addent -password -p {ALICE} -k 1 -e aes256-cts-hmac-sha1-96\n{USERS['alice']}\n"
        done = self.run("ktutil", input=f"{make}wkt {self.keytab}\nquit\n".encode())
        assert self.keytab.exists(), done.stdout + done.stderr

    def run(self, *command: str, input: bytes = b"") -> subprocess.CompletedProcess[str]:
        """On client1, in the machine's own mount namespace."""
        return self.cell.clients["client1"].run(
            command, mounts=False, env=self.environment, input=input, check=False, timeout=SECONDS
        )

    def afsfuse(self, *words: str, input: bytes = b"") -> subprocess.CompletedProcess[str]:
        more = ["--confdir", str(self.cell.confdir)] if words[0] in ("aklog", "klog") else []
        return self.run(sys.executable, "-m", "afsfuse", *words, *more, input=input)

    def kinit(self, *words: str) -> None:
        done = self.run("kinit", *words, "-kt", str(self.keytab), "alice")
        assert done.returncode == 0, done.stderr

    def aklog(self, *words: str) -> None:
        """A ticket, and a token of it."""
        self.kinit(*words)
        done = self.afsfuse("aklog")
        assert done.returncode == 0, done.stderr

    def tokens(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = json.loads(self.afsfuse("tokens", "--json").stdout)["tokens"]
        return told

    def secrets(self) -> list[str]:
        """The keys of all tokens that are kept, as they might turn up in a log."""
        kept = [json.loads(path.read_text()) for path in (self.runtime / "tokens").iterdir()]
        return [one["key"] for one in kept] + [one["ticket"][:60] for one in kept]

    @contextmanager
    def mount(
        self, name: str = "afs", options: str = "debug", **times: float
    ) -> Iterator[RealMount]:
        """A daemon whose tokens are those of the desk; `times` as for `tests.tools.hasty`."""
        point, program = self.folder / name, hasty.program(**times)
        with mounted(self.cell, "client1", point, options=options, program=program) as mount:
            yield mount


@contextmanager
def stopped(host: Host, program: str) -> Iterator[None]:
    """A server of a host's is there and answers nobody."""
    pids = host.pids(program)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
