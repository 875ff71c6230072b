"""Messages captured from real servers."""

import json
from pathlib import Path

_FILE = Path(__file__).with_name("openafs_1_8_9.json")
MESSAGES: dict[str, dict[str, str]] = json.loads(_FILE.read_text())["messages"]
"""By the procedure's name: the class of the message, and its bytes in hexadecimal digits."""


def recorded(name: str) -> bytes:
    """The reply to a procedure; for the callback interface its arguments."""
    return bytes.fromhex(MESSAGES[name]["hex"])
