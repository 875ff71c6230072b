"""Messages of AFS with anything in them: a value or a `ParseError`, never much memory."""

import contextlib
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afsfuse.cell.records import read_entry
from afsfuse.errors import DataCorrupt
from afsfuse.interfaces import callback, common, fileserver, vldb
from afsfuse.model import Status
from rxrpc.errors import ParseError
from rxrpc.xdr import decode
from tests.vectors.recorded import MESSAGES, recorded

EXTREMES = (0, 1, 49, 50, 51, 0xFFFF, 0x7FFFFFFC, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)
MEMORY_MAX = 1 << 20  # bytes that reading one message may take


def structure(name: str) -> type:
    modules = (common, fileserver, callback, vldb)
    found: type = next(getattr(module, name) for module in modules if hasattr(module, name))
    return found


def understand(value: object) -> None:
    """What the client does with a message first; it may find that it cannot be."""
    with contextlib.suppress(DataCorrupt):
        if isinstance(value, fileserver.FetchStatusReply):
            Status.from_wire(value.status)
        elif isinstance(value, vldb.EntryUReply | vldb.EntryNReply | vldb.EntryOReply):
            read_entry(value.entry)


def spoiled(raw: bytes) -> Iterator[bytes]:
    """The message with each of its words replaced by each extreme, and cut off at each word."""
    for at in range(0, len(raw), 4):
        yield raw[:at]
        for word in EXTREMES:
            yield raw[:at] + word.to_bytes(4, "big") + raw[at + 4 :]


@pytest.mark.parametrize("name", MESSAGES)
def test_no_word_of_a_message_does_harm(name: str) -> None:
    cls = structure(MESSAGES[name]["class"])
    tracemalloc.start()
    try:
        for data in spoiled(recorded(name)):
            tracemalloc.reset_peak()
            with contextlib.suppress(ParseError):
                understand(decode(cls, data))
            assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_no_mixture_of_two_messages_does_harm(name: str, data: st.DataObject) -> None:
    raw = recorded(name)
    other = recorded(data.draw(st.sampled_from(sorted(MESSAGES))))
    cut = data.draw(st.integers(0, len(raw)))
    begin = data.draw(st.integers(0, len(other)))
    noise = data.draw(st.binary(max_size=12))
    with contextlib.suppress(ParseError):
        understand(decode(structure(MESSAGES[name]["class"]), raw[:cut] + noise + other[begin:]))
