"""Where programs work: a cell, how it is mounted, and what its server holds, seen by bare calls."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from afsfuse.cache.directories import Directory
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import CallAborted, Endpoint
from rxrpc.rpc import Void
from tests.cell.raw import RawClient, code_name
from tests.cell.site import ROOT
from tests.mount.harness import ROOT as CHECKOUT
from tests.mount.harness import environment
from tests.mount.usersmount import beside, loopback_address
from tests.realcell.configuration import CELL
from tests.realcell.dumpreader import Dump, DumpedVnode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from tests.realcell.cell import RealCell

T = TypeVar("T")

VOLUME = "scratch"
_LAST = itertools.count(254, -1)  # of the addresses at which clients are


class LocalHost:
    """This machine, in the part of a client host."""

    def popen(
        self,
        command: Sequence[str],
        *,
        mounts: bool = True,
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> subprocess.Popen[bytes]:
        everything = {**environment(), **(env or {})}
        return subprocess.Popen(command, cwd=CHECKOUT, env=everything, **more)


class LocalCell:
    """The cell in one process, which is a process of its own at a loopback address."""

    name = CELL

    def __init__(self, folder: Path) -> None:
        self.confdir = folder / "conf"
        self.confdir.mkdir()
        self.address = loopback_address()
        (self.confdir / "ThisCell").write_text(f"{CELL}\n")
        (self.confdir / "CellServDB").write_text(f">{CELL}\n{self.address} #localhost\n")
        self.clients = dict.fromkeys(("client1", "client2"), LocalHost())
        self._log = folder / "cell.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cell.serve", self.address],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=CHECKOUT,
                env=environment(),
            )  # fmt: skip
        assert self._answer() == b"ready\n", self._log.read_text()

    def volume_number(self, name: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"volume {name}\n".encode())
        self._process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def options(self) -> str:
        """Mount options that give each daemon an address of its own."""
        return f"bind={beside(self.address, next(_LAST))}"

    def end(self) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0, self._log.read_text()


@dataclass(frozen=True)
class Held:
    """What a server has of a file: its length and the hash of its bytes."""

    length: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Held:
        return cls(len(data), hashlib.sha256(data).hexdigest())


class Place:
    """A cell, and short ways to it."""

    def __init__(self, cell: LocalCell | RealCell, server: str, volume: int, client: str) -> None:
        self.cell = cell
        self._server = server
        self._volume = volume
        self._client = client

    @classmethod
    def local(cls, cell: LocalCell) -> Place:
        return cls(cell, cell.address, cell.volume_number(VOLUME), cell.address)

    @classmethod
    def real(cls, cell: RealCell) -> Place:
        number = cell.volumes.volume_id(VOLUME)
        return cls(cell, cell.servers["fs1"].address, number, cell.main_address)

    def options(self, more: str = "") -> str:
        mine = [self.cell.options()] if isinstance(self.cell, LocalCell) else []
        return ",".join(filter(None, [*mine, more]))

    def held(self, *path: str) -> dict[str, Held | None]:
        """Everything below a directory of the volume, by its path below that; None: a directory.
        Symbolic links are left out.
        """

        async def walk(client: RawClient) -> dict[str, Held | None]:
            fid = Fid(self._volume, ROOT, ROOT)
            for name in path:
                found = Directory.parse(await client.fetch(fid)).find(os.fsencode(name))
                assert found is not None, f"the server has no {'/'.join(path)}"
                fid = Fid(self._volume, *found)
            everything: dict[str, Held | None] = {}
            await self._walk(client, fid, "", everything)
            return everything

        return self._ask(walk)

    def dumped(self, *path: str) -> dict[str, Held | None]:
        """The same, as OpenAFS's `vos dump` has it of a real cell, with no AFS client at all. The
        volume is busy meanwhile.
        """
        if isinstance(self.cell, LocalCell):
            return self.held(*path)
        dump = Dump(self.cell.volumes.dump(VOLUME))
        everything: dict[str, Held | None] = {}

        def walk(directory: DumpedVnode, above: str) -> None:
            for name, (number, _) in directory.names().items():
                vnode = dump.vnodes[number]
                if name in (b".", b".."):
                    continue
                where = above + os.fsdecode(name)
                if vnode.vnode & 1:
                    everything[where] = None
                    walk(vnode, f"{where}/")
                elif vnode.fields["t"] == fs.FileType.FILE:
                    everything[where] = Held.of(vnode.data)

        walk(dump.lookup(*map(os.fsencode, path)), "")
        return everything

    async def _walk(
        self, client: RawClient, directory: Fid, above: str, into: dict[str, Held | None]
    ) -> None:
        for entry in Directory.parse(await client.fetch(directory)):
            if entry.name in (b".", b".."):
                continue
            path = above + os.fsdecode(entry.name)
            fid = Fid(directory.volume, entry.vnode, entry.unique)
            if entry.vnode & 1:
                into[path] = None
                await self._walk(client, fid, f"{path}/", into)
                continue
            try:
                if (await client.status(fid)).file_type == fs.FileType.FILE:
                    into[path] = Held.of(await client.fetch(fid))
            except CallAborted as exc:
                if code_name(exc) != "VNOVNODE":  # it was removed meanwhile
                    raise

    def _ask(self, question: Callable[[RawClient], Awaitable[T]]) -> T:
        """Ask the server with bare calls, by a client of that moment."""

        async def main() -> T:
            async with trio.open_nursery() as nursery:
                client = RawClient(Endpoint(bind=(self._client, 0)))
                await nursery.start(client.endpoint.run)
                client.use((self._server, fs.PORT))
                answer = await question(client)
                # Else the server would break promises to us that nobody hears.
                await client.call(fs.GIVE_UP_ALL_CALLBACKS, Void())
                nursery.cancel_scope.cancel()
            return answer

        return trio.run(main)
