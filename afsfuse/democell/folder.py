"""A cell's volumes in a folder, so that they are there the next time.

With them its users are kept, and its keys. All is in one SQLite database, `cell.sqlite`. Each
operation of a client is one transaction, which is committed before the client is answered: when
the process is killed, what was answered is there, and of everything else all or nothing. A store
with `StoreMask.FSYNC` is on the disk before it is answered; what else was answered in the last
moments before a failure of power may be lost, each operation as a whole.

Of a volume the vnodes that were changed are written, and of their files the pieces that were.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import struct
from typing import TYPE_CHECKING
from uuid import UUID

from afsfuse.democell.acl import AccessList
from afsfuse.democell.dirpages import DirectoryPages
from afsfuse.democell.filedata import FileData
from afsfuse.democell.locations import Record
from afsfuse.democell.vnode import Vnode
from afsfuse.democell.volume import Volume
from afsfuse.errors import AfsError
from afsfuse.interfaces import vldb
from afsfuse.interfaces.fileserver import FileType
from afsfuse.model import VolumeType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afsfuse.democell.cell import DemoCell

NAME = "cell.sqlite"
_VERSION = 2
_TABLES = """\
CREATE TABLE cell (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE record (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE volume (
    server TEXT NOT NULL, id INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (server, id)
) STRICT;
CREATE TABLE vnode (
    server TEXT NOT NULL, volume INTEGER NOT NULL, number INTEGER NOT NULL,
    value TEXT NOT NULL, pages BLOB, PRIMARY KEY (server, volume, number)
) STRICT;
CREATE TABLE piece (
    server TEXT NOT NULL, volume INTEGER NOT NULL, vnode INTEGER NOT NULL,
    number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (server, volume, vnode, number)
) STRICT;
"""
_FIELDS = (
    "unique", "parent", "mode", "owner", "group", "author", "links", "version", "mtime",
    "server_mtime",
)  # fmt: skip


class StoreError(AfsError):
    """The folder cannot be used; the text says why, and what to do."""


class Folder:
    """The volumes of one cell on disk. Only one process may use it at a time."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises `StoreError`."""
        self._file = path / NAME
        advice = "name a folder that can be written and that no other demo uses"
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Its keys are nobody else's business. SQLite gives its other files the same mode.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._file, flags, 0o600))
            self._base = sqlite3.connect(self._file, isolation_level=None, timeout=0.5)
        except (OSError, sqlite3.Error) as exc:
            raise StoreError(f"{path}: {exc}: {advice}") from exc
        try:
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._prepare()
        except sqlite3.Error as exc:
            self.close()
            raise StoreError(f"{path}: {exc}: {advice}") from exc
        except StoreError:
            self.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise StoreError(
                f"{self._file}: of version {version}, {_VERSION} is expected: move it away"
            )
        if version == 0:
            self._base.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")

    def close(self) -> None:
        """Let go of it."""
        self._base.close()

    def load(self, cell: DemoCell) -> bool:
        """Put what is kept into a new cell, and keep its changes from now on.

        False: there was nothing. Raises `StoreError` for what makes no sense.
        """
        try:
            facts = dict(self._base.execute("SELECT key, value FROM cell"))
            if facts:
                self._load(cell, facts)
        except StoreError:
            self.close()
            raise
        except (sqlite3.Error, ValueError, KeyError, TypeError, struct.error) as exc:
            self.close()
            raise StoreError(f"{self._file}: damaged ({exc!r}): move it away") from exc
        cell.keep = lambda volume, safe: self.keep(cell, volume, safe)
        cell.keep_people = lambda: self.keep_people(cell)
        cell.forget = lambda server, number: self.forget(cell, server, number)
        return bool(facts)

    def keep(self, cell: DemoCell, volume: Volume, safe: bool) -> None:
        """Write what was changed of a volume; the database of locations goes with it."""
        server = next(s.name for s in cell.servers.values() if s.volumes.get(volume.id) is volume)
        where = (server, volume.id)
        with self._transaction(safe):
            self._keep_cell(cell)
            self._base.execute(
                "INSERT OR REPLACE INTO volume VALUES (?, ?, ?)", (*where, _volume_text(volume))
            )
            if volume.fresh:
                self._drop_vnodes(*where)
            for number in volume.changed:
                self._keep_vnode(where, number, volume.vnodes.get(number), volume.fresh)
        volume.changed.clear()
        volume.fresh = False

    def keep_people(self, cell: DemoCell) -> None:
        """Write who there is, and what keys they have."""
        with self._transaction(safe=False):
            self._keep_cell(cell)

    def forget(self, cell: DemoCell, server: str, number: int) -> None:
        """A volume is not at a server any more."""
        with self._transaction(safe=False):
            self._keep_cell(cell)
            self._base.execute("DELETE FROM volume WHERE server = ? AND id = ?", (server, number))
            self._drop_vnodes(server, number)

    @contextlib.contextmanager
    def _transaction(self, safe: bool) -> Iterator[None]:
        base = self._base
        if safe:
            base.execute("PRAGMA synchronous = FULL")
        base.execute("BEGIN")
        try:
            yield
        except BaseException:
            base.execute("ROLLBACK")
            raise
        else:
            base.execute("COMMIT")
        finally:
            if safe:
                base.execute("PRAGMA synchronous = NORMAL")

    def _drop_vnodes(self, server: str, volume: int) -> None:
        for table in ("vnode", "piece"):
            self._base.execute(
                f"DELETE FROM {table} WHERE server = ? AND volume = ?", (server, volume)
            )

    def _keep_cell(self, cell: DemoCell) -> None:
        facts = {"name": cell.name, "next_volume": str(cell.next_volume)}
        facts["people"] = json.dumps(cell.people.facts())
        facts["secrets"] = json.dumps(cell.realm.secrets())
        facts |= {f"uuid {s.name}": str(s.uuid) for s in cell.servers.values()}
        self._base.executemany("INSERT OR REPLACE INTO cell VALUES (?, ?)", facts.items())
        self._base.execute("DELETE FROM record")
        self._base.executemany(
            "INSERT INTO record VALUES (?, ?)",
            [(record.name, _record_text(record)) for record in cell.locations.records.values()],
        )

    def _keep_vnode(
        self, where: tuple[str, int], number: int, vnode: Vnode | None, whole: bool
    ) -> None:
        key = (*where, number)
        self._base.execute("DELETE FROM vnode WHERE server = ? AND volume = ? AND number = ?", key)
        if vnode is None or isinstance(vnode.data, DirectoryPages):
            self._base.execute(
                "DELETE FROM piece WHERE server = ? AND volume = ? AND vnode = ?", key
            )
        if vnode is None:
            return
        pages = vnode.data.data() if isinstance(vnode.data, DirectoryPages) else None
        self._base.execute(
            "INSERT INTO vnode VALUES (?, ?, ?, ?, ?)", (*key, _vnode_text(vnode), pages)
        )
        if isinstance(vnode.data, FileData):
            self._keep_pieces(key, vnode.data, whole)

    def _keep_pieces(self, key: tuple[str, int, int], data: FileData, whole: bool) -> None:
        for number in list(data.pieces) if whole else data.changed:
            if number in data.pieces:
                row = (*key, number, data.pieces[number])
                self._base.execute("INSERT OR REPLACE INTO piece VALUES (?, ?, ?, ?, ?)", row)
            else:
                self._base.execute(
                    "DELETE FROM piece WHERE server = ? AND volume = ? AND vnode = ? "
                    "AND number = ?",
                    (*key, number),
                )
        data.changed.clear()

    def _load(self, cell: DemoCell, facts: dict[str, str]) -> None:
        if facts["name"] != cell.name:
            raise StoreError(f"{self._file}: has the cell {facts['name']}, not {cell.name}")
        cell.next_volume = int(facts["next_volume"])
        cell.people.restore(json.loads(facts["people"]))
        secrets = json.loads(facts["secrets"])
        cell.realm.restore(secrets, secrets["users"])
        for server in cell.servers.values():
            if f"uuid {server.name}" in facts:
                cell.set_uuid(server.name, UUID(facts[f"uuid {server.name}"]))
        for name, text in self._base.execute("SELECT name, value FROM record").fetchall():
            cell.locations.records[name] = _record(name, text)
        rows = self._base.execute("SELECT server, id, value FROM volume").fetchall()
        for server_name, number, text in rows:
            if server_name not in cell.servers:
                raise StoreError(f"{self._file}: has volumes of {server_name}, which is not here")
            server = cell.servers[server_name]
            facts_of = json.loads(text)
            volume = Volume(
                number, facts_of["name"], server.partition, parent=facts_of["parent"],
                type=VolumeType(facts_of["type"]), quota=facts_of["quota"],
            )  # fmt: skip
            volume.min_quota = facts_of["min_quota"]
            volume.created = facts_of["created"]
            volume.next_unique = facts_of["next_unique"]
            volume.offline_message = facts_of["offline_message"].encode("latin-1")
            volume.adopt(self._vnodes(server_name, number))
            volume.fresh = False
            server.volumes[number] = volume

    def _vnodes(self, server: str, volume: int) -> dict[int, Vnode]:
        pieces: dict[int, dict[int, bytes]] = {}
        for vnode, number, data in self._base.execute(
            "SELECT vnode, number, data FROM piece WHERE server = ? AND volume = ?",
            (server, volume),
        ):
            pieces.setdefault(vnode, {})[number] = data
        vnodes = {}
        for number, text, pages in self._base.execute(
            "SELECT number, value, pages FROM vnode WHERE server = ? AND volume = ?",
            (server, volume),
        ):
            vnodes[number] = _vnode(number, text, pages, pieces.get(number, {}))
        return vnodes


def _volume_text(volume: Volume) -> str:
    return json.dumps(
        {
            "name": volume.name,
            "parent": volume.parent,
            "type": int(volume.type),
            "quota": volume.quota,
            "min_quota": volume.min_quota,
            "created": volume.created,
            "next_unique": volume.next_unique,
            "offline_message": volume.offline_message.decode("latin-1"),
        }
    )


def _record_text(record: Record) -> str:
    return json.dumps(
        {
            "ids": [record.number(type) for type in VolumeType],
            "writable": record.writable,
            "replicas": {server: int(flags) for server, flags in record.replicas.items()},
            "existing": sorted(record.existing),
        }
    )


def _record(name: str, text: str) -> Record:
    facts = json.loads(text)
    ids = {type: number for type, number in zip(VolumeType, facts["ids"], strict=True) if number}
    return Record(
        name,
        ids,
        facts["writable"],
        {server: vldb.SiteFlag(flags) for server, flags in facts["replicas"].items()},
        {VolumeType(type) for type in facts["existing"]},
    )


def _vnode_text(vnode: Vnode) -> str:
    facts: dict[str, object] = {name: getattr(vnode, name) for name in _FIELDS}
    facts["kind"] = int(vnode.kind)
    if vnode.acl is not None:
        facts["acl"] = [list(vnode.acl.positive.items()), list(vnode.acl.negative.items())]
    if isinstance(vnode.data, FileData):
        facts["length"] = vnode.length
    return json.dumps(facts)


def _vnode(number: int, text: str, pages: bytes | None, pieces: dict[int, bytes]) -> Vnode:
    facts = json.loads(text)
    data: FileData | DirectoryPages
    if pages is not None:
        data = DirectoryPages.load(pages)
    else:
        data = FileData()
        data.pieces, data.length = pieces, facts["length"]
    acl = None
    if "acl" in facts:
        positive, negative = facts["acl"]
        acl = AccessList(dict(positive), dict(negative))
    fields = {name: facts[name] for name in _FIELDS}
    return Vnode(number=number, kind=FileType(facts["kind"]), data=data, acl=acl, **fields)
