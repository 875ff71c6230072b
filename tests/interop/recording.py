"""Records what clients of OpenAFS's servers hear and say, as seeds for fuzzing.

    python -m tests.interop.recording FOLDER

with the folder of a real cell that runs (`python -m tests.realcell up`). It writes
`tests/vectors/openafs_packets.json`: of each level the packets both ways, one of each kind, taken
from the wire of a mount that reads, lists, writes, locks, is refused, and is called back.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import tempfile
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

from rxrpc.wire.packet import HEADER_SIZE, Header, PacketType
from tests.interop.mounts import eventually
from tests.interop.visitor import ANONYMOUS, Visitor
from tests.realcell.afsio import Afsio
from tests.realcell.capture import Packet, captured
from tests.realcell.cell import RealCell
from tests.vectors.recorded import PACKETS_FILE

LEVELS = (ANONYMOUS, "clear", "auth", "crypt")
SERVER_PORTS = (7000, 7002, 7003)  # of file, protection and location servers
LARGE = 700  # bytes: few of more are kept
LARGE_MOST, MOST = 2, 16  # of a level, direction and type
_TO_SERVER, _TO_CLIENT = "to server", "to client"


def live(cell: RealCell, visitor: Visitor, folder: Path) -> None:
    """A short life on a mount, with somebody else's changes."""
    afsio = Afsio(cell.clients["client2"])
    with visitor.mounted(folder / "afs", options="noallow_other") as mount:
        os.listdir(mount.cell)
        (mount.cell / "README").read_bytes()
        for name in os.listdir(mount.cell / "small/files")[:5]:
            (mount.cell / "small/files" / name).read_bytes()
        for home in ("home.alice", "home.bob"):
            with suppress(PermissionError):  # which comes as an abort
                os.listdir(mount.cell / home)
        path, changed = mount.writable / "scratch/slot00", uuid.uuid4().hex.encode()
        path.read_bytes()
        afsio.overwrite("/afs/.test.afs/scratch/slot00", changed)
        assert eventually(lambda: path.read_bytes()[: len(changed)] == changed, 5.0)
        made = mount.writable / f"scratch/recorded-{uuid.uuid4().hex[:8]}"
        made.mkdir()
        with (made / "file").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"what is stored " * 400)
        os.link(made / "file", made / "again")
        os.symlink("file", made / "link")
        (made / "again").rename(made / "other")
        for name in ("file", "other", "link"):
            (made / name).unlink()
        made.rmdir()


def chosen(packets: list[Packet]) -> dict[str, list[str]]:
    """One packet of each kind, both ways."""
    kept: dict[str, list[str]] = {_TO_SERVER: [], _TO_CLIENT: []}
    seen: set[tuple[object, ...]] = set()
    counts: Counter[tuple[str, PacketType, bool]] = Counter()
    for packet in packets:
        port = next((port for port in packet.ports if port in SERVER_PORTS), None)
        if port is None or len(packet.payload) < HEADER_SIZE:
            continue
        way = _TO_CLIENT if packet.ports[0] == port else _TO_SERVER
        header = Header.parse(packet.payload)[0]
        kind = (way, port, header.type, header.flags, header.security_index, len(packet.payload))
        count = (way, header.type, len(packet.payload) > LARGE)
        if kind in seen or counts[count] >= (LARGE_MOST if count[2] else MOST):
            continue
        seen.add(kind)
        counts[count] += 1
        kept[way].append(packet.payload.hex())
    return kept


def main() -> None:
    """Record all levels."""
    recorded: dict[str, dict[str, list[str]]] = {}
    with RealCell.attach(Path(sys.argv[1])) as cell:
        for level in LEVELS:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                visitor = Visitor(cell, folder, level)
                with captured(cell.clients["client1"]) as capture:
                    live(cell, visitor, folder)
            recorded[level] = chosen(capture.packets)
            told = {way: len(packets) for way, packets in recorded[level].items()}
            print(f"{level}: {told} of {len(capture.packets)}")
    source = "captured between this client and OpenAFS 1.8.9 servers (Debian 12), amd64"
    PACKETS_FILE.write_text(json.dumps({"source": source, "packets": recorded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
