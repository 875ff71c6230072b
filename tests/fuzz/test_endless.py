"""Servers whose replies never end, fast or slow, to each RPC: the call ends, others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock
from uuid import UUID

import pytest
import trio

from afsfuse.auth.identity import NOBODY
from afsfuse.cell.directory import Cell
from afsfuse.cell.location import LocationLimits, LocationService
from afsfuse.cell.servers import FileServer
from afsfuse.cell.volumes import Site, Volume
from afsfuse.errors import AfsError, CellUnreachable
from afsfuse.fileserver.changes import UNCHANGED, StatusChange
from afsfuse.fileserver.transfers import SmallFile
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import vldb
from afsfuse.model import VolumeType
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.packet import HEADER, Header, PacketType
from tests.unit.afsfuse.fileserver.servers import FILE, FILES, VOLUME_ID, World, world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rxrpc.rpc import Rpc
    from rxrpc.wire.packet import Address
    from tests.net import LossyNetwork, MemorySocket

HOME = fs.Fid(VOLUME_ID, 1, 1)
OTHER = fs.Fid(VOLUME_ID, 3, 1)
BOUND = 600.0  # seconds for a short reply: two turns of the idle time, and two attempts
WHOLE = 64 << 10
MOST_PACKETS = 1000  # more than any reply may have; a year of those that come slowly


class Babbler:
    """Answers the first packet of each call with DATA without end."""

    def __init__(self, network: LossyNetwork, address: Address, pause: float, body: bytes) -> None:
        self._socket: MemorySocket = network.socket(address)
        self._pause = pause
        self._body = body
        self._calls: dict[tuple[int, int], trio.CancelScope] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                await self._socket.wait_readable()
                for data, source in self._socket.receive(100):
                    header, body = Header.parse(data)
                    key = (header.cid, header.call_number)
                    if header.type is PacketType.ABORT and key in self._calls:
                        self._calls[key].cancel()
                    elif header.type is PacketType.DATA and key not in self._calls:
                        self._calls[key] = trio.CancelScope()
                        nursery.start_soon(self._babble, header, source, self._calls[key])
                    elif header.type is PacketType.ACK and Ack.parse(body).reason == AckReason.PING:
                        ack = Ack(1, 0, header.serial, AckReason.PING_RESPONSE)
                        self._send(header, PacketType.ACK, 0, ack.build(), source)

    async def _babble(self, header: Header, source: Address, scope: trio.CancelScope) -> None:
        with scope:
            for seq in range(1, MOST_PACKETS):
                self._send(header, PacketType.DATA, seq, self._body, source)
                await trio.sleep(self._pause)

    def _send(self, call: Header, kind: PacketType, seq: int, body: bytes, source: Address) -> None:
        header = HEADER.pack(
            call.epoch, call.cid, call.call_number, seq, seq or 1, kind, 0, 0,
            call.security_index, 0, call.service_id,
        )  # fmt: skip
        self._socket.send([(header + body, source)])


def ask(world: World, volume: Volume) -> dict[str, Callable[[], Awaitable[object]]]:
    """Each call that a file server may be asked, by the name of its procedure."""
    client, changes = world.client, world.client.changes
    server = volume.sites[0].server
    view = memoryview(bytearray(WHOLE))
    small = [SmallFile(fid, 100, [memoryview(bytearray(100))]) for fid in FILES[:8]]
    unread = [memoryview(bytes(WHOLE))]

    async def small_files() -> None:
        outcomes: list[object] = []
        await client.fetch_small_files(volume, small, lambda _place, what: outcomes.append(what))
        assert len(outcomes) == len(small)
        raise next(each for each in outcomes if isinstance(each, AfsError))

    return {
        "FetchStatus": lambda: client.fetch_status(volume, FILE),
        "InlineBulkStatus": lambda: client.bulk_status(volume, FILES),
        "FetchData64": lambda: client.fetch_data(volume, FILE, 0, [view]),
        "FetchData64 of many": small_files,
        "FetchACL": lambda: client.fetch_acl(volume, HOME),
        "GetVolumeStatus": lambda: client.volume_status(volume),
        "GiveUpAllCallBacks": lambda: client.give_up_all_callbacks(server),
        "GetCapabilities": lambda: client.get_capabilities(server),
        "CreateFile": lambda: changes.create_file(volume, HOME, b"n", UNCHANGED, NOBODY),
        "MakeDir": lambda: changes.make_dir(volume, HOME, b"n", UNCHANGED, NOBODY),
        "Symlink": lambda: changes.symlink(volume, HOME, b"n", b"to", UNCHANGED, NOBODY),
        "Link": lambda: changes.link(volume, HOME, b"n", FILE, NOBODY),
        "RemoveFile": lambda: changes.remove_file(volume, HOME, b"n", NOBODY),
        "RemoveDir": lambda: changes.remove_dir(volume, HOME, b"n", NOBODY),
        "Rename": lambda: changes.rename(volume, HOME, b"n", OTHER, b"m", NOBODY),
        "StoreStatus": lambda: changes.store_status(volume, FILE, StatusChange(mode=1), NOBODY),
        "StoreData64": lambda: changes.store_data(volume, FILE, 0, unread, WHOLE, NOBODY),
        "StoreACL": lambda: changes.store_acl(volume, HOME, b"0\n0\n", NOBODY),
        "SetLock": lambda: changes.set_lock(volume, FILE, fs.LockType.READ, NOBODY),
        "ExtendLock": lambda: changes.extend_lock(volume, FILE, NOBODY),
        "ReleaseLock": lambda: changes.release_lock(volume, FILE, NOBODY),
    }  # fmt: skip


NAMES = sorted(ask(cast("World", Mock()), Mock(sites=[Mock()])))


ENDLESS = pytest.mark.parametrize(
    ("pause", "body"),
    [
        pytest.param(10.0, b"\0", id="a byte every ten seconds"),
        pytest.param(0.001, bytes(1400), id="more and more"),
        pytest.param(10.0, b"\x7f" + bytes(27), id="lengths that cannot be"),
    ],
)
LOCATION_RPCS = (
    (vldb.GET_ENTRY_BY_NAME_U, vldb.VolumeNameArgs(b"root.cell")),
    (vldb.GET_ENTRY_BY_NAME_N, vldb.VolumeNameArgs(b"root.cell")),
    (vldb.GET_ENTRY_BY_NAME_O, vldb.VolumeNameArgs(b"root.cell")),
    (vldb.GET_ADDRS_U, vldb.GetAddrsUArgs(vldb.AddressMask.UUID, 0, 0, 0, UUID(int=1))),
)


@ENDLESS
@pytest.mark.parametrize(("rpc", "args"), LOCATION_RPCS, ids=lambda each: getattr(each, "name", ""))
async def test_replies_without_end_of_location_servers_are_cut(
    autojump_clock: trio.testing.MockClock,
    rpc: Rpc[Any, Any],
    args: object,
    pause: float,
    body: bytes,
) -> None:
    """Within the bound of a search, also while the cell's other server says nothing at all."""
    async with world() as good, trio.open_nursery() as nursery:
        addresses = [("192.0.2.90", 7003), ("192.0.2.91", 7003)]
        await nursery.start(Babbler(good.network, addresses[0], pause, body).run)
        service = LocationService(good.endpoint)
        before = trio.current_time()
        with pytest.raises(CellUnreachable):
            await service.call(Cell("test.afs", tuple(addresses)), rpc, args)
        assert trio.current_time() - before <= LocationLimits().total + 1.0
        await trio.sleep(600.0)
        assert good.endpoint.statistics().active_calls == 0
        nursery.cancel_scope.cancel()


@ENDLESS
async def test_replies_without_end_are_cut(
    autojump_clock: trio.testing.MockClock, pause: float, body: bytes
) -> None:
    """Each call has a server of its own, lest one that is given up spares another the trial."""
    took: dict[str, float] = {}
    waited: list[float] = []

    async with world() as good, trio.open_nursery() as nursery:

        async def try_one(number: int, name: str) -> None:
            address = (f"192.0.2.{60 + number}", 7000)
            await nursery.start(Babbler(good.network, address, pause, body).run)
            volume = Volume(good.volume.cell, VOLUME_ID + number, VolumeType.RW)
            server = FileServer("test.afs", UUID(int=60 + number), 1, [address])
            volume.sites = (Site(server, 0),)
            before = trio.current_time()
            with pytest.raises(AfsError):
                await ask(good, volume)[name]()
            took[name] = trio.current_time() - before

        async def others() -> None:
            while len(took) < len(NAMES):
                before = trio.current_time()
                await good.client.fetch_status(good.volume, FILE)
                waited.append(trio.current_time() - before)
                await trio.sleep(1.0)

        async with trio.open_nursery() as calls:
            for number, name in enumerate(NAMES, 1):
                calls.start_soon(try_one, number, name)
            calls.start_soon(others)
        nursery.cancel_scope.cancel()
    print({name: round(time) for name, time in took.items()})
    assert max(took.values()) < BOUND
    assert max(waited) < 0.1, "others are served meanwhile"


async def test_a_slow_line_is_no_endless_reply(autojump_clock: trio.testing.MockClock) -> None:
    async with world() as good:
        host = good.hosts[0]
        host.data = bytes(WHOLE)
        view = memoryview(bytearray(WHOLE))
        good.network.min_delay = good.network.max_delay = 1.0  # a slow line is no slow server
        reply = await good.client.fetch_data(good.volume, FILE, 0, [view])
        assert reply.length == WHOLE
