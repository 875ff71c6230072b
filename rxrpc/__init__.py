"""RxRPC over UDP: the remote procedure calls of AFS, client and server on one socket.

::

    endpoint = Endpoint(bind=("0.0.0.0", 7001))
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        server = endpoint.connect(("192.0.2.1", 7000), RXAFS.service_id)
        reply = await server.call(FETCH_STATUS, FidArgs(fid))
        async with server.stream(FETCH_DATA64, FetchData64Args(fid, 0, size)) as call:
            await call.receive_into(memoryview(buffer))
            reply = await call.finish()

Rooms, lowest first: `errors`, `xdr`, `rpc`, `wire`, `trace`, `jsontrace`, `security`, `core`,
`net`, `programs`; each imports only those before it. Only `net`, and the programs made of it, know
of sockets, clocks and tasks.
"""

from rxrpc.core.clocks import CallTimeouts
from rxrpc.core.parameters import Parameters
from rxrpc.core.snapshot import (
    BundleSnapshot,
    CallSnapshot,
    ConnectionSnapshot,
    PeerSnapshot,
    Snapshot,
)
from rxrpc.core.states import CallState
from rxrpc.core.statistics import PeerStatistics, Statistics
from rxrpc.errors import (
    CallAborted,
    CallBusy,
    CallError,
    CallTimeout,
    EndpointClosed,
    LocalError,
    NetworkError,
    ParseError,
    ProtocolError,
    RxCode,
    RxError,
    SecurityError,
)
from rxrpc.jsontrace import JsonLinesTracer
from rxrpc.net.client import Connection
from rxrpc.net.endpoint import Endpoint
from rxrpc.net.server import ServerCall, Service
from rxrpc.net.sockets import DatagramSocket
from rxrpc.net.streams import StreamCall
from rxrpc.security.base import ClientSecurity, SecurityLevel, ServerSecurity
from rxrpc.security.null import NULL
from rxrpc.trace import CountingTracer, DropReason, NullTracer, Tracer
from rxrpc.wire.packet import Address

__all__ = [
    "NULL",
    "Address",
    "BundleSnapshot",
    "CallAborted",
    "CallBusy",
    "CallError",
    "CallSnapshot",
    "CallState",
    "CallTimeout",
    "CallTimeouts",
    "ClientSecurity",
    "Connection",
    "ConnectionSnapshot",
    "CountingTracer",
    "DatagramSocket",
    "DropReason",
    "Endpoint",
    "EndpointClosed",
    "JsonLinesTracer",
    "LocalError",
    "NetworkError",
    "NullTracer",
    "Parameters",
    "ParseError",
    "PeerSnapshot",
    "PeerStatistics",
    "ProtocolError",
    "RxCode",
    "RxError",
    "SecurityError",
    "SecurityLevel",
    "ServerCall",
    "ServerSecurity",
    "Service",
    "Snapshot",
    "Statistics",
    "StreamCall",
    "Tracer",
]
