"""What has no meaning on the wire is zero: padding, unused fields, whatever an answer leaves out.

OpenAFS has leaked memory that way (its advisories 2014-002, 2015-007, 2018-002, 2019-001). Here
everything that a client sends during a bit of everything is taken apart and put together again from
what it means: a byte more, or one that is not zero, would show.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from afsfuse.interfaces.callback import RXAFSCB
from afsfuse.interfaces.fileserver import RXAFS
from afsfuse.interfaces.vldb import VL
from rxrpc.security import fcrypt
from rxrpc.security.base import SecurityIndex, SecurityLevel
from rxrpc.wire.ack import Ack
from rxrpc.wire.packet import Header, PacketFlag, PacketType
from rxrpc.xdr import decode, encode
from tests.cell.site import in_process, walker
from tests.mount.celld import make_cell
from tests.net import LossyNetwork

if TYPE_CHECKING:
    from rxrpc import Address
    from rxrpc.rpc import Interface

ADDRESS = "192.0.2.11"
INTERFACES = {each.service_id: each for each in (RXAFS, VL)}


class Heard(LossyNetwork):
    """A network that keeps what a client says."""

    def __init__(self) -> None:
        super().__init__(random.Random(1), min_delay=0.0001, max_delay=0.0001)
        self.sent: list[tuple[Header, bytes]] = []
        self.asked: dict[tuple[int, int, int], int] = {}  # the opcodes of calls to the client

    def route(self, data: bytes, source: Address, target: Address) -> None:
        header, body = Header.parse(data)
        if source[0] != ADDRESS:
            self.sent.append((header, bytes(body)))
        elif header.type is PacketType.DATA and header.seq == 1:
            call = (header.epoch, header.cid, header.call_number)
            self.asked[call] = int.from_bytes(body[:4], "big")
        super().route(data, source, target)


async def a_bit_of_everything(network: Heard) -> None:
    async with (
        in_process(make_cell(ADDRESS), network) as site,
        walker(site) as walk,
    ):
        await walk.create("one/f")
        await walk.mkdir("one/folder")
        await walk.rename("one/f", "one/folder/a longer name")
        await walk.symlink("one/link", b"to")
        assert await walk.read("one/folder/a longer name", writable=True) == b""
        assert await walk.list("one", writable=True) == {"folder", "link"}
        await walk.list("two", writable=True)
        await walk.unlink("one/folder/a longer name")
        await walk.rmdir("one/folder")
        volume = site.cell.volume("data")
        await site.cell.touched(volume, volume.fid(volume.root))  # and we answer


def rebuilt(interface: Interface, body: bytes) -> bytes:
    """A request from what it means."""
    rpc = interface.by_opcode[int.from_bytes(body[:4], "big")]
    return body[:4] + encode(decode(rpc.args, body[4:]))


async def test_all_that_a_client_sends_is_what_it_means(autojump_clock: object) -> None:
    network = Heard()
    await a_bit_of_everything(network)
    kinds: set[PacketType] = set()
    requests = replies = 0
    for header, body in network.sent:
        kinds.add(header.type)
        assert header.user_status == 0
        assert header.checksum == 0  # there is no security to give it a meaning
        if header.type is PacketType.ACK:
            assert Ack.parse(body).build() == body
        elif header.type is PacketType.DATA and header.seq == 1:
            if header.flags & PacketFlag.CLIENT_INITIATED:
                assert rebuilt(INTERFACES[header.service_id], body) == body
                requests += 1
            else:
                opcode = network.asked[header.epoch, header.cid, header.call_number]
                assert encode(decode(RXAFSCB.by_opcode[opcode].reply, body)) == body
                replies += 1
    assert {PacketType.ACK, PacketType.DATA} <= kinds
    assert requests > 15
    assert replies > 0


@given(payload=st.binary(min_size=1, max_size=100), before=st.binary(min_size=100, max_size=100))
def test_the_filling_of_sealed_packets_is_zero(payload: bytes, before: bytes) -> None:
    """... and what was sealed before does not come back in it."""
    key = b"\x13\x57\x9b\xdf" * 2
    for level in (SecurityLevel.AUTH, SecurityLevel.CRYPT):
        used, fresh = (fcrypt.new_session(key, 1, 4, SecurityIndex.RXKAD, level) for _ in "12")
        used.seal(5, 1, 1, before)
        body, _ = used.seal(5, 1, 2, payload)
        assert body == fresh.seal(5, 1, 2, payload)[0]
        if level is SecurityLevel.CRYPT:
            clear = used.decrypt(body)
            assert clear[8:] == payload + bytes(len(clear) - 8 - len(payload))
