"""A tracer that a person can read: one line of JSON for each event.

::

    {"t":0.0,"event":"connection opened","peer":"192.0.2.2:7000","cid":"431ab470","epoch":…}
    {"t":0.0,"event":"call started","peer":"192.0.2.2:7000","cid":"431ab470","channel":0,"call":1}
    {"t":0.0,"event":"sent","peer":…,"type":"DATA","cid":…,"call":1,"seq":1,"serial":1,
     "flags":["CLIENT_INITIATED","REQUEST_ACK","LAST_PACKET"],"bytes":12}
    {"t":0.0002,"event":"received",…,"type":"ACK",…,"reason":"REQUESTED","first":1,"acked":"1",…}

Times are seconds since the first event. A cid stands without its channel, which has a field of its
own, so all lines of a call have the same ``cid``, ``channel`` and ``call``. Payload, challenges
and responses are never written: of a body there is its length, and what an ACK or an ABORT says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rxrpc.errors import ParseError, RxCode
from rxrpc.trace import (
    CallEnded,
    CallStarted,
    ConnectionClosed,
    ConnectionOpened,
    PacketDropped,
    PacketReceived,
    PacketSent,
    PacketsLost,
    PeerUnreachable,
)
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort
from rxrpc.wire.packet import ACK, CHANNEL_MASK, SLOW_START_OK, PacketFlag, PacketType

if TYPE_CHECKING:
    from typing import TextIO

    from rxrpc.trace import Event
    from rxrpc.wire.packet import Address, Header

_TEXT = 200
"""Characters of a reason or a detail; some quote what the other side sent of its own making."""
_FLAGS = tuple(flag for flag in PacketFlag if flag)

Line = dict[str, object]


class JsonLinesTracer:
    """Writes each event as a line of JSON.

    It never raises: when the file fails, or holds ``max_size`` characters, it stops for good, and
    ``stopped`` says why. So a trace that is forgotten fills no disk.
    """

    def __init__(
        self, file: TextIO, *, every_packet: bool = True, max_size: int = 256 << 20
    ) -> None:
        """The file decides when lines reach the disk. Without ``every_packet`` there are lines for
        connections, calls, losses and dropped packets only, and the fast path stays open.
        """
        self._file = file
        self._left = max_size
        self._start: float | None = None
        self.every_packet = every_packet
        self.stopped = ""

    def record(self, now: float, event: Event) -> None:
        """Write the line."""
        if self.stopped:
            return
        if self._start is None:
            self._start = now
        line: Line = {"t": round(now - self._start, 6)}
        try:
            line |= describe(event)
            text = json.dumps(line, separators=(",", ":")) + "\n"
            self._left -= len(text)
            if self._left < 0:
                self.stopped = "the trace is full"
                text = json.dumps({"t": line["t"], "event": self.stopped}) + "\n"
            self._file.write(text)
        except Exception as exc:  # whatever it is, the protocol must go on
            self.stopped = f"{type(exc).__name__}: {exc}"


def describe(event: Event) -> Line:
    """An event as the fields of its line."""
    match event:
        case PacketReceived(address, header, size, control):
            return _packet("received", address, header, size, control)
        case PacketSent(address, header, size, control):
            return _packet("sent", address, header, size, control)
        case PacketDropped(address, reason, header, detail):
            line: Line = {"event": "dropped", "peer": _peer(address), "reason": reason.value}
            if header is not None:
                line |= _header(header) | {"epoch": f"{header.epoch:08x}"}
            return line | ({"detail": detail[:_TEXT]} if detail else {})
        case ConnectionOpened(address, epoch, cid, service_id, is_client):
            line = {"event": "connection opened", "peer": _peer(address), "cid": f"{cid:08x}"}
            role = "client" if is_client else "server"
            return line | {"epoch": f"{epoch:08x}", "service": service_id, "role": role}
        case ConnectionClosed(address, epoch, cid, text):
            line = {"event": "connection closed", "peer": _peer(address), "cid": f"{cid:08x}"}
            return line | {"epoch": f"{epoch:08x}", "reason": text[:_TEXT]}
        case CallStarted(address, cid, number):
            return {"event": "call started", "peer": _peer(address)} | _call(cid, number)
        case CallEnded(address, cid, number, outcome):
            line = {"event": "call ended", "peer": _peer(address)} | _call(cid, number)
            return line | {"outcome": outcome[:_TEXT]}
        case PacketsLost(cid, number, packets, cause):
            line = {"event": "packets lost"} | _call(cid, number)
            return line | {"packets": packets, "cause": cause}
        case PeerUnreachable(address, errno):
            return {"event": "peer unreachable", "peer": _peer(address), "errno": errno}


def _peer(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _call(cid: int, number: int) -> Line:
    return {
        "cid": f"{cid & ~CHANNEL_MASK:08x}",
        "channel": cid & CHANNEL_MASK,
        "call": number,
    }


def _packet(event: str, address: Address, header: Header, size: int, control: bytes) -> Line:
    line: Line = {"event": event, "peer": _peer(address), **_header(header), "bytes": size}
    try:
        if header.type is PacketType.ACK:
            line |= _ack(Ack.parse(control))
        elif header.type is PacketType.ABORT:
            line |= _abort(Abort.parse(control))
    except ParseError as exc:
        line["malformed"] = str(exc)
    return line


def _header(header: Header) -> Line:
    return {
        "type": header.type.name,
        **_call(header.cid, header.call_number),
        "seq": header.seq,
        "serial": header.serial,
        "flags": _flags(header),
    }


def _flags(header: Header) -> list[str]:
    """The names of the flags; bits without a name as one number."""
    names = [str(flag.name) for flag in _FLAGS if header.flags & flag]
    if header.type == ACK and header.flags & SLOW_START_OK:
        names[names.index("JUMBO")] = "SLOW_START_OK"
    rest = header.flags & ~sum(_FLAGS)
    return [*names, f"{rest:#04x}"] if rest else names


def _ack(ack: Ack) -> Line:
    try:
        reason = AckReason(ack.reason).name
    except ValueError:
        reason = str(ack.reason)
    line: Line = {"reason": reason, "for_serial": ack.serial, "first": ack.first}
    line |= {"previous": ack.previous, "acked": "".join(str(flag & 1) for flag in ack.acks)}
    if ack.trailer is not None and ack.trailer.window is not None:
        line["window"] = ack.trailer.window
    return line


def _abort(abort: Abort) -> Line:
    try:
        return {"code": abort.code, "name": RxCode(abort.code).name}
    except ValueError:
        return {"code": abort.code}
