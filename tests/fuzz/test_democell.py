"""Any call at all to a cell in one process: an answer or a refusal, and the cell lives on.

An exception that a handler does not mean to raise is logged, and that fails the test.
"""

from __future__ import annotations

import math
from typing import Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from afsfuse.democell import DemoCell
from afsfuse.democell.trees import Link, MountPoint, Tree, plant
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces import kauth, vldb
from afsfuse.interfaces import protection as pr
from afsfuse.interfaces.common import Fid
from rxrpc import CallAborted, CallError
from rxrpc.rpc import Rpc, Stream
from tests.cell.site import ROOT, InProcess, in_process, raw_client
from tests.fuzz.xdr_strategies import values

RPCS: list[tuple[int, int, Rpc[Any, Any]]] = [
    (port, interface.service_id, rpc)
    for port, interface in (
        (fs.PORT, fs.RXAFS),
        (vldb.PORT, vldb.VL),
        (pr.PORT, pr.PR),
        (kauth.PORT, kauth.KAA),
        (kauth.PORT, kauth.KAT),
    )
    for rpc in interface.rpcs
]
NAMES = st.sampled_from([b"file", b"folder", b"link", b"point", b"new", b".", b"..", b""])
MOST_BYTES = 100_000


def make_cell() -> DemoCell:
    cell = DemoCell("test.afs", ["192.0.2.11"])
    tree: Tree = {b"file": b"data", b"folder": {b"inner": b""}, b"link": Link(b"file")}
    cell.add_user("file", password="a password")
    plant(cell.create_volume("data", quota=1000), {**tree, b"point": MountPoint(b"#data.")})
    return cell


def fids(cell: DemoCell) -> list[Fid]:
    volume = cell.volume("data")
    known = [volume.fid(vnode) for vnode in volume.vnodes.values()]
    return [*known, Fid(volume.id, 4, 99), Fid(volume.id, 77, 1), Fid(1, ROOT, ROOT), Fid(0, 0, 0)]


def sensible(value: Any, known: list[Fid], data: st.DataObject) -> Any:
    """The same arguments, with fids and names mostly of what is there."""
    if isinstance(value, Fid):
        return data.draw(st.sampled_from(known)) if data.draw(st.integers(0, 7)) else value
    if not hasattr(value, "_fields"):
        return value
    changes = {
        name: sensible(getattr(value, name), known, data)
        for name in value._fields
        if hasattr(getattr(value, name), "_fields")
    }
    if "fids" in value._fields:
        changes["fids"] = tuple(data.draw(st.lists(st.sampled_from(known), max_size=5)))
    for name in {"name", "old_name", "new_name"} & set(value._fields):
        if data.draw(st.booleans()):
            changes[name] = data.draw(NAMES)
    for name in {"position", "length", "file_length"} & set(value._fields):
        if data.draw(st.booleans()):
            changes[name] = data.draw(st.integers(0, MOST_BYTES))
    return value._replace(**changes)


async def ask(site: InProcess, data: st.DataObject) -> None:
    async with raw_client(site) as client:
        for _ in range(data.draw(st.integers(1, 8))):
            port, service, rpc = data.draw(st.sampled_from(RPCS))
            args = sensible(data.draw(values(rpc.args)), fids(site.cell), data)
            server = client.endpoint.connect((site.cell.addresses[0], port), service)
            try:
                with trio.move_on_after(60):
                    async with server.stream(rpc, args) as call:
                        if rpc.stream is Stream.TO_SERVER and data.draw(st.booleans()):
                            await call.send(bytes(min(args.length, MOST_BYTES)))
                        if rpc.stream is Stream.FROM_SERVER:
                            await call.receive_rest()
                        else:
                            await call.finish()
            except (CallAborted, CallError):
                continue
        root = Fid(site.cell.volume("data").id, ROOT, ROOT)
        assert (await client.status(root)).file_type == fs.FileType.DIRECTORY


def check(cell: DemoCell) -> None:
    """What must hold of a volume, whatever was done to it."""
    volume = cell.volume("data")
    named = {ROOT}
    for vnode in volume.vnodes.values():
        if not vnode.is_directory:
            continue
        for name, number, unique in vnode.directory:
            child = volume.vnode(number, unique)
            if name not in (b".", b".."):
                assert child.parent == vnode.number
                named.add(number)
    assert named == set(volume.vnodes)
    assert volume.used == sum(max(1, math.ceil(v.length / 1024)) for v in volume.vnodes.values())
    assert volume.used <= volume.quota + 1024
    assert cell.servers["fs1"].partition.used == volume.used


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_call_does_harm(data: st.DataObject) -> None:
    async def run() -> None:
        cell = make_cell()
        async with in_process(cell) as site:
            await ask(site, data)
        check(cell)

    trio.run(run, clock=MockClock(autojump_threshold=0))
