"""What is kept in a folder: all of it, across restarts and across a kill at any moment."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse.democell import DemoCell
from afsfuse.democell.filedata import PIECE_BYTES
from afsfuse.democell.folder import NAME, Folder, StoreError
from afsfuse.democell.trees import Link, MountPoint, plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.protection import ADMINISTRATORS
from afsfuse.model import VolumeType
from rxrpc.security.tickets import open_ticket
from tests.cell.site import ROOT, in_process, raw_client

if TYPE_CHECKING:
    from afsfuse.democell.volume import Volume

REPOSITORY = Path(__file__).parents[4]
ADDRESSES = ("192.0.2.11", "192.0.2.12")
PATTERN_LENGTH = 3 * PIECE_BYTES + 100


def state(cell: DemoCell) -> object:
    """Everything that a client could ask of the volumes."""

    def of(volume: Volume) -> object:
        return (
            volume.name, volume.type, volume.parent, volume.quota, volume.used, volume.created,
            volume.next_unique,
            {
                number: (
                    vnode.unique, vnode.kind, vnode.mode, vnode.owner, vnode.links, vnode.version,
                    vnode.mtime, vnode.parent, vnode.length, vnode.data.read(0, vnode.length),
                    vnode.acl,
                )
                for number, vnode in volume.vnodes.items()
            },
        )  # fmt: skip

    return {
        (server.name, number): of(volume)
        for server in cell.servers.values()
        for number, volume in server.volumes.items()
    }


def opened(path: Path) -> tuple[DemoCell, Folder, bool]:
    cell = DemoCell("test.afs", ADDRESSES)
    folder = Folder(path)
    return cell, folder, folder.load(cell)


async def test_everything_is_there_the_next_time(tmp_path: Path) -> None:
    cell, folder, kept = opened(tmp_path / "new" / "folder")
    assert not kept
    plant(cell.create_volume("data", quota=5000), {b"old": b"old", b"link": Link(b"old")})
    plant(cell.create_volume("root.cell"), {b"data": MountPoint(b"#data.")})
    await cell.touched(cell.volume("data"))
    await cell.touched(cell.volume("root.cell"))
    async with in_process(cell) as site, raw_client(site) as client:
        root = Fid(site.volume_id("data"), ROOT, ROOT)
        file = await client.create(root, b"file", b"x" * (2 * PIECE_BYTES + 5))
        await client.store(file, b"mark", PIECE_BYTES + 7, length=PIECE_BYTES + 100)
        gone = await client.make_dir(root, b"gone")
        await client.create(gone, b"inner")
        await cell.replicate("data", ["fs1", "fs2"])
        await cell.backup("root.cell")
        await client.remove(gone, b"inner")
        await client.remove_dir(root, b"gone")
        await client.remove(root, b"old")
        await client.set_acl(root, b"1\n1\nsystem:anyuser 127\nsystem:authuser 4\n\0")
        await cell.move("root.cell", "fs2")
    folder.close()
    again, folder, kept = opened(tmp_path / "new" / "folder")
    assert kept
    assert state(again) == state(cell)
    assert again.locations.records == cell.locations.records
    assert [s.uuid for s in again.servers.values()] == [s.uuid for s in cell.servers.values()]
    assert again.next_volume == cell.next_volume
    again.create_volume("another")
    async with in_process(again) as site, raw_client(site) as client:
        new = await client.create(root, b"new")
        assert new.unique > file.unique
        assert new.vnode not in (file.vnode, gone.vnode)
    await again.delete_volume("data")
    folder.close()
    last, folder, kept = opened(tmp_path / "new" / "folder")
    names = {v.name for s in last.servers.values() for v in s.volumes.values()}
    assert names == {"root.cell", "another"}
    folder.close()


def test_users_and_keys_are_there_the_next_time(tmp_path: Path) -> None:
    cell, folder, _ = opened(tmp_path)
    alice = cell.add_user("alice", password="open sesame", groups=[ADMINISTRATORS])
    bob = cell.add_user("Bob")
    cell.set_password("bob", "another one")
    ticket = cell.token_for("alice")
    folder.close()
    again, folder, kept = opened(tmp_path)
    assert kept
    assert (again.people.id_of(b"alice"), again.people.id_of(b"bob")) == (alice, bob)
    assert again.people.groups_of(alice) == cell.people.groups_of(alice)
    assert again.people.next_user() == bob + 1
    assert again.realm.secrets() == cell.realm.secrets()
    now = cell.realm.clock()
    assert open_ticket(ticket.kvno, ticket.data, again.realm.keys, now).client.name == "alice"
    folder.close()


def test_keys_are_nobody_elses_business(tmp_path: Path) -> None:
    cell, folder, _ = opened(tmp_path)
    cell.create_volume("data")
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert NAME in modes
    assert set(modes.values()) == {0o600}
    folder.close()


def test_a_key_that_is_none(tmp_path: Path) -> None:
    cell, folder, _ = opened(tmp_path)
    cell.create_volume("data")
    folder.close()
    secrets = cell.realm.secrets()
    for name in ("service", "aes", "granting"):
        with closing(sqlite3.connect(tmp_path / NAME)) as base:
            spoiled = json.dumps({**secrets, name: "00"})
            base.execute("UPDATE cell SET value = ? WHERE key = 'secrets'", (spoiled,))
            base.commit()
        with pytest.raises(StoreError, match="damaged"):
            opened(tmp_path)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="name a folder that can be written"):
        Folder(tmp_path / "file")
    (tmp_path / NAME).write_bytes(b"no database at all, by any means" * 100)
    with pytest.raises(StoreError):
        Folder(tmp_path)
    (tmp_path / NAME).unlink()
    with closing(sqlite3.connect(tmp_path / NAME)) as base:
        base.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="of version 99"):
        Folder(tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    cell, folder, _ = opened(tmp_path)
    cell.create_volume("data")
    with pytest.raises(StoreError, match="no other demo uses"):
        opened(tmp_path)
    folder.close()


def test_what_is_damaged_is_said(tmp_path: Path) -> None:
    cell, folder, _ = opened(tmp_path)
    cell.create_volume("data")
    folder.close()
    with closing(sqlite3.connect(tmp_path / NAME)) as base:
        base.execute("UPDATE vnode SET value = '{}'")
        base.commit()
    with pytest.raises(StoreError, match="damaged"):
        opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / NAME)) as base:
        base.execute("UPDATE cell SET value = 'other.cell' WHERE key = 'name'")
        base.commit()
    with pytest.raises(StoreError, match=r"has the cell other\.cell"):
        opened(tmp_path)


WRITER = """
import sys
from pathlib import Path

import trio

from tests.unit.afsfuse.democell.test_folder import write_for_ever

trio.run(write_for_ever, Path(sys.argv[1]))
"""


def pattern(number: int) -> bytes:
    """A file of several pieces in which every byte says which store it comes from."""
    return b"%08d" % number * (PATTERN_LENGTH // 8) + b"%04d" % (number % 10_000)


async def write_for_ever(path: Path) -> None:
    """Store one file again and again, saying after each answer what was stored."""
    cell, _folder, kept = opened(path)
    if not kept:
        cell.create_volume("data")
    async with in_process(cell) as site, raw_client(site) as client:
        root = Fid(site.volume_id("data"), ROOT, ROOT)
        name = b"file-%d" % os.getpid()
        file = await client.create(root, name)
        safely = fs.StoreStatus(fs.StoreMask.FSYNC)
        for number in itertools.count(1):
            await client.store(file, pattern(number), status=safely)
            print(name.decode(), number, flush=True)


def test_a_kill_leaves_what_was_answered_and_never_a_mixture(tmp_path: Path) -> None:
    for stores in (1, 2, 3, 5, 8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        assert writer.stdout is not None
        for _ in range(stores):
            name, answered = writer.stdout.readline().split()
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
        writer.stdout.close()
        writer.wait()
        if rest:
            answered = rest[-1].split()[1]
        cell, folder, kept = opened(tmp_path)
        assert kept
        volume = cell.volume("data")
        assert volume.type is VolumeType.RW
        found = volume.root.directory.find(name)
        assert found is not None
        vnode = volume.vnode(*found)
        assert vnode.version in (int(answered), int(answered) + 1)
        assert vnode.data.read(0, vnode.length) == pattern(vnode.version)
        folder.close()
