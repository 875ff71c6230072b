"""Volumes: made, filled, replicated and looked into with OpenAFS's own tools."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.realcell import dump
from tests.realcell.contents import Bytes, Directory, File

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.realcell.contents import Sparse
    from tests.realcell.hosts import Host

PARTITION = "a"
RESTORE_SECONDS = 600.0
_LOG_TIME_LENGTH = len("Mon Nov 23 00:05:21 2026 ")

# An ACL entry in a dump, big endian: who and which rights. Source: acl.h, ptserver's ids
# (system:administrators -204, system:anyuser -101); 127 is all of rlidwka.
_ADMINISTRATORS_ALL = (-204).to_bytes(4, "big", signed=True) + (127).to_bytes(4, "big")
_ANYUSER_ALL = (-101).to_bytes(4, "big", signed=True) + (127).to_bytes(4, "big")


class Volumes:
    """What can be done to volumes, by `vos … -localauth` on the database server."""

    def __init__(self, admin: Host, servers: Mapping[str, Host], prompt: Mapping[str, str]) -> None:
        """`prompt`: the environment in which `vos` does not sleep."""
        self._admin = admin
        self._servers = servers
        self._prompt = prompt

    def create(self, name: str, server: str = "fs1", *, quota: int = 0) -> int:
        """An empty volume, its root open to all with all rights; quota in KiB, 0: none.
        -> its id."""
        where = [self._servers[server].address, PARTITION]
        self._vos("create", *where, name, "-maxquota", str(quota))
        self.open_to_all(name, server)
        return self.volume_id(name)

    def open_to_all(self, name: str, server: str = "fs1") -> None:
        """Give system:anyuser what system:administrators has, everywhere in the volume. No
        client is needed: the volume is dumped, patched and restored over itself."""
        dump = self.dump(name)
        if _ADMINISTRATORS_ALL not in dump:
            raise ValueError(f"volume {name} has no ACL entry for administrators")
        self.restore(name, [dump.replace(_ADMINISTRATORS_ALL, _ANYUSER_ALL)], server)

    def dump(self, name: str) -> bytes:
        """The whole volume as `vos dump` gives it."""
        command = ["vos", "dump", "-id", name, "-time", "0", "-localauth"]
        return self._admin.run_bytes(command, timeout=RESTORE_SECONDS).stdout

    def restore(self, name: str, dump: Iterable[bytes], server: str = "fs1") -> int:
        """Make a volume of a dump, or replace its whole contents. -> its id."""
        where = ["-server", self._servers[server].address, "-partition", PARTITION]
        command = ["vos", "restore", *where, "-name", name, "-overwrite", "full", "-localauth"]
        self._admin.feed(command, dump, timeout=RESTORE_SECONDS)
        return self.volume_id(name)

    def restore_sparse(
        self, name: str, file_name: bytes, content: Sparse, server: str = "fs1"
    ) -> int:
        """A volume with one file that is mostly a hole. -> its id.

        A dump can hold such a file only with all its zeros. So a placeholder is restored, the
        file under the server's partition that holds it is grown, and a salvage makes the vnode's
        length agree."""
        placeholder = f"placeholder of {name}/{os.fsdecode(file_name)}".encode()
        tree = Directory({file_name: File(Bytes(placeholder))})
        number = self.restore(name, dump.write(tree, name=name), server)
        stored = self._find_stored(server, placeholder)
        with stored.open("r+b") as data:
            data.truncate(content.length)
            data.write(content.read(0, len(placeholder)))
            for offset, mark in content.marks.items():
                data.seek(offset)
                data.write(mark)
        self.salvage(name, server)
        return number

    def salvage(self, name: str, server: str = "fs1") -> str:
        """Have the salvager check and repair a volume. -> what it logged, without times"""
        log = self._servers[server].root / "var/log/openafs/SalsrvLog"
        before = log.stat().st_size
        where = ["-server", self._servers[server].address, "-partition", PARTITION]
        command = ["bos", "salvage", *where, "-volume", name, "-forceDAFS", "-localauth"]
        self._admin.run(command, timeout=RESTORE_SECONDS)
        lines = log.read_bytes()[before:].decode(errors="replace").splitlines()
        return "\n".join(line[_LOG_TIME_LENGTH:] for line in lines)

    def _find_stored(self, server: str, data: bytes) -> Path:
        """The file below a server's partition with exactly this content."""
        partition = self._servers[server].root / f"vicep{PARTITION}"
        for folder, _, names in os.walk(partition / "AFSIDat"):
            for file_name in names:
                path = Path(folder, file_name)
                if path.stat().st_size == len(data) and path.read_bytes() == data:
                    return path
        raise LookupError(f"{server} stores no file with {data!r}")

    def replicate(self, name: str, servers: Iterable[str] = ("fs1", "fs2")) -> None:
        """Give a volume read-only sites and fill them."""
        for server in servers:
            self._vos("addsite", self._servers[server].address, PARTITION, name)
        self.release(name)

    def release(self, name: str, *, prompt: bool = True) -> None:
        """Publish the read-write volume's contents to its read-only sites; not `prompt`: with the
        5 s that `vos` gives clients between the first site and the others."""
        self._vos("release", name, env=self._prompt if prompt else None)

    def backup(self, name: str) -> None:
        """Make or refresh NAME.backup."""
        self._vos("backup", name)

    def remove(self, name: str, server: str = "fs1") -> None:
        self._vos("remove", self._servers[server].address, PARTITION, name)

    def volume_id(self, name: str) -> int:
        """The number of a volume from the VLDB; NAME.readonly and NAME.backup work too."""
        base, _, suffix = name.rpartition(".")
        kind = {"readonly": "ROnly", "backup": "Backup"}.get(suffix, "RWrite")
        entry = self._vos("listvldb", "-name", name if kind == "RWrite" else base)
        found = re.search(rf"\b{kind}: (\d+)", entry)
        if found is None:
            raise LookupError(f"the VLDB has no {name}:\n{entry}")
        return int(found[1])

    def examine(self, name: str) -> dict[str, str]:
        """Fields of `vos examine -format`, such as status, diskused, maxquota, filecount."""
        text = self._vos("examine", name, "-format")
        return dict(re.findall(r"^(\w+)\s+(\S.*?)\s*$", text, re.MULTILINE))

    def _vos(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        command = ["vos", *arguments, "-localauth"]
        return self._admin.run(command, timeout=RESTORE_SECONDS, env=env).stdout
