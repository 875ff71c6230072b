"""Fuzzing of the decoders guided by coverage: `make fuzz`, or `python -m tests.fuzz.guided TARGET`.

What each target demands is also asked of a small corpus in every run of the tests; the search needs
`atheris` (`pip install -e .[fuzz]`). Options behind the target are libFuzzer's.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse.acl import AccessList
from afsfuse.cache.directories import Directory
from afsfuse.errors import AfsError
from afsfuse.interfaces import callback, fileserver, kauth, protection, vldb
from afsfuse.vfs.mountpoints import parse_mountpoint
from rxrpc.errors import ParseError, SecurityError
from rxrpc.rpc import Void
from rxrpc.security import tickets
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.wire import jumbo
from rxrpc.wire.ack import Ack, AckReason
from rxrpc.wire.control import Abort, Version
from rxrpc.wire.debug import BasicAnswer, ConnectionAnswer, DebugRequest, PeerAnswer
from rxrpc.wire.packet import HEADER, Header
from rxrpc.xdr import decode
from tests.unit.afsfuse.cache.blobs import directory_blob
from tests.vectors.recorded import MESSAGES, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

_KEYS = ServiceKeys({(5, 18): bytes(32), (5, 1): b"12345678"})
STRUCTURES = sorted(
    {
        cls
        for interface in (
            fileserver.RXAFS, callback.RXAFSCB, vldb.VL, protection.PR, kauth.KAA, kauth.KAT,
        )
        for rpc in interface.rpcs
        for cls in (rpc.args, rpc.reply)
        if cls is not Void
    },
    key=lambda cls: (cls.__module__, cls.__qualname__),
)  # fmt: skip


def packets(data: bytes) -> None:
    """A header, and what stands behind it, as each type."""
    with contextlib.suppress(ParseError):
        header, body = Header.parse(data)
        assert Header.parse(header.build())[0] == header
        for parse in (Ack.parse, Abort.parse, Version.parse):
            with contextlib.suppress(ParseError):
                parse(body)
        with contextlib.suppress(ParseError):
            list(jumbo.split(header.flags, header.checksum, bytes(body)))


def questions(data: bytes) -> None:
    """What `rxdebug` asks and hears."""
    for cls in (DebugRequest, BasicAnswer, ConnectionAnswer, PeerAnswer):
        with contextlib.suppress(ParseError):
            cls.parse(data)


def messages(data: bytes) -> None:
    """Arguments and replies: the first byte chooses the structure."""
    if data:
        with contextlib.suppress(ParseError):
            decode(STRUCTURES[data[0] % len(STRUCTURES)], data[1:])


def directories(data: bytes) -> None:
    """Directories as servers send them."""
    with contextlib.suppress(AfsError):
        for entry in Directory.parse(data, 1):
            assert entry.name
            assert b"/" not in entry.name


def texts(data: bytes) -> None:
    """Access lists and the bodies of mount points."""
    for parse in (AccessList.from_server, AccessList.from_user, parse_mountpoint):
        with contextlib.suppress(AfsError):
            parse(data)


def tokens(data: bytes) -> None:
    """Tickets of Kerberos, as a server opens them."""
    for kvno in (256, 213, 5):
        with contextlib.suppress(SecurityError):
            tickets.open_ticket(kvno, data, _KEYS, 1_700_000_000.0)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (packets, questions, messages, directories, texts, tokens)
}


def corpus() -> list[bytes]:
    """What to begin with: packets, a directory, texts, and the recorded messages."""
    names = {cls.__name__: number for number, cls in enumerate(STRUCTURES)}
    header = HEADER.pack(1, 2, 3, 4, 5, 2, 1, 0, 2, 0, 1)
    return [
        b"", header + Ack(1, 0, 3, AckReason.PING, b"\1\0").build(), header + bytes(1440),
        directory_blob([(b"name", 2, 1)]), b"1\n0\nsystem:anyuser\t9\n\0", b"#root.cell.",
        b"%cell.org:user.x.readonly.",
        *(bytes([names.get(MESSAGES[name]["class"], 0)]) + recorded(name) for name in MESSAGES),
    ]  # fmt: skip


def main() -> None:
    """Search until something is found, or as long as libFuzzer's options say."""
    import atheris  # an optional tool, and slow to load

    target = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(corpus()):
            Path(folder, f"seed{number}").write_bytes(seed)
        atheris.instrument_all()
        atheris.Setup([*sys.argv, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
