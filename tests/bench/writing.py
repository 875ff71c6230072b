"""Writing: files made, written, changed and removed, by both programs in turn.

`afsd.fuse` stores what was written some time after `close` has returned. So its time ends when the
file server has everything, of which it is asked by bare calls; ours ends with `close`, which says
just that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from afsfuse.cache.directories import Directory
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from rxrpc import Endpoint
from rxrpc.rpc import Void
from tests.bench import workload
from tests.bench.subjects import Afsfuse, Mounted, Subject
from tests.cell.raw import RawClient
from tests.programs.repository import history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bench.report import Report
    from tests.realcell.cell import RealCell
    from tests.realcell.hosts import Host

MIB = 1 << 20
SIZE, LARGE_SIZE = 256 * MIB, 1024 * MIB
VOLUME = "scratch"
SECONDS = 600
STORED_SECONDS = 120.0
SAMPLES = 64  # files, or places in a file, of which the server is asked
WORD = 16  # bytes at each place


class Sources:
    """What is cloned and unpacked."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.archive = folder / "bench.git", folder / "bench.tar"
        stream, tree = history(workload.TREE_FILES)
        git = ["git", "-C", str(self.repository)]
        if not self.repository.exists():
            subprocess.run(
                ["git", "init", "--quiet", "--bare", "-b", "main", self.repository], check=True
            )
            subprocess.run([*git, "fast-import", "--quiet"], input=stream, check=True)
            subprocess.run([*git, "archive", "-o", self.archive, "main"], check=True)
        assert len(tree) == workload.TREE_FILES


class Writing:
    """The rounds of one cell."""

    def __init__(self, cell: RealCell, report: Report, say: Callable[[str], None]) -> None:
        self._cell = cell
        self._report = report
        self._say = say
        self._volume = cell.volumes.volume_id(VOLUME)
        self._sources = Sources(cell.folder)

    def run(self, subject: Subject, host: Host, number: int) -> None:
        """All metrics of writing for one subject."""
        with subject.mount(self._cell, host) as mounted, self._folder(mounted, number) as folder:
            small, large = folder / "small", folder / "large"
            self._measure("create", subject, "create", small)
            self._measure("unlink", subject, "unlink", small)
            self._measure("write", subject, "write", large, str(SIZE), scale=MIB)
            self._measure("rewrite", subject, "rewrite", large)
            large.unlink()
            for name, source in (
                ("clone", self._sources.repository), ("untar", self._sources.archive),
            ):  # fmt: skip
                self._measure(name, subject, name, folder / name, str(source))

    def run_large(self, host: Host) -> None:
        """A file much larger than memory, by us alone: the peer keeps it in its cache."""
        subject = Afsfuse()
        with subject.mount(self._cell, host) as mounted, self._folder(mounted, 0) as folder:
            large = folder / "large"
            self._measure("write-large", subject, "write", large, str(LARGE_SIZE), scale=MIB)
            self._add("write-memory", subject, mounted.peak_mebibytes())

    def run_reread(self, host: Host) -> None:
        """A read after a restart, by us alone: the peer's cache is in memory."""
        cache = self._cell.folder / "bench-cache"
        subject = Afsfuse(options=f"cachedir={cache},cachesize=1G")
        path = "big/big.bin"
        try:
            with subject.mount(self._cell, host) as mounted:
                self._workload("sequential", mounted.cell / path)
            with subject.mount(self._cell, host) as mounted:
                told = self._workload("sequential", mounted.cell / path)
            self._add("reread", subject, told["units"] / told["seconds"] / MIB)
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    @contextmanager
    def _folder(self, mounted: Mounted, number: int) -> Iterator[Path]:
        folder = mounted.cell / VOLUME / f"bench-{mounted.pid}-{number}"
        folder.mkdir()
        try:
            yield folder
        finally:
            subprocess.run(["rm", "-rf", folder], check=True)

    def _measure(
        self, metric: str, subject: Subject, name: str, path: Path, *words: str, scale: int = 1
    ) -> None:
        """One workload; a peer that cannot do it at all has no figure."""
        try:
            told = self._workload(name, path, *words)
        except subprocess.CalledProcessError as exc:
            if isinstance(subject, Afsfuse):
                raise
            self._say(f"  {subject.name}: {metric}: {exc}")
            return
        seconds = told["seconds"]
        if not isinstance(subject, Afsfuse) and name in ("create", "write"):
            seconds += self._until_stored(name, path, int(told["units"])) - told["ended"]
        self._add(metric, subject, told["units"] / seconds / scale)

    def _workload(self, name: str, path: Path, *words: str) -> dict[str, float]:
        command = [sys.executable, workload.__file__, name, str(path), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=SECONDS)
        told: dict[str, float] = json.loads(done.stdout)
        return told

    def _until_stored(self, name: str, path: Path, units: int) -> float:
        """When the server has what a workload has written; the monotonic clock."""

        async def main() -> float:
            async with trio.open_nursery() as nursery:
                client = RawClient(Endpoint(bind=(self._cell.main_address, 0)))
                await nursery.start(client.endpoint.run)
                client.use((self._cell.servers["fs1"].address, fs.PORT))
                with trio.fail_after(STORED_SECONDS):
                    while not await self._is_stored(client, name, path, units):  # noqa: ASYNC110
                        await trio.sleep(0.005)
                seen = time.monotonic()
                await client.call(fs.GIVE_UP_ALL_CALLBACKS, Void())
                nursery.cancel_scope.cancel()
            return seen

        return trio.run(main)

    async def _is_stored(self, client: RawClient, name: str, path: Path, units: int) -> bool:
        folder = await self._find(client, Fid(self._volume, 1, 1), path.parent.name)
        found = await self._find(client, folder, path.name)
        if name == "write":
            word = workload.block_of(str(path))[:WORD]
            places = range(0, units, units // SAMPLES)
            return all([await client.fetch(found, at, WORD) == word for at in reversed(places)])
        last = range(units - SAMPLES, units)
        names = [f"f{number:04}" for number in reversed(last)]
        fids = [await self._find(client, found, each) for each in names]
        return all([(await client.status(fid)).length_low == workload.SMALL_SIZE for fid in fids])

    @staticmethod
    async def _find(client: RawClient, directory: Fid, name: str) -> Fid:
        found = Directory.parse(await client.fetch(directory)).find(os.fsencode(name))
        assert found is not None
        return Fid(directory.volume, *found)

    def _add(self, metric: str, subject: Subject, value: float) -> None:
        self._say(f"  {subject.name}: {metric} {value:,.2f}")
        self._report.add(metric, subject.name, value)
