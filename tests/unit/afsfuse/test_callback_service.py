"""The callback service, called over a real socket by a client of our own."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import pytest
import trio

from afsfuse.callback_service import CallbackService, cache_config
from afsfuse.cell.cellservdb import CellFiles, parse_cellservdb
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.resolver import NoDns
from afsfuse.cell.servers import ServerRegistry
from afsfuse.interfaces import callback as cb
from afsfuse.interfaces.common import CallBack, Fid
from rxrpc import (
    NULL,
    CallAborted,
    ClientSecurity,
    Connection,
    Endpoint,
    Parameters,
    RxCode,
    SecurityLevel,
)
from rxrpc.rpc import Rpc, Void
from rxrpc.security.rxkad import RxkadClient
from rxrpc.xdr import Array, decode, encode, xdr_struct

OURS = UUID("12345678-9abc-4def-8123-456789abcdef")
SERVER = UUID("005b351a-8503-1b03-95b3-0100007faa77")
FID = Fid(536870912, 2, 3)
CELLS = """\
>example.org
192.0.2.1
192.0.2.2
>far.example
""" + "".join(f"198.51.100.{n}\n" for n in range(1, 13))


@dataclass
class Entry:
    """A cached vnode as the cache tells it."""

    fid: Fid
    cell: str = "example.org"
    length: int = 0
    data_version: int = 1
    server: str | None = None
    expires_in: float = 0.0
    held: bool = False
    read_only: bool = False
    mount_point: bool = False


class FakeCache:
    """Remembers what was broken."""

    def __init__(self) -> None:
        self.broken: list[Fid] = []
        self.servers: list[UUID | None] = []
        self.vnodes: list[Entry] = []

    def break_callback(self, server: tuple[str, int], fids: Iterable[Fid]) -> Sequence[object]:
        assert server[0] == "127.0.0.1"
        self.broken += fids
        return self.broken

    def break_server(self, server: tuple[str, int], uuid: UUID | None = None) -> Sequence[object]:
        assert server[0] == "127.0.0.1"
        self.servers.append(uuid)
        return []

    def entries(self, index: int) -> Entry | None:
        return self.vnodes[index] if index < len(self.vnodes) else None


class Manager:
    """A callback service and all that it stands on."""

    def __init__(self) -> None:
        self.cache = FakeCache()
        self.registry = ServerRegistry()
        self.settled: list[Sequence[object]] = []
        self.stubborn = False
        files = CellFiles("example.org", parse_cellservdb(CELLS, "CellServDB"), {})
        self.service = CallbackService(
            self.cache,
            CellDirectory(files, NoDns()),
            self.registry,
            OURS,
            config=cache_config(vnodes=1000, data_bytes=64 << 20, chunk_size=32 << 10),
            settle=self._settle,
        )

    async def _settle(self, vnodes: Sequence[object]) -> None:
        self.settled.append(vnodes)
        if self.stubborn:
            await trio.sleep_forever()


@asynccontextmanager
async def calling(manager: Manager, security: ClientSecurity = NULL) -> AsyncIterator[Connection]:
    """A connection to the manager's service."""
    parameters = Parameters(check_reach=False)
    ours = Endpoint(bind=("127.0.0.1", 0), parameters=parameters)
    theirs = Endpoint(bind=("127.0.0.1", 0))
    ours.add_service(manager.service.service)
    async with trio.open_nursery() as nursery:
        await nursery.start(ours.run)
        await nursery.start(theirs.run)
        with trio.fail_after(20):
            yield theirs.connect(ours.local_address, cb.SERVICE_ID, security=security)
        nursery.cancel_scope.cancel()


@pytest.fixture
def manager() -> Manager:
    return Manager()


async def test_promises_are_broken_before_the_reply(manager: Manager) -> None:
    volume = Fid(536870915, 0, 0)
    async with calling(manager) as server:
        args = cb.CallBackArgs((FID, volume), (CallBack(1, 0, 3), CallBack(1, 0, 3)))
        assert await server.call(cb.CALL_BACK, args) == Void()
    assert manager.cache.broken == [FID, volume]
    assert len(manager.settled) == 1


async def test_a_caller_that_cannot_be_checked_is_refused(manager: Manager) -> None:
    """OpenAFS calls back without security; we have no key with which to check anything else."""
    server = RxkadClient(
        ticket=bytes(64), session_key=b"12345678", kvno=256, level=SecurityLevel.CLEAR,
        expires=2**40, clock=lambda: 0.0,
    )  # fmt: skip
    async with calling(manager, server) as connection:
        with pytest.raises(CallAborted) as caught:
            await connection.call(cb.CALL_BACK, cb.CallBackArgs((FID,), ()))
    assert caught.value.code == RxCode.INVALID_OPERATION
    assert caught.value.remote
    assert manager.cache.broken == []


async def test_a_kernel_that_does_not_let_go_does_not_hold_the_server(manager: Manager) -> None:
    # The server may hold the file that the kernel waits for until we have replied.
    manager.stubborn = True
    async with calling(manager) as server:
        await server.call(cb.CALL_BACK, cb.CallBackArgs((FID,), ()))
    assert manager.cache.broken == [FID]


async def test_no_more_than_fifty_fids_at_a_time(manager: Manager) -> None:
    @xdr_struct
    class TooMany:
        fids: Annotated[tuple[Fid, ...], Array(100)]
        callbacks: Annotated[tuple[CallBack, ...], Array(100)]

    rpc = Rpc("CallBack", cb.CALL_BACK.opcode, TooMany, Void)
    async with calling(manager) as server:
        await server.call(rpc, TooMany((FID,) * 50, ()))
        assert len(manager.cache.broken) == 50
        with pytest.raises(CallAborted, match="-454"):
            await server.call(rpc, TooMany((FID,) * 51, ()))
    assert len(manager.cache.broken) == 50


async def test_a_server_that_began_anew_has_forgotten_its_promises(manager: Manager) -> None:
    async with calling(manager) as server:
        await server.call(cb.INIT_CALL_BACK_STATE, Void())
        reply = await server.call(cb.INIT_CALL_BACK_STATE2, Void())
        assert reply.interfaces.uuid == OURS
        await server.call(cb.INIT_CALL_BACK_STATE3, cb.UuidArgs(SERVER))
    assert manager.cache.servers == [None, None, SERVER]


async def test_probes(manager: Manager) -> None:
    async with calling(manager) as server:
        assert await server.call(cb.PROBE, Void()) == Void()
        assert await server.call(cb.PROBE_UUID, cb.UuidArgs(OURS)) == Void()
        with pytest.raises(CallAborted) as caught:
            await server.call(cb.PROBE_UUID, cb.UuidArgs(SERVER))
        assert caught.value.code == 1  # an abort and nothing else is a mismatch


async def test_who_we_are(manager: Manager) -> None:
    zeros = (0,) * 32
    interfaces = cb.InterfaceAddresses(0, OURS, zeros, zeros, zeros)
    async with calling(manager) as server:
        assert (await server.call(cb.WHO_ARE_YOU, Void())).interfaces == interfaces
        reply = await server.call(cb.TELL_ME_ABOUT_YOURSELF, Void())
    assert reply == cb.TellMeAboutYourselfReply(interfaces, (1,))
    raw = encode(reply)
    assert raw[: 4 * 12] == bytes(4) + encode(cb.UuidArgs(OURS))
    assert raw[4 * 12 : -8] == bytes(3 * 32 * 4)  # nothing that we did not mean to tell


async def test_there_are_no_locks_to_tell_of(manager: Manager) -> None:
    async with calling(manager) as server:
        for index in (-1, 0, 5):
            with pytest.raises(CallAborted) as caught:
                await server.call(cb.GET_LOCK, cb.IndexArgs(index))
            assert caught.value.code == 1


async def test_cache_entries(manager: Manager) -> None:
    manager.cache.vnodes = [
        Entry(Fid(1, 1, 1), length=2048, server="192.0.2.50", expires_in=300.5, held=True),
        Entry(Fid(2, 4, 9), "far.example", 5 << 30, 2**33 - 1, read_only=True, mount_point=True),
        Entry(FID, "gone.example"),
    ]
    now = int(time.time())
    async with calling(manager) as server:
        first, second, third = [
            (await server.call(cb.GET_CE64, cb.IndexArgs(index))).entry for index in range(3)
        ]
        for index in (-1, 3, 2**31 - 1):
            with pytest.raises(CallAborted) as caught:
                await server.call(cb.GET_CE64, cb.IndexArgs(index))
            assert caught.value.code == 1
        short = (await server.call(cb.GET_CE, cb.IndexArgs(1))).entry
    assert (first.address, first.cell, first.fid, first.length) == (1, 1, Fid(1, 1, 1), 2048)
    assert first.callback != 0
    assert now + 299 <= first.callback_expires <= now + 320
    assert first.references == 1
    assert first.mount_state == cb.EntryKind.VOLUME_ROOT
    assert first.states == cb.EntryState.STATUS_VALID
    assert (second.cell, second.length, second.data_version) == (2, 5 << 30, -1)
    assert (second.callback, second.callback_expires) == (0, 0)
    assert second.mount_state == cb.EntryKind.MOUNT_POINT
    assert second.states == cb.EntryState.READ_ONLY
    assert (third.cell, third.mount_state) == (0, cb.EntryKind.NORMAL)
    assert short.length == (5 << 30) % 2**32
    assert (short.fid, short.data_version, short.lock) == (second.fid, -1, cb.LockDescription())


async def test_cells(manager: Manager) -> None:
    async with calling(manager) as server:
        first = await server.call(cb.GET_CELL_SERV_DB, cb.IndexArgs(0))
        assert first == cb.CellReply(b"example.org", (0xC0000201, 0xC0000202))
        assert await server.call(cb.GET_CELL_BY_NUM, cb.IndexArgs(1)) == first
        second = await server.call(cb.GET_CELL_SERV_DB, cb.IndexArgs(1))
        assert second.name == b"far.example"
        assert len(second.hosts) == 8  # as many as the interface allows
        for index in (-1, 2, 2**31 - 1, -(2**31)):
            reply = await server.call(cb.GET_CELL_SERV_DB, cb.IndexArgs(index))
            assert reply == cb.CellReply(b"", ())
        assert await server.call(cb.GET_CELL_BY_NUM, cb.IndexArgs(0)) == cb.CellReply(b"", ())
        assert (await server.call(cb.GET_LOCAL_CELL, Void())).name == b"example.org"


async def test_the_cache_configuration_is_in_the_layout_of_cmdebug(manager: Manager) -> None:
    async with calling(manager) as server:
        reply = await server.call(cb.GET_CACHE_CONFIG, cb.GetCacheConfigArgs(1))
    assert (reply.server_version, reply.size) == (1, 36)
    raw = b"".join(word.to_bytes(4, "big") for word in reply.config)
    assert decode(cb.CacheConfig, raw) == cb.CacheConfig(
        chunk_files=2048,
        stat_caches=1000,
        data_caches=2048,
        volume_caches=0,
        first_chunk_size=32768,
        other_chunk_size=32768,
        cache_size=65536,
        set_time=0,
        memory_cache=1,
    )


async def test_server_preferences(manager: Manager) -> None:
    near = manager.registry.update("a", UUID(int=1), 1, [("192.0.2.9", 7000), ("10.0.0.9", 7000)])
    manager.registry.update("a", UUID(int=2), 1, [("192.0.2.8", 7000)])
    near.rtt = 0.002
    async with calling(manager) as server:
        replies = [
            await server.call(cb.GET_SERVER_PREFS, cb.IndexArgs(index))
            for index in (0, 1, 2, 3, -1)
        ]
    assert [(reply.address, reply.rank) for reply in replies] == [
        (0xC0000209, 200),
        (0x0A000009, 200),
        (0xC0000208, 40000),
        (0xFFFFFFFF, -1),
        (0xFFFFFFFF, -1),
    ]


async def test_extended_statistics_are_not_kept(manager: Manager) -> None:
    async with calling(manager) as server:
        assert (await server.call(cb.XSTATS_VERSION_RPC, Void())).version == 2
        with pytest.raises(CallAborted, match="-455"):
            await server.call(cb.GET_XSTATS, cb.GetXStatsArgs(2, 0))
