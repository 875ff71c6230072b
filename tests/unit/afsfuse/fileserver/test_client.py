"""Each procedure, as the wire has it: good replies, nonsense, servers that are too old."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.errors import (
    AfsError,
    DataCorrupt,
    NotPermitted,
    ServerUnreachable,
    StaleInode,
    VolumeBusy,
)
from afsfuse.fileserver import StatusReply
from afsfuse.fileserver.transfers import SmallFile
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import CallBack, Fid
from tests.unit.afsfuse.fileserver.servers import (
    FILE,
    FILES,
    PROMISED,
    SYNC,
    VOLUME_ID,
    callback,
    wire_status,
    world,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from afsfuse.fileserver.transfers import Outcome
    from tests.unit.afsfuse.fileserver.servers import World


async def test_a_status_comes_with_a_promise(autojump_clock: MockClock) -> None:
    async with world() as w:
        began = trio.current_time()
        reply = await w.client.fetch_status(w.volume, FILE)
        assert reply.status.length == 2
        assert reply.status.data_version == 7
        assert reply.sync.creation_time == 1000
        assert reply.server is w.hosts[0].server
        assert reply.promise is not None
        assert reply.promise.server is reply.server
        # Counted from before the call, so that it never ends too late.
        assert began + PROMISED <= reply.promise.expires <= began + PROMISED + 0.0001
        assert reply.server.last_seen > began
        assert reply.server.rtt is not None


@pytest.mark.parametrize(
    ("given", "lasts"),
    [
        (CallBack(1, 0, 2), None),
        (CallBack(1, 500, 3), None),
        (CallBack(0, 500, 1), 500),
        (CallBack(1, 2**32 - 1, 2), 86400),
    ],
)
async def test_promises_that_are_none_or_too_long(
    autojump_clock: MockClock, given: CallBack, lasts: int | None
) -> None:
    async with world() as w:
        w.hosts[0].bulk = lambda fids: fs.BulkStatusReply((wire_status(),), (given,), SYNC)
        began = trio.current_time()
        (reply,) = await w.client.bulk_status(w.volume, [FILE])
        assert isinstance(reply, StatusReply)
        if lasts is None:
            assert reply.promise is None
        else:
            assert reply.promise is not None
            assert reply.promise.expires == pytest.approx(began + lasts, abs=0.01)


async def test_bulk_status_keeps_the_order(autojump_clock: MockClock) -> None:
    async with world() as w:
        replies = await w.client.bulk_status(w.volume, FILES)
        lengths = [reply.status.length for reply in replies if isinstance(reply, StatusReply)]
        assert lengths == [fid.vnode for fid in FILES]
        promises = {id(r.promise) for r in replies if isinstance(r, StatusReply)}
        assert len(promises) == 1  # one object for all of the same length
        assert w.hosts[0].calls == {"InlineBulkStatus": 1}


async def test_more_than_fifty_at_once_is_a_mistake(autojump_clock: MockClock) -> None:
    async with world() as w:
        with pytest.raises(ValueError, match="51 fids"):
            await w.client.bulk_status(w.volume, [*FILES, FILE])


async def test_errors_of_single_files_in_a_bulk_reply(autojump_clock: MockClock) -> None:
    """OpenAFS leaves everything but the code 0, the version included."""
    blank = wire_status()._replace(  # type: ignore[attr-defined]
        interface_version=0, file_type=0, link_count=0, data_version_low=0, unix_mode_bits=0
    )

    def bulk(fids: Sequence[Fid]) -> fs.BulkStatusReply:
        statuses = (
            wire_status(),
            blank._replace(error_code=102),
            blank._replace(error_code=0x100000000 - 455),
            blank,
            wire_status(length_high=1 << 31),
            wire_status(file_type=9),
        )
        return fs.BulkStatusReply(statuses, (callback(),) * 6, SYNC)

    async with world() as w:
        w.hosts[0].bulk = bulk
        replies = await w.client.bulk_status(w.volume, FILES[:6])
        assert isinstance(replies[0], StatusReply)
        assert isinstance(replies[1], StaleInode)
        assert isinstance(replies[2], AfsError)
        assert replies[2].code == -455
        assert all(isinstance(reply, DataCorrupt) for reply in replies[3:])


async def test_a_volume_s_error_in_a_bulk_reply_is_one_of_the_call(
    autojump_clock: MockClock,
) -> None:
    tries = 0

    def bulk(fids: Sequence[Fid]) -> fs.BulkStatusReply:
        nonlocal tries
        tries += 1
        code = 110 if tries < 3 else 0
        statuses = (wire_status(error_code=code),) * len(fids)
        return fs.BulkStatusReply(statuses, (callback(),) * len(fids), SYNC)

    async with world() as w:
        w.hosts[0].bulk = bulk
        replies = await w.client.bulk_status(w.volume, FILES[:3])
        assert all(isinstance(reply, StatusReply) for reply in replies)
        assert tries == 3


@pytest.mark.parametrize(("statuses", "callbacks"), [(1, 3), (3, 1), (4, 4), (0, 0)])
async def test_a_bulk_reply_of_another_length(
    autojump_clock: MockClock, statuses: int, callbacks: int
) -> None:
    async with world() as w:
        w.hosts[0].bulk = lambda fids: fs.BulkStatusReply(
            (wire_status(),) * statuses, (callback(),) * callbacks, SYNC
        )
        with pytest.raises(DataCorrupt, match="3 files"):
            await w.client.bulk_status(w.volume, FILES[:3])


async def test_a_server_without_bulk_status(autojump_clock: MockClock) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.lacks.add("InlineBulkStatus")
        for _ in range(2):
            replies = await w.client.bulk_status(w.volume, FILES[:5])
            assert [r.status.length for r in replies if isinstance(r, StatusReply)] == [
                fid.vnode for fid in FILES[:5]
            ]
        assert host.calls == {"InlineBulkStatus": 1, "FetchStatus": 10}
        host.lacks.clear()  # it is updated
        await trio.sleep(601)
        await w.client.bulk_status(w.volume, FILES[:5])
        assert host.calls["FetchStatus"] == 10


async def test_single_errors_at_a_server_without_bulk_status(autojump_clock: MockClock) -> None:
    codes = iter([102, 0, 110, 0, 0])
    async with world() as w:
        host = w.hosts[0]
        host.lacks.add("InlineBulkStatus")
        host.abort = lambda: next(codes)
        # 110 is the volume's: everything is asked again, and by then it is free.
        replies = await w.client.bulk_status(w.volume, FILES[:2])
        assert isinstance(replies[0], StaleInode)
        assert isinstance(replies[1], StatusReply)
        replies = await w.client.bulk_status(w.volume, FILES[:2])
        assert all(isinstance(reply, StatusReply) for reply in replies)


@pytest.mark.parametrize("old", [False, True], ids=["FetchData64", "FetchData"])
async def test_data_fills_the_buffers_in_turn(autojump_clock: MockClock, old: bool) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.data = bytes(range(256)) * 100
        if old:
            host.lacks.add("FetchData64")
        buffers = [bytearray(b"\xee" * 10_000) for _ in range(4)]
        for _ in range(2):
            reply = await w.client.fetch_data(w.volume, FILE, 256, [memoryview(b) for b in buffers])
        assert reply.length == 25_600 - 256
        whole = b"".join(buffers)
        assert whole[: reply.length] == host.data[256:]
        assert whole[reply.length :] == b"\xee" * (40_000 - reply.length)
        assert reply.status.length == 25_600
        assert reply.promise is not None
        assert host.calls["FetchData64"] == (1 if old else 2)


async def test_data_behind_the_end(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].data = b"short"
        reply = await w.client.fetch_data(w.volume, FILE, 100, [memoryview(bytearray(10))])
        assert reply.length == 0


async def test_old_servers_reach_two_gibibytes_only(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].lacks.add("FetchData64")
        buffer = memoryview(bytearray(10))
        assert (await w.client.fetch_data(w.volume, FILE, 2**31 - 11, [buffer])).length == 0
        with pytest.raises(AfsError, match="too old") as caught:
            await w.client.fetch_data(w.volume, FILE, 2**31 - 10, [buffer])
        assert caught.value.errno == errno.EFBIG
        assert caught.value.server == "192.0.2.1"


@pytest.mark.parametrize("announced", [11, 2**31, 2**62])
async def test_more_than_was_asked_for_is_refused(
    autojump_clock: MockClock, announced: int
) -> None:
    async with world() as w:
        w.hosts[0].data = b"x" * 100
        w.hosts[0].announced = announced
        with pytest.raises(DataCorrupt, match="more than were asked for"):
            await w.client.fetch_data(w.volume, FILE, 0, [memoryview(bytearray(10))])


async def test_a_negative_length_is_none(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].announced = -5
        reply = await w.client.fetch_data(w.volume, FILE, 0, [memoryview(bytearray(10))])
        assert reply.length == 0


async def test_less_than_announced_is_a_broken_protocol(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].data = b"abc"
        w.hosts[0].announced = 200
        with pytest.raises(DataCorrupt, match="broke the protocol"):
            await w.client.fetch_data(w.volume, FILE, 0, [memoryview(bytearray(500))])


class Batch:
    """Several small files fetched at once, and what became of each."""

    def __init__(self, fids: Sequence[Fid], size: int) -> None:
        self.buffers = [bytearray(size) for _ in fids]
        self.files = [
            SmallFile(fid, size, [memoryview(buffer)])
            for fid, buffer in zip(fids, self.buffers, strict=True)
        ]
        self.outcomes: dict[int, Outcome] = {}

    def settle(self, place: int, outcome: Outcome) -> None:
        assert place not in self.outcomes, "each file is settled once"
        self.outcomes[place] = outcome

    async def fetch(self, w: World) -> None:
        await w.client.fetch_small_files(w.volume, self.files, self.settle)

    @property
    def errors(self) -> list[type[AfsError] | None]:
        outcomes = [self.outcomes[place] for place in range(len(self.files))]
        return [type(out) if isinstance(out, AfsError) else None for out in outcomes]


@pytest.mark.parametrize("old", [False, True], ids=["FetchData64", "FetchData"])
async def test_small_files_come_all_at_once(autojump_clock: MockClock, old: bool) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.data = b"abcde" * 1000
        if old:
            host.lacks.add("FetchData64")
        for _ in range(2):
            batch = Batch(FILES[:10], 5000)
            began = trio.current_time()
            await batch.fetch(w)
            took = trio.current_time() - began
            assert batch.errors == [None] * 10
            assert all(buffer == host.data for buffer in batch.buffers)
        assert old or took < 0.005, "a few round trips of a millisecond for all of them"
        assert host.calls["FetchData"] == (20 if old else 0)


async def test_errors_of_single_small_files(autojump_clock: MockClock) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.data = b"abc"
        codes = iter([0, 102, 0, 13, 0])
        host.abort = lambda: next(codes)
        batch = Batch(FILES[:5], 3)
        await batch.fetch(w)
        assert sorted(map(str, batch.errors)) == sorted(
            map(str, [None, StaleInode, None, NotPermitted, None])
        )
        assert host.calls["FetchData64"] == 5


@pytest.mark.parametrize(("data", "announced"), [(b"abcdef", 6), (b"ab", 3)])
async def test_small_files_that_are_nonsense(
    autojump_clock: MockClock, data: bytes, announced: int
) -> None:
    async with world() as w:
        w.hosts[0].data, w.hosts[0].announced = data, announced
        batch = Batch(FILES[:3], 3)
        await batch.fetch(w)
        assert batch.errors == [DataCorrupt] * 3


async def test_only_what_is_left_is_fetched_again(autojump_clock: MockClock) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.data = b"abc"
        codes = iter([0, 0, 110])
        host.abort = lambda: next(codes, 0)
        batch = Batch(FILES[:8], 3)
        await batch.fetch(w)
        assert batch.errors == [None] * 8
        assert all(buffer == b"abc" for buffer in batch.buffers)
        assert 8 < host.calls["FetchData64"] < 16


async def test_small_files_of_a_server_that_is_gone(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].stop()
        batch = Batch(FILES[:3], 3)
        with pytest.raises(ServerUnreachable):
            await batch.fetch(w)
        assert batch.outcomes == {}


async def test_the_rest_of_the_procedures(autojump_clock: MockClock) -> None:
    async with world() as w:
        assert await w.client.fetch_acl(w.volume, FILE) == b"1\n0\nsystem:anyuser 9\n"
        reply = await w.client.volume_status(w.volume)
        assert reply.name == b"test.volume"
        assert reply.status.max_quota == 5000
        server = w.hosts[0].server
        await w.client.give_up_all_callbacks(server)
        assert await w.client.get_capabilities(server) == fs.Capability(7)
        assert set(w.hosts[0].calls) == {
            "FetchACL",
            "GetVolumeStatus",
            "GiveUpAllCallBacks",
            "GetCapabilities",
        }


async def test_errors_say_where(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.hosts[0].abort = lambda: 110
        with pytest.raises(VolumeBusy) as caught:
            await w.client.fetch_acl(w.volume, FILE)
        error = caught.value
        assert (error.cell, error.volume, error.server) == ("test.afs", "test.volume", "192.0.2.1")
        assert error.code == 110


async def test_promises_are_given_back_by_fid(autojump_clock: MockClock) -> None:
    async with world() as w:
        fids = [Fid(VOLUME_ID, number, 1) for number in range(1, 4)]
        await w.client.give_up_callbacks(w.hosts[0].server, fids)
        assert w.hosts[0].calls["GiveUpCallBacks"] == 1
        (args,) = w.hosts[0].arguments
        assert (args.fids, args.callbacks) == (tuple(fids), ())
        with pytest.raises(ValueError, match="51 fids"):
            await w.client.give_up_callbacks(w.hosts[0].server, [fids[0]] * 51)


async def test_who_answered_last_is_forgotten_with_its_volume(autojump_clock: MockClock) -> None:
    async with world(hosts=2) as w:
        await w.client.fetch_status(w.volume, Fid(VOLUME_ID, 2, 1))
        assert w.client._rotation._chosen
        w.client.forget(w.volume)
        assert not w.client._rotation._chosen
        w.client.forget(w.volume)


async def test_what_is_lost_on_the_way_from_a_server_is_known(autojump_clock: MockClock) -> None:
    async with world() as w:
        host = w.hosts[0]
        host.data = bytes(4 << 20)
        buffer = memoryview(bytearray(len(host.data)))
        assert w.client.loss(host.server) == 0, "nothing is known yet"
        await w.client.fetch_data(w.volume, FILE, 0, [buffer])
        assert w.client.loss(host.server) == 0
        w.network.drop = 0.05
        await w.client.fetch_data(w.volume, FILE, 0, [buffer])
        assert 0.01 < w.client.loss(host.server) < 0.15
