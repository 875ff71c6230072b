"""Mounts on which `afsfuse fs` is tried: of the cell in one process, and of OpenAFS's servers.

Root has a token of `admin`, the uid of `USER_IDS["alice"]` one of alice. Root's commands run in the
tests' own process, those of alice in one of hers.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from afsfuse import cli
from afsfuse.acl import AccessList
from afsfuse.auth.folders import OVERRIDE
from afsfuse.auth.token import Token
from afsfuse.cache.directories import Directory
from afsfuse.control.places import Place
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import NULL, Endpoint
from tests.cell.raw import RawClient
from tests.mount.harness import ROOT
from tests.mount.usersmount import Process, beside, loopback_address
from tests.realcell.configuration import ADMIN_PASSWORD, USER_IDS, USERS
from tests.realcell.tokens import kerberos_ticket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.interop.mounts import ClientHost, RealMount
    from tests.realcell.cell import RealCell

ALICE = USER_IDS["alice"]
SECONDS = 60.0

AS_ALICE = """
import json, os, sys
from afsfuse import cli
from afsfuse.tools.fs import acl, caches, cells, help, mounts, places, quota, servers, settings
from afsfuse.control.places import Place
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
if sys.argv[2] == "token":
    from pathlib import Path
    Place(Path(os.environ["AFSFUSE_RUNTIME_DIR"])).ask("set", token=sys.argv[3])
else:
    os.chdir(sys.argv[2])
    sys.exit(cli.main(sys.argv[3:]))
"""


class Done(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


class Here:
    """The machine itself, as a host for mounts."""

    def popen(
        self, command: Sequence[str], *, mounts: bool = True, **more: Any
    ) -> subprocess.Popen[bytes]:
        env = {**os.environ, **(more.pop("env", None) or {})}
        return subprocess.Popen(command, env=env, cwd=ROOT, **more)


class Demo:
    """The cell in one process, which is another one."""

    name = "test.afs"

    def __init__(self, folder: Path) -> None:
        self._address = loopback_address()
        self.options = f"bind={beside(self._address)}"
        self.confdir = folder / "conf"
        self.confdir.mkdir()
        (self.confdir / "ThisCell").write_text(f"{self.name}\n")
        (self.confdir / "CellServDB").write_text(f">{self.name}\n{self._address} #localhost\n")
        self.clients: Mapping[str, ClientHost] = {"client1": Here()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cell.serve", self._address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self._lines = Process(self._process, b"ready")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def token(self, user: str) -> Token:
        return Token.decode(self._lines.ask(f"token {user}"))

    def server(self) -> str:
        return self._address

    def endpoint(self) -> Endpoint:
        return Endpoint(bind=(beside(self._address, 253), 0))

    def volume_id(self, name: str) -> int:
        return int(self._lines.ask(f"volume {name}"))

    def quota(self, volume: str) -> tuple[int, int]:
        quota, used = self._lines.ask(f"quota {volume}").split()
        return int(quota), int(used)

    def hosts(self, volume: str) -> set[str]:
        return {self._address}

    def join(self, name: str, number: int) -> None:
        self._lines.ask(f"join {name} {number}")

    def leave(self, name: str) -> None:
        self._lines.ask(f"leave {name}")


class Real:
    """OpenAFS's own servers, asked by OpenAFS's own tools."""

    options = ""

    def __init__(self, cell: RealCell, folder: Path) -> None:
        self._cell = cell
        self._folder = folder
        self.name = cell.name
        self.confdir = cell.confdir
        self.clients: Mapping[str, ClientHost] = cell.clients

    def end(self) -> None:
        """It goes on for other tests."""

    def token(self, user: str) -> Token:
        password = {**USERS, "admin": ADMIN_PASSWORD}[user]
        host = self._cell.clients["client1"]
        return kerberos_ticket(host, user, password, self._folder).token(user)

    def server(self) -> str:
        return self._cell.servers["fs1"].address

    def endpoint(self) -> Endpoint:
        return Endpoint(bind=(self._cell.main_address, 0))

    def volume_id(self, name: str) -> int:
        return self._cell.volumes.volume_id(name)

    def quota(self, volume: str) -> tuple[int, int]:
        told = self._cell.volumes.examine(volume)
        return int(told["maxquota"]), int(told["diskused"])

    def hosts(self, volume: str) -> set[str]:
        words = ("listvldb", volume.removesuffix(".readonly"), "-noresolve", "-localauth")
        kind = " RO " if volume.endswith(".readonly") else " RW "
        lines = self._cell.vos(words).stdout.splitlines()
        return {line.split()[1] for line in lines if "server" in line and kind in line}

    def join(self, name: str, number: int) -> None:
        self._cell.pts(["createuser", name, str(number), "-localauth"])

    def leave(self, name: str) -> None:
        self._cell.pts(["delete", name, "-localauth"])


class FsMount:
    """A mount, and commands on it."""

    def __init__(self, cell: Demo | Real, mount: RealMount, runtime: Path) -> None:
        self.cell = cell
        self.point = mount.point
        self.root = mount.writable
        self.replica = mount.cell
        self.runtime = runtime

    def log_in(self) -> None:
        """Give root and alice their tokens."""
        Place(self.runtime).ask("set", token=self.cell.token("admin").encode())
        done = self._as_alice("token", self.cell.token("alice").encode())
        assert done.status == 0, done

    def fs(self, *words: object, user: int = 0, at: Path | None = None) -> Done:
        """Run a command, in the read-write root of the cell or in another directory."""
        if user:
            return self._as_alice(str(at or self.root), "fs", *map(str, words))
        out, err = io.StringIO(), io.StringIO()
        before = os.getcwd()
        os.chdir(at or self.root)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = cli.main(["fs", *map(str, words)])
        finally:
            os.chdir(before)
        return Done(status, out.getvalue(), err.getvalue())

    def does(self, *words: object, user: int = 0) -> str:
        """The same for what is to work: what it prints."""
        done = self.fs(*words, user=user)
        assert (done.status, done.err) == (0, ""), (words, done)
        return done.out

    def refused(self, *words: object, user: int = 0) -> str:
        """The same for what is to fail: the line that says why."""
        done = self.fs(*words, user=user)
        assert done.status == 1, (words, done)
        assert done.err.startswith("afsfuse: "), done
        return done.err

    def _as_alice(self, *words: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", AS_ALICE, str(ALICE), *words], cwd=ROOT, capture_output=True,
            env={**os.environ, OVERRIDE: str(self.runtime)}, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def raw_list(self, path: Path) -> AccessList:
        """A directory's access list, as another client is told it by the server."""
        volume, vnode, unique = (
            int(number, 16) for number in os.getxattr(path, "afs.fid").decode().split(":")
        )

        async def ask() -> AccessList:
            async with trio.open_nursery() as nursery:
                client = RawClient(self.cell.endpoint())
                await nursery.start(client.endpoint.run)
                client.use((self.cell.server(), fs.PORT), NULL)
                fid = Fid(volume, vnode, unique)
                reply = await client.call(fs.FETCH_ACL, fs.FidArgs(fid))
                nursery.cancel_scope.cancel()
            return AccessList.from_server(reply.access_list)

        return trio.run(ask)

    def raw_link(self, path: Path) -> tuple[int, bytes]:
        """The mode and the body of a link, as another client is told it; of a mount point, too."""
        volume, vnode, unique = (
            int(number, 16) for number in os.getxattr(path.parent, "afs.fid").decode().split(":")
        )

        async def ask() -> tuple[int, bytes]:
            async with trio.open_nursery() as nursery:
                client = RawClient(self.cell.endpoint())
                await nursery.start(client.endpoint.run)
                client.use((self.cell.server(), fs.PORT), NULL)
                names = Directory.parse(await client.fetch(Fid(volume, vnode, unique)))
                (found,) = [each for each in names if each.name == path.name.encode()]
                fid = Fid(volume, found.vnode, found.unique)
                status = (await client.call(fs.FETCH_STATUS, fs.FidArgs(fid))).status
                body = await client.fetch(fid)
                nursery.cancel_scope.cancel()
            return status.unix_mode_bits & 0o777, body

        return trio.run(ask)
