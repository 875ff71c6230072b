"""rxkad against OpenAFS: our client at its servers, its tools at our server."""

from __future__ import annotations

import enum
import hashlib
import os
import shutil
import struct
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import vldb
from afsfuse.interfaces.common import Fid
from rxrpc import (
    NULL,
    ByteService,
    CallAborted,
    Endpoint,
    RxgenCode,
    SecurityLevel,
    ServerCall,
)
from rxrpc.net.sockets import UdpSocket
from rxrpc.rpc import Void
from rxrpc.security.rxkad import RxkadCode, RxkadServer, RxkadServerConnection
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.wire.packet import PacketType
from tests.realcell import dump, seed
from tests.realcell.configuration import USERS, cell_database
from tests.realcell.contents import Directory
from tests.realcell.tokens import ADMIN, kerberos_token, local_token, service_keys

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from rxrpc.net.sockets import DatagramSocket
    from rxrpc.security.base import ClientSecurity
    from rxrpc.wire.packet import Address
    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell

MIB = 1 << 20
FS_PORT, PR_PORT, VL_PORT = 7000, 7002, 7003
PR_SERVICE = 73
PR_LIST_MAX, PR_LIST_ENTRIES = 510, 521  # ptint.xg
VL_NEW_VOLUME_ID, VL_SET_LOCK = 505, 508  # vldbint.xg
STORE_DATA64 = 65538  # afsint.xg
NOT_ALLOWED = 13  # EACCES, of the file server
PR_DENIED, VL_DENIED = 267269, 363546  # PRPERM, VL_PERM
CALLBACK_SERVICE = 1
TELL_ME, WHO_ARE_YOU = 65538, 213

LEVELS = pytest.mark.parametrize("level", list(SecurityLevel), ids=lambda each: each.name)


async def answer_file_server(call: ServerCall) -> None:
    """As a cache manager of the oldest kind, that file servers can still do with."""
    (opcode,) = struct.unpack_from("!I", await call.receive_rest())
    if opcode in (TELL_ME, WHO_ARE_YOU):
        raise CallAborted(RxgenCode.OPCODE)


@asynccontextmanager
async def client(cell: RealCell, socket: DatagramSocket | None = None) -> AsyncIterator[Endpoint]:
    """An endpoint on this machine."""
    endpoint = Endpoint(bind=(cell.main_address, 0), socket=socket)
    endpoint.add_service(ByteService(CALLBACK_SERVICE, answer_file_server))
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        with trio.fail_after(120):
            yield endpoint
        nursery.cancel_scope.cancel()


async def ask(
    endpoint: Endpoint,
    address: tuple[str, int],
    service: int,
    request: bytes,
    security: ClientSecurity = NULL,
) -> bytes:
    """A call of bytes."""
    async with endpoint.connect(address, service, security=security).begin() as call:
        await call.send(request)
        await call.send_eof()
        return await call.receive_rest()


@pytest.fixture(scope="module")
def keys(real_cell: RealCell) -> ServiceKeys:
    return service_keys(real_cell)


def fid_in(cell: RealCell, volume: str, *path: bytes) -> Fid:
    """The fid of something in the cell's standard contents."""
    tree = seed.VOLUMES[volume].tree()
    assert isinstance(tree, Directory)
    number = dump.Numbering(tree).by_path[path]
    return Fid(cell.volumes.volume_id(volume), number.vnode, number.unique)


# Our client at OpenAFS's servers


@LEVELS
async def test_the_protection_server(
    real_cell: RealCell, keys: ServiceKeys, level: SecurityLevel
) -> None:
    """It lists its entries for administrators only."""
    address = (real_cell.fs1.address, PR_PORT)
    request = struct.pack("!3I", PR_LIST_ENTRIES, 1, 0)
    async with client(real_cell) as endpoint:
        with pytest.raises(CallAborted) as caught:
            await ask(endpoint, address, PR_SERVICE, request)
        assert caught.value.code == PR_DENIED
        reply = await ask(endpoint, address, PR_SERVICE, request, local_token(keys, level))
    (count,) = struct.unpack_from("!I", reply)
    assert count >= 2 + len(USERS)


@LEVELS
async def test_the_volume_location_server(
    real_cell: RealCell, keys: ServiceKeys, level: SecurityLevel
) -> None:
    """It tells the next volume number to administrators only."""
    address = (real_cell.fs1.address, VL_PORT)
    request = struct.pack("!2I", VL_NEW_VOLUME_ID, 0)
    token = local_token(keys, level)
    async with client(real_cell) as endpoint:
        with pytest.raises(CallAborted) as caught:
            await ask(endpoint, address, vldb.SERVICE_ID, request)
        assert caught.value.code == VL_DENIED
        assert len(await ask(endpoint, address, vldb.SERVICE_ID, request, token)) == 4
        connection = endpoint.connect(address, vldb.SERVICE_ID, security=token)
        assert await connection.call(vldb.PROBE_SERVER, Void()) == Void()


async def fetch(endpoint: Endpoint, cell: RealCell, fid: Fid, security: ClientSecurity) -> bytes:
    """A whole small file."""
    connection = endpoint.connect((cell.fs1.address, FS_PORT), fs.SERVICE_ID, security=security)
    args = fs.FetchData64Args(fid, 0, 1000)
    async with connection.stream(fs.FETCH_DATA64, args) as call:
        (length,) = struct.unpack("!q", await call.receive_exactly(8))
        data = await call.receive_exactly(length)
        await call.finish()
        return data


@LEVELS
async def test_rights_of_an_administrator(
    real_cell: RealCell, keys: ServiceKeys, level: SecurityLevel
) -> None:
    fid = fid_in(real_cell, "rights", b"none", b"file")
    folder = fid_in(real_cell, "rights", b"none")
    token = local_token(keys, level)
    async with client(real_cell) as endpoint:
        for nobody in (NULL, local_token(keys, level, ADMIN.__class__("bob", "", ADMIN.realm))):
            with pytest.raises(CallAborted) as caught:
                await fetch(endpoint, real_cell, fid, nobody)
            assert caught.value.code == NOT_ALLOWED
        assert await fetch(endpoint, real_cell, fid, token) == b"not for all\n"
        server = endpoint.connect((real_cell.fs1.address, FS_PORT), fs.SERVICE_ID, security=token)
        reply = await server.call(fs.FETCH_STATUS, fs.FidArgs(folder))
    assert reply.status.caller_access & 0x7F == 0x7F


@LEVELS
async def test_kerberos_from_the_kdc(
    real_cell: RealCell, tmp_path: Path, level: SecurityLevel
) -> None:
    """A ticket that the KDC has given, with an AES session key."""
    kinit = partial(kerberos_token, real_cell.clients["client1"], level=level, folder=tmp_path)
    alice = kinit("alice", USERS["alice"])
    admin = kinit("admin", "administrator")
    fid = fid_in(real_cell, "rights", b"none", b"file")
    async with client(real_cell) as endpoint:
        with pytest.raises(CallAborted) as caught:
            await fetch(endpoint, real_cell, fid, alice)
        assert caught.value.code == NOT_ALLOWED
        assert await fetch(endpoint, real_cell, fid, admin) == b"not for all\n"


@pytest.mark.parametrize("level", [SecurityLevel.AUTH, SecurityLevel.CRYPT])
async def test_a_large_file(real_cell: RealCell, keys: ServiceKeys, level: SecurityLevel) -> None:
    fid = fid_in(real_cell, "big", b"big.bin")
    size = 32 * MIB
    buffer = bytearray(size)
    async with client(real_cell) as endpoint:
        server = endpoint.connect(
            (real_cell.fs1.address, FS_PORT), fs.SERVICE_ID, security=local_token(keys, level)
        )

        async def piece(at: int) -> None:
            args = fs.FetchData64Args(fid, at, 4 * MIB)
            async with server.stream(fs.FETCH_DATA64, args) as call:
                (length,) = struct.unpack("!q", await call.receive_exactly(8))
                assert length == 4 * MIB
                await call.receive_into(memoryview(buffer)[at : at + length])
                await call.finish()

        async with trio.open_nursery() as nursery:
            for at in range(0, size, 4 * MIB):
                nursery.start_soon(piece, at)
        drops = endpoint.statistics().drops
    expected = hashlib.sha256()
    for block in range(size // MIB):
        expected.update(seed.BIG.block(block))
    assert hashlib.sha256(buffer).digest() == expected.digest()
    assert "insecure" not in {reason.value for reason in drops}


@LEVELS
async def test_storing(real_cell: RealCell, keys: ServiceKeys, level: SecurityLevel) -> None:
    fid = fid_in(real_cell, "scratch", b"slot%02d" % (14 + level))
    data = os.urandom(MIB + 5)
    token = local_token(keys, level)
    request = struct.pack("!I3I", STORE_DATA64, fid.volume, fid.vnode, fid.unique)
    request += struct.pack("!6I", 1, int(time.time()), 0, 0, 0, 0)  # only the time is to be set
    request += struct.pack("!3q", 0, len(data), len(data))
    address = (real_cell.fs1.address, FS_PORT)
    async with client(real_cell) as endpoint:
        connection = endpoint.connect(address, fs.SERVICE_ID, security=token)
        async with connection.begin(length=len(request) + len(data)) as call:
            await call.send(request)
            await call.send(data)
            await call.receive_rest()
        got = bytearray(len(data))
        args = fs.FetchData64Args(fid, 0, len(data))
        async with connection.stream(fs.FETCH_DATA64, args) as stream:
            await stream.receive_exactly(8)
            await stream.receive_into(memoryview(got))
            await stream.finish()
    assert got == data


async def refusal(cell: RealCell, security: ClientSecurity) -> int:
    """What OpenAFS's server says to an identity."""
    async with client(cell) as endpoint:
        server = endpoint.connect((cell.fs1.address, VL_PORT), vldb.SERVICE_ID, security=security)
        with pytest.raises(CallAborted) as caught:
            await server.call(vldb.PROBE_SERVER, Void())
        assert caught.value.remote
        return caught.value.code


async def test_what_openafs_refuses(real_cell: RealCell, keys: ServiceKeys) -> None:
    wrong = local_token(keys, SecurityLevel.CRYPT, wrong_key=True)
    assert await refusal(real_cell, wrong) == RxkadCode.SEALED_INCONSISTENT
    old = local_token(keys, SecurityLevel.CRYPT, end=int(time.time()) - 3600)
    assert await refusal(real_cell, old) == RxkadCode.EXPIRED


@pytest.mark.parametrize("level", [SecurityLevel.AUTH, SecurityLevel.CRYPT])
async def test_a_packet_that_was_changed_on_the_way(
    real_cell: RealCell, keys: ServiceKeys, level: SecurityLevel
) -> None:
    """OpenAFS's server finds it in our request, and we in its reply."""
    token = local_token(keys, level)
    for changes in (Changes.SENT, Changes.RECEIVED):
        socket = ChangingSocket(UdpSocket((real_cell.main_address, 0), 1 << 20))
        async with client(real_cell, socket) as endpoint:
            address = (real_cell.fs1.address, VL_PORT)
            server = endpoint.connect(address, vldb.SERVICE_ID, security=token)
            assert await server.call(vldb.PROBE_SERVER, Void()) == Void()
            socket.changes = changes
            with pytest.raises(CallAborted) as caught:
                await server.call(vldb.GET_ENTRY_BY_NAME_N, vldb.VolumeNameArgs(b"root.cell"))
            assert caught.value.code in (RxkadCode.SEALED_INCONSISTENT, RxkadCode.DATA_LENGTH)
            assert caught.value.remote == (changes is Changes.SENT)


class Changes(enum.Enum):
    """Whose DATA a `ChangingSocket` changes."""

    NOTHING = enum.auto()
    SENT = enum.auto()
    RECEIVED = enum.auto()


class ChangingSocket:
    """A socket that turns a bit of the body of DATA over, with a UDP checksum that is right."""

    def __init__(self, socket: UdpSocket) -> None:
        self._socket = socket
        self.changes = Changes.NOTHING

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _change(self, data: bytes, when: Changes) -> bytes:
        if self.changes is not when or data[20] != PacketType.DATA:
            return data
        return data[:29] + bytes([data[29] ^ 0x10]) + data[30:]

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        changed = [(self._change(data, Changes.SENT), to) for data, to in datagrams]
        return self._socket.send(changed)

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        batch = self._socket.receive(limit)
        return [(self._change(data, Changes.RECEIVED), source) for data, source in batch]


# OpenAFS's tools at our server

ENTRIES = 150


class OurServer:
    """A little of a protection and of a volume location server: enough for some commands."""

    def __init__(self) -> None:
        self.callers: list[tuple[str, SecurityLevel]] = []

    async def serve(self, call: ServerCall) -> None:
        request = await call.receive_rest()
        assert isinstance(call.security, RxkadServerConnection)
        self.callers.append((str(call.security.principal), call.security_level))
        (opcode,) = struct.unpack_from("!I", request)
        if opcode == PR_LIST_MAX:
            await call.send(struct.pack("!2i", 4711, -815))
        elif opcode == PR_LIST_ENTRIES:
            entries = b"".join(self._entry(number) for number in range(ENTRIES))
            await call.send(struct.pack("!I", ENTRIES) + entries + struct.pack("!i", -1))
        elif opcode != VL_SET_LOCK:  # whose reply is empty
            raise CallAborted(RxgenCode.OPCODE)

    def _entry(self, number: int) -> bytes:
        """prlistentries of ptint.xg: each character of the name is a word."""
        name = b"user%03d" % number
        words = (0, number + 1, -204, -204, 0, 0, 0, *[0] * 5, *name, *[0] * (64 - len(name)))
        return struct.pack(f"!{len(words)}i", *words)


@asynccontextmanager
async def our_server(cell: RealCell, security: RxkadServer) -> AsyncIterator[OurServer]:
    """On the machine's own address, under the ports that the tools ask."""
    service = OurServer()
    async with trio.open_nursery() as nursery:
        for port, number in ((PR_PORT, PR_SERVICE), (VL_PORT, vldb.SERVICE_ID)):
            endpoint = Endpoint(bind=(cell.main_address, port))
            endpoint.add_service(ByteService(number, service.serve, security=[security]))
            await nursery.start(endpoint.run)
        with trio.fail_after(120):
            yield service
        nursery.cancel_scope.cancel()


async def tool(
    cell: RealCell,
    folder: Path,
    *command: str,
    check: bool = True,
    des_key: tuple[int, bytes] | None = None,
) -> subprocess.CompletedProcess[str]:
    """A tool with the servers' key on the host fs1, where our server is the database server.

    It sees another /etc/openafs/server, which goes away with the namespace it is in. With a DES
    key, version and key, this is all it has.
    """
    shutil.copytree(cell.fs1.root / "etc/openafs/server", folder, dirs_exist_ok=True)
    if des_key is not None:
        for name in ("rxkad.keytab", "KeyFileExt"):
            (folder / name).unlink()
        (folder / "KeyFile").write_bytes(struct.pack("!2I8s", 1, *des_key))
    (folder / "CellServDB").write_text(cell_database([cell.main_address]))
    script = 'mount --bind "$0" /etc/openafs/server && exec "$@"'
    whole = ["unshare", "--mount", "sh", "-c", script, str(folder), *command, "-localauth"]
    return await trio.to_thread.run_sync(partial(cell.fs1.run, whole, check=check))


async def test_pts_at_our_server(real_cell: RealCell, keys: ServiceKeys, tmp_path: Path) -> None:
    """Its ticket is of the form 213, and it encrypts; the list takes many packets."""
    async with our_server(real_cell, RxkadServer(keys, clock=time.time)) as service:
        done = await tool(real_cell, tmp_path, "pts", "listmax")
        assert "4711" in done.stdout
        assert "-815" in done.stdout
        listed = await tool(real_cell, tmp_path, "pts", "listentries")
    lines = [line for line in listed.stdout.splitlines() if line.startswith("user")]
    assert len(lines) == ENTRIES
    assert set(service.callers) == {("afs@", SecurityLevel.CRYPT)}


@pytest.mark.parametrize(
    ("options", "level"),
    [((), SecurityLevel.CLEAR), (("-encrypt",), SecurityLevel.CRYPT)],
    ids=["CLEAR", "CRYPT"],
)
async def test_vos_at_our_server(
    real_cell: RealCell,
    keys: ServiceKeys,
    tmp_path: Path,
    options: tuple[str, ...],
    level: SecurityLevel,
) -> None:
    async with our_server(real_cell, RxkadServer(keys, clock=time.time)) as service:
        done = await tool(real_cell, tmp_path, "vos", "lock", "536870999", *options)
    assert "Locked VLDB entry for volume 536870999" in done.stdout
    assert service.callers == [("afs@", level)]


async def test_a_ticket_of_kerberos_4(real_cell: RealCell, tmp_path: Path) -> None:
    """What a tool makes that knows the cell's old DES key and no other."""
    key = bytes.fromhex("0123456789abcdef")
    server = RxkadServer(ServiceKeys({(5, 1): key}), clock=time.time)
    async with our_server(real_cell, server) as service:
        await tool(real_cell, tmp_path, "vos", "lock", "536870999", des_key=(5, key))
    assert service.callers == [("afs@", SecurityLevel.CLEAR)]
    async with our_server(real_cell, RxkadServer(ServiceKeys(), clock=time.time)) as service:
        done = await tool(
            real_cell, tmp_path / "again", "vos", "lock", "536870999", check=False, des_key=(5, key)
        )
    assert "unknown key version" in done.stdout + done.stderr
    assert not service.callers


async def test_tools_are_refused_by_our_server(
    real_cell: RealCell, keys: ServiceKeys, tmp_path: Path
) -> None:
    """By one with another key or none, by one of another time, by one that wants more."""
    wrong = ServiceKeys({(kvno, enctype): bytes(32) for kvno, enctype in keys.names})
    for server, text in (
        (RxkadServer(wrong, clock=time.time), "bad ticket"),
        (RxkadServer(ServiceKeys(), clock=time.time), "unknown key version"),
        (RxkadServer(keys, clock=lambda: 2.0**31 + 1000), "expired"),
        (RxkadServer(keys, clock=time.time, min_level=SecurityLevel.CRYPT), "level negotiation"),
    ):
        async with our_server(real_cell, server) as service:
            done = await tool(real_cell, tmp_path, "vos", "lock", "536870999", check=False)
        assert text in done.stdout + done.stderr
        assert not service.callers


async def test_a_ticket_of_the_kdc_at_our_server(
    real_cell: RealCell, keys: ServiceKeys, tmp_path: Path
) -> None:
    """A ticket that we did not make, of the form 256."""
    alice = kerberos_token(
        real_cell.clients["client1"], "alice", USERS["alice"], SecurityLevel.CRYPT, tmp_path
    )
    server = RxkadServer(keys, clock=time.time)
    async with our_server(real_cell, server) as service, client(real_cell) as endpoint:
        address = (real_cell.main_address, PR_PORT)
        reply = await ask(endpoint, address, PR_SERVICE, struct.pack("!I", PR_LIST_MAX), alice)
    assert struct.unpack("!2i", reply) == (4711, -815)
    assert service.callers == [("alice@TEST.AFS", SecurityLevel.CRYPT)]
