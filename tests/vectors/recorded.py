"""Messages and packets captured from real servers."""

import json
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("openafs_1_8_9.json")
MESSAGES: dict[str, dict[str, str]] = json.loads(_FILE.read_text())["messages"]
"""By the procedure's name: the class of the message, and its bytes in hexadecimal digits."""

PACKETS_FILE = Path(__file__).with_name("openafs_packets.json")
"""What `tests.interop.recording` took from the wire."""


def recorded(name: str) -> bytes:
    """The reply to a procedure; for the callback interface its arguments."""
    return bytes.fromhex(MESSAGES[name]["hex"])


@cache
def packets(level: str, way: str) -> tuple[bytes, ...]:
    """Datagrams of a client at a level (`anonymous`, `clear`, `auth`, `crypt`), on their way
    `to client` or `to server`; one of each kind.
    """
    found = json.loads(PACKETS_FILE.read_text())["packets"][level][way]
    return tuple(map(bytes.fromhex, found))
