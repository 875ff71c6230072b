"""Each structure of each interface: every word of it replaced by every extreme, and cut off."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import TYPE_CHECKING, Any, get_args, get_type_hints
from uuid import UUID

import pytest

from afsfuse.acl import AccessList
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.interfaces import callback, fileserver, kauth, protection, vldb
from afsfuse.vfs.mountpoints import parse_mountpoint
from rxrpc.errors import ParseError
from rxrpc.rpc import Void
from rxrpc.xdr import decode, encode
from rxrpc.xdr.fields import AfsUuid, Array, CharVector, Flag, Opaque, String, Vector, Word
from tests.fuzz.test_messages import MEMORY_MAX, spoiled

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERFACES = (
    fileserver.RXAFS, callback.RXAFSCB, vldb.VL, protection.PR, kauth.KAA, kauth.KAT,
)  # fmt: skip
SHORT = 400  # bytes: longer messages are spoiled in every seventh word


def messages() -> Iterator[type]:
    """Arguments and replies of all procedures, each once."""
    for interface in INTERFACES:
        for rpc in interface.rpcs:
            yield from {rpc.args, rpc.reply} - {Void}


STRUCTURES = sorted(set(messages()), key=lambda cls: (cls.__module__, cls.__qualname__))


def sample(hint: Any) -> Any:
    """A value with two elements wherever there may be any number."""
    if isinstance(hint, type):
        hints = get_type_hints(hint, include_extras=True)
        return hint(**{name: sample(of) for name, of in hints.items()})
    base, mark = get_args(hint)[:2]
    match mark:
        case Flag():
            return True
        case Word():
            return 1
        case AfsUuid():
            return UUID(int=1)
        case CharVector():
            return b"name"[: mark.length - 1]
        case String() | Opaque():
            return b"words"[: mark.max]
        case Array():
            return (sample(get_args(base)[0]),) * min(2, mark.max)
        case Vector():
            return (sample(get_args(base)[0]),) * mark.length
    raise AssertionError(f"no sample for {hint!r}")


@pytest.mark.parametrize("cls", STRUCTURES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_no_word_of_it_does_harm(cls: type) -> None:
    """Lengths and counts of 0 to 2^32-1 among them, and NULs in names."""
    whole = encode(sample(cls))
    assert decode(cls, whole) == sample(cls)
    mutants = list(spoiled(whole))
    if len(whole) > SHORT:
        mutants = mutants[:: len(mutants) // (12 * SHORT // 4) + 1]
    tracemalloc.start()
    refused = 0
    try:
        for mutant in mutants:
            try:
                decode(cls, mutant)
            except ParseError:
                refused += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused or not whole
    assert peak < MEMORY_MAX


def test_all_procedures_are_covered() -> None:
    assert len(STRUCTURES) > 70
    assert sum(len(interface.rpcs) for interface in INTERFACES) > 70


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\0", b"1\n", b"999999999\n0\n", b"0\n0\n" + b"x" * 100_000,
        b"1\n0\n" + b"n" * 5000 + b"\t1\n", b"1\n0\na\t" + b"9" * 5000 + b"\n",
        b"1\n0\n" + b" " * 50_000 + b"a\t1\n", b"1 dfs:\n", b"1\n0\na\0b\t1\n",
    ],
    ids=lambda text: text[:16].decode("ascii", "backslashreplace"),
)  # fmt: skip
def test_texts_that_are_no_access_lists(text: bytes) -> None:
    """The bodies of mount points are such texts of servers, too."""
    with contextlib.suppress(DataCorrupt):
        assert len(AccessList.from_server(text).positive) <= 1
    with contextlib.suppress(AfsError):
        parse_mountpoint(text)
