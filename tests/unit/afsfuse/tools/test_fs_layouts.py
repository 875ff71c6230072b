"""What `afsfuse fs` prints, beside what OpenAFS's own `fs` prints of the same values.

OpenAFS's program asks the kernel, and here gets its answers from files: `tests/tools/pioctls.c`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli
from afsfuse.acl import AccessList
from afsfuse.control.acls import shown
from afsfuse.control.places import Daemon, Place
from afsfuse.tools import daemons
from tests.mount.harness import ROOT
from tests.unit.afsfuse.tools.test_fs_syntax import FS, openafs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    FS is None or shutil.which("gcc") is None, reason="needs OpenAFS's fs, and gcc"
)

# Commands, as the program sends them. Sources: afs/afs_pioctl.c, _VICEIOCTL in afs/vioc.h
SET_ACL, GET_ACL, GET_VOLUME, WHERE_IS, GET_CELL = (f"401856{n:02x}" for n in (1, 2, 4, 14, 27))
CHECK_SERVERS, CHECK_VOLUMES, SET_CACHE, FID = (f"401856{n:02x}" for n in (10, 11, 24, 22))
MOUNT_POINT, FILE_CELL, OWN_CELL, SYSNAME = (f"401856{n:02x}" for n in (29, 30, 31, 38))
CACHE, STORE_BEHIND, GET_CRYPT, ACCESS = (f"401856{n:02x}" for n in (40, 47, 55, 69))
ALIAS, NEW_UUID = "40184302", "40184309"

CELL = "example.org"
HOSTS = ["127.9.9.9", "127.8.8.8"]


class Fake(Daemon):
    """A daemon that answers with what it was given."""

    def __init__(self, answers: dict[str, dict[str, Any]]) -> None:
        self.answers = answers

    def ask(self, verb: str, seconds: float = 1.0, /, **arguments: object) -> dict[str, Any]:
        return self.answers.get(verb, {"directory": "/afs"})


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "pioctls.so"
    source = ROOT / "tests" / "tools" / "pioctls.c"
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True
    )
    return made


class Both:
    """The two programs."""

    def __init__(
        self,
        folder: Path,
        shim: Path,
        patch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._folder = folder
        self._shim = shim
        self._patch = patch
        self._capsys = capsys

    def ours(self, words: list[str], answers: dict[str, dict[str, Any]]) -> tuple[int, str]:
        fake = Fake(answers)

        @contextlib.contextmanager
        def of(path: str, *, follow: bool = True) -> Iterator[daemons.Served]:
            yield daemons.Served(path, fake, "0:1", 1, "/afs")

        for module in ("doing", "acl", "mounts"):
            self._patch.setattr(f"afsfuse.tools.fs.{module}.of", of)
        self._patch.setattr(Place, "daemons", lambda self: [fake])
        status = cli.main(["fs", *words])
        return status, self._capsys.readouterr().out

    def theirs(self, words: list[str], answers: dict[str, bytes]) -> tuple[int, str]:
        for old in self._folder.iterdir():
            old.unlink()
        for command, answer in answers.items():
            (self._folder / command).write_bytes(answer)
        done = openafs(*words, PIOCTLS=str(self._folder), LD_PRELOAD=str(self._shim))
        return done.returncode, done.stdout

    def sent(self, command: str) -> bytes:
        """What OpenAFS's program sent along with a command."""
        return (self._folder / f"{command}.in").read_bytes()


@pytest.fixture
def both(
    tmp_path: Path, shim: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Both:
    folder = tmp_path / "answers"
    folder.mkdir()
    for module in ("places", "servers", "cells"):  # no DNS is asked: as OpenAFS's, by addresses
        monkeypatch.setattr(f"afsfuse.tools.fs.{module}.names_of", lambda all: {a: a for a in all})
    return Both(folder, shim, monkeypatch, capsys)


def addresses(hosts: list[str], room: int) -> bytes:
    return b"".join(map(socket.inet_aton, hosts)).ljust(room, b"\0")


VOLUMES = [
    {"quota": quota, "used": used, "partition": partition, "available": available}
    for quota, used, partition, available in (
        (5000, 10, 1000000, 500000), (5000, 4800, 1000000, 90000), (0, 12, 1000000, 20000),
        (100, 90, 100, 3), (100, 91, 100, 2), (100, 250, 100, 9), (2**31 - 1, 0, 2**31 - 1, 1),
        (3 << 20, 2 << 20, 900 << 20, 300 << 20), (1023, 1023, 1024, 1024),
    )
]  # fmt: skip


@pytest.mark.parametrize("values", VOLUMES, ids=str)
@pytest.mark.parametrize("command", ["lq", "df", "lq -human", "df -human", "quota", "exa"])
def test_volumes(both: Both, command: str, values: dict[str, int]) -> None:
    for name, message in (("user.smith", ""), ("a.volume.with.a.very.long.name", "for a while")):
        number, fid = 536870918, [536870918, 3, 4]
        status = struct.pack(
            "=2i4b6i", number, number, 1, 1, 1, 0, 1, 0, values["quota"], values["used"],
            values["available"], values["partition"],
        )  # fmt: skip
        blob = status + name.encode() + b"\0" + message.encode() + b"\0\0"
        words = [*command.split()[:1], "/tmp", "/usr", *command.split()[1:]]
        theirs = both.theirs(words, {GET_VOLUME: blob, FID: struct.pack("4I", 0, *fid)})
        answer = {"volume": name, "number": number, "offline_message": message, "message": "",
                  **values}  # fmt: skip
        what = {"fid": fid, "number": number}
        assert both.ours(words, {"volume": answer, "what": what}) == theirs


LISTS = [
    b"3\n1\nsystem:administrators\t127\nalice\t9\n1234\t8\nbob\t16777231\n\0",
    b"1\n0\nsystem:anyuser\t9\n\0",
    b"0\n1\nbob\t127\n\0",
    b"0\n0\n\0",
    b"2\n0\nall\t-16777089\nsome\t2130706432\n\0",
]


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("command", ["la", "la -cmd"])
def test_access_lists(both: Both, command: str, text: bytes) -> None:
    words = [*command.split()[:1], "/tmp", "/usr", *command.split()[1:]]
    if "-cmd" in words and text.startswith(b"0"):
        return  # OpenAFS prints a command that sets nothing, and is none
    answer = shown(AccessList.from_server(text))
    assert both.ours(words, {"acl": answer}) == both.theirs(words, {GET_ACL: text})


CHANGES = [
    ["alice", "w+"], ["alice", "r-"], ["alice", "none"], ["new", "write", "bob", "rl"],
    ["alice", "none", "new", "all"], ["alice", "rl", "alice", "w+"], ["new", "AB"],
    ["new", "mail"], ["alice", "rlidwka-"], ["new", "l-"], ["alice", "read+"], ["new", ""],
]  # fmt: skip


@pytest.mark.parametrize("text", LISTS[:3])
@pytest.mark.parametrize("pairs", CHANGES, ids=" ".join)
@pytest.mark.parametrize("flag", ["", "-negative", "-clear"])
def test_lists_are_changed_in_the_same_way(
    both: Both, text: bytes, pairs: list[str], flag: str
) -> None:
    """What OpenAFS's program stores is what this client makes of the same arguments."""
    words = ["sa", "-dir", "/tmp", "-acl", *pairs, *filter(None, [flag])]
    both.theirs(words, {GET_ACL: text, SET_ACL: b"", FILE_CELL: b"\0"})
    wanted = AccessList() if flag == "-clear" else AccessList.from_server(text)
    for name, rights in zip(pairs[::2], pairs[1::2], strict=True):
        wanted = wanted.with_entry(name.encode(), rights, negative=flag == "-negative")
    assert AccessList.from_server(both.sent(SET_ACL).rstrip(b"\n")) == wanted


@pytest.mark.parametrize("text", LISTS)
def test_lists_are_copied_in_the_same_way(both: Both, text: bytes) -> None:
    copied = b"2\n1\nnew\t9\nalice\t127\nbob\t1\n\0"
    both.theirs(
        ["ca", "/tmp", "/usr"], {f"{GET_ACL}.0": copied, f"{GET_ACL}.1": text, SET_ACL: b""}
    )
    stored = AccessList.from_server(both.sent(SET_ACL).rstrip(b"\n"))
    made = AccessList.from_server(copied).over(AccessList.from_server(text))
    assert dict(made.positive) == dict(stored.positive)
    assert dict(made.negative) == dict(stored.negative)


def cells(count: int) -> dict[str, dict[str, Any]]:
    listed = [{"name": "a.org", "servers": HOSTS}, {"name": "b.org", "servers": []}]
    aliases = [{"alias": "a", "cell": "a.org"}, {"alias": "b", "cell": "b.org"}]
    return {"cells": {"this_cell": CELL, "cells": listed[:count], "aliases": aliases[:count]}}


CELL_BLOBS = {
    f"{GET_CELL}.0": addresses(HOSTS, 32) + b"a.org\0",
    f"{GET_CELL}.1": addresses([], 32) + b"b.org\0",
}
WHAT = {"cell": CELL, "fid": [536870918, 3, 4], "servers": HOSTS}
TARGET = {"mount-point": {"target": "#example.org:root.cell"}}
SIZES = {"limit": 1000 << 10, "used": 777 << 10, "files": 5}


@pytest.mark.parametrize(
    ("line", "ours", "theirs"),
    [
        ("whereis /tmp /usr", {"what": WHAT}, {WHERE_IS: addresses(HOSTS, 64)}),
        ("whereis", {"what": {**WHAT, "servers": HOSTS[:1]}}, {WHERE_IS: addresses(HOSTS[:1], 64)}),
        ("whichcell /tmp .", {"what": WHAT}, {FILE_CELL: CELL.encode()}),
        ("getfid /tmp", {"what": WHAT},
         {FID: struct.pack("4I", 0, 536870918, 3, 4), FILE_CELL: CELL.encode()}),
        ("gca /tmp", {"rights": {"rights": "rlidwkaA"}},
         {ACCESS: struct.pack("5I", 127 | 1 << 24, 0, 0, 0, 0)}),
        ("gca /tmp", {"rights": {"rights": ""}}, {ACCESS: bytes(20)}),
        ("wscell", cells(0), {OWN_CELL: CELL.encode()}),
        ("listcells -numeric", cells(2), CELL_BLOBS),
        ("listaliases", cells(2), {f"{ALIAS}.0": b"a\0a.org\0", f"{ALIAS}.1": b"b\0b.org\0"}),
        ("sysname", {"sysname": {"names": ["amd64_linux26"]}},
         {SYSNAME: struct.pack("i", 1) + b"amd64_linux26\0"}),
        ("sysname", {"sysname": {"names": ["a", "b"]}}, {SYSNAME: struct.pack("i", 2) + b"a\0b\0"}),
        ("sysname a", {"sysname": {"names": ["a"]}}, {SYSNAME: struct.pack("i", 1) + b"a\0"}),
        ("sysname a b", {"sysname": {"names": []}}, {SYSNAME: struct.pack("i", 2) + b"a\0b\0"}),
        ("getcrypt", {"crypt": {"level": "crypt"}}, {GET_CRYPT: struct.pack("i", 1)}),
        ("getcrypt", {"crypt": {"level": "clear"}}, {GET_CRYPT: struct.pack("i", 0)}),
        ("getcacheparms", {"cache-size": SIZES}, {CACHE: struct.pack("16i", 1000, 777, *[0] * 14)}),
        ("setcachesize 5000", {"cache-size": SIZES}, {SET_CACHE: b""}),
        ("storebehind", {}, {STORE_BEHIND: bytes(8)}),
        ("storebehind -allfiles 0", {}, {STORE_BEHIND: bytes(8)}),
        ("lsmount /tmp", TARGET, {MOUNT_POINT: b"#example.org:root.cell\0"}),
        ("checkservers", {"check-servers": {"down": []}}, {CHECK_SERVERS: bytes(64)}),
        ("checkservers -fast", {"check-servers": {"down": [{"address": one} for one in HOSTS]}},
         {CHECK_SERVERS: addresses(HOSTS, 64)}),
        ("checkservers -interval 0", {"probe-interval": {"seconds": 180, "before": 180}},
         {CHECK_SERVERS: struct.pack("i", 180)}),
        ("checkservers -interval 60", {"probe-interval": {"seconds": 60, "before": 180}},
         {CHECK_SERVERS: struct.pack("i", 180)}),
        ("checkvolumes", {"check-volumes": {}}, {CHECK_VOLUMES: b""}),
        ("uuid -generate", {"uuid": {"uuid": "x"}}, {NEW_UUID: b""}),
    ],
    ids=str,
)  # fmt: skip
def test_lines(
    both: Both, line: str, ours: dict[str, dict[str, Any]], theirs: dict[str, bytes]
) -> None:
    words = line.split()
    assert both.ours(words, ours) == both.theirs(words, theirs)


def test_a_link_to_a_mount_point(both: Both, tmp_path: Path) -> None:
    link = tmp_path / "link"
    os.symlink("/tmp", link)
    words = ["lsmount", str(link)]
    blob = {MOUNT_POINT: b"#example.org:root.cell\0"}
    assert both.ours(words, TARGET) == both.theirs(words, blob)
