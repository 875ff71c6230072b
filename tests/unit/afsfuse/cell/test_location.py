import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.cell.location import LocationLimits, LocationService, NotOffered
from afsfuse.errors import AfsError, CellUnreachable, VlCode, VolumeMissing
from afsfuse.interfaces.vldb import GET_ENTRY_BY_NAME_U, VolumeNameArgs
from rxrpc import NULL, CallAborted, CallTimeout, EndpointClosed, NetworkError
from rxrpc.rpc import Rpc
from rxrpc.security.base import SecurityIndex
from rxrpc.security.rxkad import RxkadCode
from tests.conftest import ExpectedWarnings
from tests.unit.afsfuse.auth.realm import Clock, Realm
from tests.unit.afsfuse.cell.fakevl import (
    DB1,
    DB2,
    DB3,
    FS1,
    RW,
    Behaviour,
    FakeConnector,
    cell,
    entry,
    silence,
)

ARGS = VolumeNameArgs(b"root.cell")


def failing(error: Exception, after: float = 0.0) -> Behaviour:
    async def fail(rpc: Rpc[Any, Any], args: object) -> object:
        await trio.sleep(after)
        raise error

    return fail


@pytest.fixture
def connector() -> FakeConnector:
    connector = FakeConnector()
    connector.enter(entry((FS1, RW)))
    return connector


async def lookup(service: LocationService, *servers: tuple[str, int]) -> bytes:
    reply = await service.call(cell(*servers), GET_ENTRY_BY_NAME_U, ARGS, about="root.cell")
    return reply.entry.name


async def test_one_answer_is_enough(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    service = LocationService(connector)
    assert await lookup(service, DB1, DB2) == b"root.cell"
    assert connector.calls == [(DB1[0], "GetEntryByNameU")]


@pytest.mark.parametrize(
    "error",
    [
        NetworkError(errno.ECONNREFUSED),
        CallTimeout("dead peer"),
        CallAborted(VlCode.IO, remote=True),
        CallAborted(VlCode.NOMEM, remote=True),
        CallAborted(-5, remote=True),
        CallAborted(5376, remote=True),  # UNOQUORUM
        CallAborted(VlCode.NOENT, remote=False),
    ],
)
async def test_trouble_at_one_server_sends_us_to_the_next_at_once(
    error: Exception, connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    connector.behaviour[DB1] = failing(error)
    service = LocationService(connector)
    began = trio.current_time()
    assert await lookup(service, DB1, DB2) == b"root.cell"
    assert trio.current_time() - began < 0.1
    assert [host for host, _ in connector.calls] == [DB1[0], DB2[0]]


async def test_a_slow_server_is_not_waited_for(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    connector.behaviour[DB1] = silence
    service = LocationService(connector, LocationLimits(patience=1.5))
    began = trio.current_time()
    assert await lookup(service, DB1, DB2, DB3) == b"root.cell"
    assert trio.current_time() - began < 1.6
    connector.calls.clear()
    await lookup(service, DB1, DB2, DB3)  # the one that answered is asked first now
    assert [host for host, _ in connector.calls] == [DB2[0]]


async def test_the_first_answer_wins_even_if_it_comes_from_the_slow_one(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    async def slow(rpc: Rpc[Any, Any], args: object) -> object:
        await trio.sleep(2)
        return await connector.answer(rpc, args)

    connector.behaviour = {DB1: slow, DB2: silence, DB3: silence}
    service = LocationService(connector)
    assert await lookup(service, DB1, DB2, DB3) == b"root.cell"
    assert len(connector.calls) == 2


async def test_who_waits_hears_of_a_server_that_comes_back(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    """The packets of one call become rare: after 8 s the next one comes after 8 s more."""

    async def deaf(rpc: Rpc[Any, Any], args: object) -> object:
        if trio.current_time() < back:
            await trio.sleep_forever()
        return await connector.answer(rpc, args)

    connector.behaviour = dict.fromkeys((DB1, DB2), deaf)
    service = LocationService(connector, LocationLimits(total=20, again=3))
    back = trio.current_time() + 8.5
    assert await lookup(service, DB1, DB2) == b"root.cell"
    assert trio.current_time() - back < 3


async def test_nobody_answers_within_the_bound(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    connector.behaviour = dict.fromkeys((DB1, DB2, DB3), silence)
    service = LocationService(connector, LocationLimits(total=20, failure_memory=5))
    began = trio.current_time()
    with pytest.raises(CellUnreachable) as caught:
        await lookup(service, DB1, DB2, DB3)
    assert trio.current_time() - began == pytest.approx(20)
    assert "192.0.2.2: no answer" in str(caught.value)
    assert "example.org" in str(caught.value)
    connector.calls.clear()
    with pytest.raises(CellUnreachable):  # at once: others must not be held up
        await lookup(service, DB1, DB2, DB3)
    assert connector.calls == []
    await trio.sleep(6)
    connector.behaviour.clear()
    assert await lookup(service, DB1, DB2, DB3) == b"root.cell"


async def test_dead_servers_are_asked_last_for_a_while(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    connector.behaviour[DB1] = failing(CallTimeout("dead peer"))
    service = LocationService(connector, LocationLimits(dead_time=30))
    await lookup(service, DB1, DB2)
    connector.behaviour[DB2] = failing(CallAborted(VlCode.IO, remote=True))
    connector.behaviour.pop(DB1)
    connector.calls.clear()
    await lookup(service, DB1, DB2, DB3)
    assert [host for host, _ in connector.calls] == [DB2[0], DB3[0]]


async def test_all_failing_at_once_is_known_at_once(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    refused = failing(NetworkError(errno.ECONNREFUSED))
    connector.behaviour = {DB1: refused, DB2: failing(EndpointClosed())}
    began = trio.current_time()
    with pytest.raises(CellUnreachable, match="Connection refused"):
        await lookup(LocationService(connector), DB1, DB2)
    assert trio.current_time() - began < 1


async def test_a_cell_without_servers(autojump_clock: trio.abc.Clock) -> None:
    nowhere = cell()
    nowhere.vl_servers = ()
    with pytest.raises(CellUnreachable, match="has no location servers"):
        await LocationService(FakeConnector()).call(nowhere, GET_ENTRY_BY_NAME_U, ARGS)


async def test_an_answer_that_is_an_abort(
    connector: FakeConnector, autojump_clock: trio.abc.Clock
) -> None:
    service = LocationService(connector)
    args = VolumeNameArgs(b"no.such")
    with pytest.raises(VolumeMissing, match=r"no\.such.*example\.org.*192\.0\.2\.1"):
        await service.call(cell(DB1, DB2), GET_ENTRY_BY_NAME_U, args, about="no.such")
    assert len(connector.calls) == 1
    with pytest.raises(VolumeMissing):  # and is no failure of the cell
        await service.call(cell(DB1, DB2), GET_ENTRY_BY_NAME_U, args)
    connector.missing.add(GET_ENTRY_BY_NAME_U.opcode)
    with pytest.raises(NotOffered):
        await lookup(service, DB1)
    connector.behaviour[DB1] = failing(CallAborted(VlCode.BADNAME + 19, remote=True))
    with pytest.raises(AfsError) as caught:  # VL_PERM
        await lookup(service, DB1)
    assert caught.value.errno == errno.EACCES


async def test_a_caller_asks_in_its_own_name(
    connector: FakeConnector, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    store = TokenStore(tmp_path / "run", Clock())
    store.load()
    token = replace(Realm().token(), cell="example.org")
    store.set(Identity(uid=1000), token)
    service = LocationService(connector, credentials=TokenCredentials(store, clock=Clock()))
    await service.call(cell(), GET_ENTRY_BY_NAME_U, ARGS, who=Identity(uid=1000))
    await service.call(cell(), GET_ENTRY_BY_NAME_U, ARGS)
    assert [each.index for each in connector.securities] == [SecurityIndex.RXKAD, 0]
    store.close()


async def test_a_token_that_is_no_good_does_not_hide_where_volumes_are(
    connector: FakeConnector,
    autojump_clock: trio.abc.Clock,
    tmp_path: Path,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("refuses the token of uid-1000: 19270407 RXKADBADTICKET")
    store = TokenStore(tmp_path / "run", Clock())
    store.load()
    store.set(Identity(uid=1000), replace(Realm().token(), cell="example.org"))
    service = LocationService(connector, credentials=TokenCredentials(store, clock=Clock()))

    async def check(rpc: Rpc[Any, Any], args: object) -> object:
        if connector.securities[-1] is not NULL:
            raise CallAborted(RxkadCode.BAD_TICKET, remote=True)
        return await connector.answer(rpc, args)

    connector.behaviour[DB1] = check
    reply = await service.call(cell(), GET_ENTRY_BY_NAME_U, ARGS, who=Identity(uid=1000))
    assert reply.entry.name == b"root.cell"
    assert len(connector.calls) == 2
    store.close()


@pytest.mark.parametrize(("asked", "total"), [(1.0, 3.0), (10.0, 10.0), (600.0, 20.0)])
def test_a_shorter_time_bounds_the_call(asked: float, total: float) -> None:
    assert LocationLimits.within(asked) == LocationLimits(total=total)
