"""RxRPC over UDP, client and server on one socket: a library for any service that speaks Rx.

::

    endpoint = Endpoint(bind=("0.0.0.0", 7001))
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        server = endpoint.connect(("192.0.2.1", 7000), RXAFS.service_id)
        reply = await server.call(FETCH_STATUS, FidArgs(fid))
        async with server.stream(FETCH_DATA64, FetchData64Args(fid, 0, size)) as call:
            await call.receive_into(memoryview(buffer))
            reply = await call.finish()

What AF_RXRPC, the socket family of Linux, does with sockets and control messages is here:

======================================  ==========================================================
socket, bind                            `Endpoint`, `Endpoint.run`
connect, sendmsg with a msg_name        `Endpoint.connect`, `Endpoint.call`
sendmsg, MSG_MORE and its absence       `CallStream.send`, `CallStream.send_eof`
recvmsg, MSG_EOR                        `CallStream.receive_some` and others; `at_end`, `over`
RXRPC_ABORT, both ways                  `CallAborted`, its ``remote``; `CallStream.abort`
RXRPC_NET_ERROR, BUSY, LOCAL_ERROR      `NetworkError`, `CallBusy`, `LocalError`
RXRPC_ACK (the final one)               `CallStream.acknowledged`
listen, RXRPC_CHARGE_ACCEPT             `Endpoint.add_service`, `BaseService`
RXRPC_TX_LENGTH                         ``length``, `CallStream.set_length`
RXRPC_SET_CALL_TIMEOUT                  `CallTimeouts`, `CallStream.set_timeouts`
RXRPC_EXCLUSIVE_CALL                    ``exclusive`` of `Endpoint.connect`
RXRPC_UPGRADE_SERVICE                   ``upgrade`` of `Endpoint.connect`; `Connection.service_id`
RXRPC_UPGRADEABLE_SERVICE               `Endpoint.offer_upgrade`
RXRPC_SECURITY_KEY, _KEYRING          `RxkadClient`, `RxkadServer` with `ServiceKeys`
RXRPC_MIN_SECURITY_LEVEL                ``min_level``, `Parameters.min_security_level`
sysctl net.rxrpc                        `Parameters`, `Endpoint.configure`
======================================  ==========================================================

Rooms, lowest first: `errors`, `xdr`, `rpc`, `wire`, `trace`, `jsontrace`, `security`, `core`,
`net`, ``programs``; each imports only those before it. Only `net`, and the programs made of it,
know of sockets, clocks and tasks.
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
    MessageSizeError,
    NetworkError,
    ParseError,
    PhaseError,
    ProtocolError,
    RxCode,
    RxError,
    SecurityError,
    SecurityLevelError,
)
from rxrpc.jsontrace import JsonLinesTracer
from rxrpc.net.client import Connection
from rxrpc.net.endpoint import Endpoint
from rxrpc.net.server import BaseService, ByteService, ServerCall, Service
from rxrpc.net.sockets import Datagram, DatagramSocket, SendError
from rxrpc.net.streams import ByteCall, CallStream, StreamCall
from rxrpc.rpc import Interface, Rpc, RxgenCode, Stream, Void
from rxrpc.security.base import (
    ClientSecurity,
    ConnectionIdentity,
    ConnectionSecurity,
    PacketIdentity,
    SecurityIndex,
    SecurityLevel,
    ServerSecurity,
)
from rxrpc.security.null import NULL
from rxrpc.security.rxkad import RxkadClient, RxkadCode, RxkadServer, RxkadServerConnection
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import Principal
from rxrpc.trace import CountingTracer, DropReason, NullTracer, Tracer
from rxrpc.wire.packet import Address

__all__ = [
    "NULL",
    "Address",
    "BaseService",
    "BundleSnapshot",
    "ByteCall",
    "ByteService",
    "CallAborted",
    "CallBusy",
    "CallError",
    "CallSnapshot",
    "CallState",
    "CallStream",
    "CallTimeout",
    "CallTimeouts",
    "ClientSecurity",
    "Connection",
    "ConnectionIdentity",
    "ConnectionSecurity",
    "ConnectionSnapshot",
    "CountingTracer",
    "Datagram",
    "DatagramSocket",
    "DropReason",
    "Endpoint",
    "EndpointClosed",
    "Interface",
    "JsonLinesTracer",
    "LocalError",
    "MessageSizeError",
    "NetworkError",
    "NullTracer",
    "PacketIdentity",
    "Parameters",
    "ParseError",
    "PeerSnapshot",
    "PeerStatistics",
    "PhaseError",
    "Principal",
    "ProtocolError",
    "Rpc",
    "RxCode",
    "RxError",
    "RxgenCode",
    "RxkadClient",
    "RxkadCode",
    "RxkadServer",
    "RxkadServerConnection",
    "SecurityError",
    "SecurityIndex",
    "SecurityLevel",
    "SecurityLevelError",
    "SendError",
    "ServerCall",
    "ServerSecurity",
    "Service",
    "ServiceKeys",
    "Snapshot",
    "Statistics",
    "Stream",
    "StreamCall",
    "Tracer",
    "Void",
]
