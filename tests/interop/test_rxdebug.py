"""Our endpoints as OpenAFS's own `rxdebug` sees them. It needs no cell, only the program."""

from __future__ import annotations

import re
import shutil
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from rxrpc import NULL, Endpoint, Parameters, SecurityLevel
from tests.lossy.service import ECHO, TEST, Bytes, make_service
from tests.pair.rxkad_world import Realm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rxrpc import ClientSecurity, ServerSecurity

pytestmark = pytest.mark.skipif(
    shutil.which("rxdebug") is None, reason="rxdebug (Debian: openafs-client) is not installed"
)


HERE = "127.0.0.1"


@dataclass
class Asked:
    """An endpoint that has served a few calls, and one that has made them."""

    server: Endpoint
    client: Endpoint

    async def rxdebug(
        self, *options: str, endpoint: Endpoint | None = None, host: str = HERE
    ) -> str:
        """The output of `rxdebug`, which must succeed."""
        port = (endpoint or self.server).local_address[1]
        run = partial(trio.run_process, capture_stdout=True, capture_stderr=True)
        done = await run(["rxdebug", host, str(port), *options])
        assert not done.stderr
        return str(done.stdout.decode())


@asynccontextmanager
async def asked(
    parameters: Parameters | None = None,
    *,
    bind: str = HERE,
    security: ServerSecurity = NULL,
    identity: ClientSecurity = NULL,
) -> AsyncIterator[Asked]:
    server = Endpoint(bind=(bind, 0), parameters=parameters)
    client = Endpoint(bind=(HERE, 0))
    server.add_service(make_service(security=security))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await nursery.start(client.run)
        connection = client.connect(
            (HERE, server.local_address[1]), TEST.service_id, security=identity
        )
        with trio.fail_after(60):
            for size in (10, 5000, 100):
                await connection.call(ECHO, Bytes(bytes(size)))
            yield Asked(server, client)
        nursery.cancel_scope.cancel()


async def test_all_connections_of_a_server() -> None:
    async with asked() as world:
        output = await world.rxdebug("-allconnections")
        (connection,) = world.server.snapshot().connections
        port = world.client.local_address[1]
    for line in (
        "calls: 3,",
        f"Connection from host 127.0.0.1, port {port}, "
        f"Cuid {connection.epoch:x}/{connection.cid:x}",
        "security index 0, server conn",
        "rxnull level=0",
        "call 0: # 3, state ",
        "call 1: # 0, state not initialized",
        "Done.",
    ):
        assert line in output


@pytest.mark.parametrize("level", list(SecurityLevel), ids=lambda each: each.name)
async def test_a_protected_connection(level: SecurityLevel) -> None:
    realm = Realm()
    async with asked(security=realm.server(), identity=realm.client(level)) as world:
        output = await world.rxdebug("-allconnections")
        client = await world.rxdebug("-allconnections", endpoint=world.client)
    name = level.name.lower()
    assert "security index 2, server conn" in output
    assert f"rxkad: level {name}, flags authenticated, expires in " in output
    assert f"rxkad: level {name}, expires in " in client


async def test_all_connections_of_a_client() -> None:
    async with asked() as world:
        output = await world.rxdebug("-allconnections", endpoint=world.client)
        port = world.server.local_address[1]
    assert f"port {port}," in output
    assert "client conn" in output
    assert "state dally, mode: eof, flags: receive_done" in output


async def test_only_what_has_something_to_do() -> None:
    async with asked() as world:
        connection = world.client.connect(world.server.local_address, TEST.service_id)
        await connection.call(ECHO, Bytes(b"confirm the call before"))
        output = await world.rxdebug(endpoint=world.client)
        skipped = await world.rxdebug("-allconnections", "-nodally", endpoint=world.client)
        others = await world.rxdebug("-allconnections", "-onlyserver", endpoint=world.client)
        filtered = await world.rxdebug("-allconnections", "-onlyauth", "crypt", "-onlyport", "1")
    for text in (output, skipped, others, filtered):
        assert "Done." in text
        assert "Connection from" not in text
    assert "Skipped 1 dallying connections." in skipped


async def test_peers() -> None:
    async with asked() as world:
        output = await world.rxdebug("-noconns", "-peers", "-long", endpoint=world.client)
        (peer,) = world.client.snapshot().peers
        port = world.server.local_address[1]
    assert f"Peer at host 127.0.0.1, port {port}" in output
    assert f"packets sent {peer.packets_sent}\t" in output
    assert f"bytes sent high 0 low {peer.bytes_sent}" in output
    assert "MTU 1444" in output
    assert "Done." in output


async def test_statistics() -> None:
    async with asked() as world:
        output = await world.rxdebug("-noconns", "-rxstats")
    assert "WARNING" not in output, "the answer has the size that rxdebug expects"
    assert re.search(r"packets read: data \d+ ack \d+ .* debug 2 ", output)
    assert "1 server connections, 0 client connections, 1 peer structs" in output


def own_address() -> str:
    """An address of this machine that is none of the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        return str(probe.getsockname()[0])


async def test_what_strangers_see() -> None:
    """Within the bounds of the default parameters, and without the numbers of packets."""
    address = own_address()
    async with asked(bind="0.0.0.0") as world:
        output = await world.rxdebug("-allconnections", "-peers", host=address)
        port = world.client.local_address[1]
    assert f"Connection from host 127.0.0.1, port {port}, cid 0\n  serial 0, " in output
    assert "call 0: # 0, state dally" in output or "call 0: # 0, state active" in output
    assert f"Peer at host 127.0.0.1, port {port}" in output
    assert output.count("Done.") == 2


async def test_version() -> None:
    async with asked(Parameters(version=b"a test")) as world:
        assert "AFS version: a test" in await world.rxdebug("-version")
