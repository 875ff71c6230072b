"""The pictures of the layers, held against the order that the source is held to."""

from __future__ import annotations

import itertools
import re

from tests.docs.pages import README, ROOT, Block, blocks
from tests.test_layers import AFSFUSE, RXRPC

ARCHITECTURE = ROOT / "docs" / "architecture.md"
ROOMS = {
    "afsfuse": {room: height for height, row in enumerate(AFSFUSE) for room in row},
    "rxrpc": {room: height for height, row in enumerate(RXRPC) for room in row},
}


def picture(page: str) -> Block:
    """The one block of a page that has the layers in it."""
    path = {"README.md": README}.get(page, ARCHITECTURE)
    (found,) = [
        block for block in blocks(path)
        if block.language == "text" and {"vfs", "cache", "rxrpc"} <= set(block.text.split())
    ]  # fmt: skip
    return found


def rows(text: str, package: str) -> list[list[str]]:
    """The rooms at the beginning of each line, from the top to the bottom."""
    known = ROOMS[package]
    found = []
    for line in text.splitlines():
        rooms = []
        for word in re.findall(r"[^\s│─,]+", line):
            if word not in known:
                break
            rooms.append(word)
        if rooms:
            found.append(rooms)
    return found


def ascents(drawn: list[list[str]], package: str) -> list[str]:
    """Where something stands below what it may not be used by."""
    known = ROOMS[package]
    return [
        f"{low} is drawn below {high}"
        for upper, lower in itertools.pairwise(drawn)
        for high in upper
        for low in lower
        if known[low] > known[high]
    ]


def packages(name: str) -> set[str]:
    """The rooms that are folders."""
    return {path.parent.name for path in (ROOT / name).glob("*/__init__.py")}


def test_the_architecture_has_every_room_at_its_height() -> None:
    client, _, stack = picture("architecture.md").text.partition("\nrxrpc\n")
    for package, text in (("afsfuse", client), ("rxrpc", stack)):
        drawn = rows(text, package)
        assert ascents(drawn, package) == []
        assert packages(package) - {room for row in drawn for room in row} == set()


def test_the_first_page_shows_the_rooms_of_a_request_in_their_order() -> None:
    text = picture("README.md").text
    drawn = rows(text, "afsfuse")
    assert ascents(drawn, "afsfuse") == []
    shown = {room for row in drawn for room in row}
    assert {"fuse", "vfs", "cache", "fileserver", "cell", "auth"} <= shown
    assert text.index("│ auth") < text.index("│ rxrpc")


def test_a_wrong_picture_is_seen() -> None:
    drawn = rows("│ cache  data\n│ vfs  names\n", "afsfuse")
    assert drawn == [["cache"], ["vfs"]]
    assert ascents(drawn, "afsfuse") == ["vfs is drawn below cache"]
