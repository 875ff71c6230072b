"""`afsfuse demo`: a cell in this very process, mounted, for whoever wants to see AFS at work.

The cell listens on an address of the loopback network that nobody uses, so it is reachable from
this machine only. At a terminal it stays until Ctrl-C; elsewhere it takes a short tour and ends.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from afsfuse import config as settings
from afsfuse import daemon
from afsfuse.auth.hardening import harden
from afsfuse.democell import DemoCell
from afsfuse.democell.contents import DIARY, PASSWORD, USER, furnish
from afsfuse.democell.folder import Folder
from afsfuse.errors import UsageError, abort_name
from afsfuse.fuse import mount
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import kauth
from afsfuse.interfaces.common import Fid
from rxrpc import CallAborted, CallError, Connection, Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CELL = "demo.afs"
_ADDRESSES = [f"127.77.0.{number}" for number in range(1, 21)]
_ROOT = 1
_DIARY_MAX = 4096
_LENGTH = struct.Struct("!q")
_HELLO = b"hello from another client\n"
_CHANGED = b"and this is what it says now\n"


@dataclass(frozen=True)
class Demonstration:
    """What was asked for."""

    directory: str
    store: Path | None
    tour: bool


def run(asked: Demonstration) -> int:
    """Serve and mount until it is ended; returns the exit status. Raises `AfsError`."""
    harden()  # it may be given tokens, as every mount
    made = _make_directory(asked.directory)
    try:
        with tempfile.TemporaryDirectory(prefix="afsfuse-demo-") as confdir:
            return daemon.run_async(_demonstrate, asked, Path(confdir))
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(asked.directory)


def _make_directory(directory: str) -> bool:
    """Whether the directory had to be made."""
    try:
        os.mkdir(directory)
    except FileExistsError:
        return False
    except OSError as exc:
        raise UsageError(
            f"{directory}: {exc.strerror}: name a directory that can be made: afsfuse demo DIR",
            exit_code=mount.EXIT_MOUNT,
        ) from exc
    return True


async def _demonstrate(asked: Demonstration, confdir: Path) -> int:
    async with _serving(asked) as cell, trio.open_nursery() as nursery:
        address = cell.address_of("fs1")
        (confdir / "ThisCell").write_text(f"{cell.name}\n")
        (confdir / "CellServDB").write_text(f">{cell.name} #demonstration\n{address} #localhost\n")
        options = f"confdir={confdir},bind={_own_address(address)},cachedir=none"
        config = settings.pick("afs", asked.directory, [options], foreground=True)
        failures: list[str] = []

        def mounted() -> None:
            if asked.tour:
                nursery.start_soon(_take_tour, cell, asked.directory, config.directory, failures)
            else:
                print(_welcome(asked, confdir), flush=True)

        await daemon.serve(config, mounted)
        for failure in failures:
            print(f"the tour failed: {failure}", file=sys.stderr)
        if not asked.tour:
            print(f"{asked.directory} is not mounted any more; the cell has ended.")
    return mount.EXIT_MOUNT if failures else 0


def _own_address(address: str) -> str:
    """Where this machine's client of the cell sends from: the same network, nobody's address."""
    return f"{address.rpartition('.')[0]}.254"


@contextlib.asynccontextmanager
async def _serving(asked: Demonstration) -> AsyncIterator[DemoCell]:
    """The cell, at the first address whose ports are free."""
    for address in _ADDRESSES:
        # Whose password is told to everybody needs no secret key; and a token that an earlier
        # demonstration gave, which daemons keep for hours, is good in the next one as well.
        cell = DemoCell(CELL, [address], rng=random.Random(CELL))
        async with contextlib.AsyncExitStack() as stack:
            kept = False
            if asked.store is not None:
                folder = stack.enter_context(contextlib.closing(Folder(asked.store)))
                kept = folder.load(cell)
            if not kept:
                await furnish(cell)
            try:
                await stack.enter_async_context(cell.serving())
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise UsageError(
                        f"UDP at {address}: {exc.strerror}: is the loopback network up?",
                        exit_code=mount.EXIT_SYSTEM,
                    ) from exc
                continue
            yield cell
            return
    raise UsageError(
        f"the UDP ports {fs.PORT} to {kauth.PORT} are taken at {_ADDRESSES[0]} and the addresses "
        "after it: end the other AFS servers of this machine",
        exit_code=mount.EXIT_SYSTEM,
    )


def _welcome(asked: Demonstration, confdir: Path) -> str:
    root = asked.directory
    home = os.path.join(root, CELL)
    kept = f"what is written is kept in {asked.store}" if asked.store else "nothing is kept"
    return f"""\
The cell {CELL} is mounted on {root}. In another terminal, try:

  ls -l {home}
  cat {home}/README
  cat {home}/library/start-here
  getfattr -n afs.acl {home}/library
  ls {home}/private
  df -h {home}/scratch

The cell has a user, {USER}, whose password is {PASSWORD}; private is hers. A token for her:

  afsfuse klog --kaserver {USER} --cell {CELL} --confdir {confdir}

The servers are in this process, for trying AFS out: {kept}.
Ctrl-C unmounts and ends it."""


# The tour


async def _take_tour(cell: DemoCell, shown: str, mounted_at: str, failures: list[str]) -> None:
    """Show what there is, let another client change it, show that the mount sees that."""
    try:
        await _Tour(cell, Path(shown) / cell.name).take()
    except (CallError, OSError, _Unexpected, ExceptionGroup) as exc:
        failures.append(str(daemon.cause_of(exc) if isinstance(exc, ExceptionGroup) else exc))
    finally:
        with trio.CancelScope(shield=True):
            # Never from the event loop: it serves what the kernel asks meanwhile.
            await trio.to_thread.run_sync(partial(mount.unmount, mounted_at, lazy=False))


class _Unexpected(Exception):
    """The mount did not show what the server has."""


class _Tour:
    def __init__(self, cell: DemoCell, home: Path) -> None:
        self._cell = cell
        self._home = home

    async def take(self) -> None:
        """Every stop of it."""
        await _show("ls", "-l", str(self._home))
        await _show("cat", str(self._home / "README"))
        await _show("cat", str(self._home / "library/start-here"))
        await _show("ls", "-l", str(self._home / "scratch"))
        async with trio.open_nursery() as nursery:
            other = Endpoint(bind=(_own_address(self._cell.address_of("fs1")), 0))
            await nursery.start(other.run)
            address = (self._cell.address_of("fs1"), fs.PORT)
            nobody = other.connect(address, fs.SERVICE_ID)
            await self._change_things(nobody)
            ticket = self._cell.token_for(USER)
            user = other.connect(address, fs.SERVICE_ID, security=ticket.security(time.time))
            await self._read_diary(nobody, user)
            nursery.cancel_scope.cancel()
        self._tell_what_the_server_holds()

    async def _change_things(self, server: Connection) -> None:
        """What another client does, by the very calls that any client makes."""
        scratch = self._cell.volume("scratch")
        root = Fid(scratch.id, _ROOT, _ROOT)
        tours = itertools.count(1)
        name = next(n for n in (f"tour-{i}" for i in tours) if n.encode() not in scratch.names)
        print("\nanother client calls MakeDir, CreateFile and StoreData64:", flush=True)
        nothing = fs.StoreStatus(fs.StoreMask.NONE)
        folder = await server.call(fs.MAKE_DIR, fs.CreateArgs(root, name.encode(), nothing))
        file = await server.call(fs.CREATE_FILE, fs.CreateArgs(folder.fid, b"hello", nothing))
        path = self._home / "scratch" / name / "hello"
        await self._store(server, file.fid, _HELLO, path)
        await _show("ls", "-l", str(path.parent))
        print("\nanother client stores something else in it:", flush=True)
        await self._store(server, file.fid, _CHANGED, path)

    async def _store(self, server: Connection, fid: Fid, data: bytes, path: Path) -> None:
        """Store, and see that the mount has it at once."""
        status = fs.StoreStatus(fs.StoreMask.NONE)
        args = fs.StoreData64Args(fid, status, 0, len(data), len(data))
        async with server.stream(fs.STORE_DATA64, args) as call:
            await call.send(data)
            await call.finish()
        await _show("cat", str(path))
        seen = await trio.to_thread.run_sync(path.read_bytes)
        if seen != data:
            raise _Unexpected(f"{path} shows {seen!r} where the server has {data!r}")

    async def _read_diary(self, nobody: Connection, user: Connection) -> None:
        """What one may read who has a ticket, and nobody else."""
        volume = self._cell.volume("private")
        found = volume.root.directory.find(DIARY.encode())
        if found is None:  # a store from which it was removed
            return
        args = fs.FetchData64Args(Fid(volume.id, *found), 0, _DIARY_MAX)
        print(f"\na client with a ticket of {USER}'s reads private/{DIARY}, encrypted on its way:")
        print((await _fetch(user, args)).decode(errors="replace"), end="")
        try:
            await _fetch(nobody, args)
        except CallAborted as exc:
            print(f"and a client without one: {abort_name(exc.code)}", flush=True)
        else:
            raise _Unexpected(f"everybody may read private/{DIARY}")

    def _tell_what_the_server_holds(self) -> None:
        server = self._cell.servers["fs1"]
        print("\nwhat the file server holds:")
        for volume in server.volumes.values():
            print(f"  {volume.id}  {volume.name:<20} {volume.used:>6} KiB")
        print(f"  {len(server.hosts)} clients with {server.hosts.promises} callback promises")
        calls = ", ".join(f"{n} {name}" for name, n in self._cell.faults.counts.most_common(6))
        print(f"  calls served: {calls}, …", flush=True)


async def _fetch(server: Connection, args: fs.FetchData64Args) -> bytes:
    """The bytes of a file."""
    async with server.stream(fs.FETCH_DATA64, args) as call:
        (length,) = _LENGTH.unpack(await call.receive_exactly(_LENGTH.size))
        data = await call.receive_exactly(length)
        await call.finish()
    return data


async def _show(*command: str) -> None:
    """Run a command as a person would, who sees it and what it prints."""
    print(f"\n$ {' '.join(command)}", flush=True)
    done = await trio.run_process(command, check=False)
    if done.returncode:
        raise _Unexpected(f"{' '.join(command)}: status {done.returncode}")
