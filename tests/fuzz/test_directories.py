"""Directory blobs with random damage: refused or sound, never anything else, and quickly."""

from __future__ import annotations

import random
import struct
import time

import pytest

from afsfuse.cache.directories import BLOBS_A_PAGE, Directory
from afsfuse.errors import DataCorrupt
from tests.unit.afsfuse.cache.blobs import PAGE, DirectoryBuilder

MILLION = 1_000_000
SHARES = 10  # tests of one kind
LONGEST = 0.1  # seconds of processor time for one mutant
HASH_TABLE, BUCKETS = 160, 128  # of two bytes each
WORDS = (0, 1, 13, 14, 63, 64, 0x7FFF, 0x8000, 0xFFFF)


def sample(rng: random.Random) -> bytes:
    """A directory of a few pages, with gaps and names of all lengths."""
    builder = DirectoryBuilder()
    names = []
    for number in range(rng.randrange(1, 120)):
        length = rng.choice((1, 5, 10, 15, 16, 30, 47, 48, 255))
        names.append((b"%d" % number).ljust(length, b"n"))
        builder.add(names[-1], 2 * number + 2, number + 1)
    for name in rng.sample(names, len(names) // 4):
        builder.remove(name)
    return builder.blob()


def mutate(rng: random.Random, blob: bytes) -> bytes:
    """One to a few changes of a kind that a broken disk, server or foe may make."""
    mutant = bytearray(blob)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        where = rng.randrange(len(mutant)) if mutant else 0
        match rng.randrange(10):
            case 0:
                mutant[where : where + 1] = bytes([rng.randrange(256)])
            case 1:
                mutant[where : where + 1] = bytes([mutant[where] ^ 1 << rng.randrange(8)])
            case 2:  # the first blobs decide over all others
                mutant[where % 420 : where % 420 + 1] = bytes([rng.randrange(256)])
            case 3:
                del mutant[where:]
            case 4:
                del mutant[where // PAGE * PAGE :]
            case 5:
                source = rng.randrange(len(mutant)) // 32 * 32
                mutant[where // 32 * 32 : where // 32 * 32 + 32] = mutant[source : source + 32]
            case 6:
                mutant[where : where + rng.randrange(64)] = b""
            case 7:
                mutant[where:where] = rng.randbytes(rng.choice((1, 32, PAGE)))
            case 8:  # chains that lead to themselves, in circles and out of the directory
                for _ in range(20):
                    at = rng.choice((HASH_TABLE + 2 * rng.randrange(BUCKETS), where // 32 * 32 + 2))
                    if at + 2 <= len(mutant):
                        struct.pack_into("!H", mutant, at, rng.choice((*WORDS, where // 32)))
            case 9:  # page counts, tags, free counts
                at = rng.choice((0, 2, 4, 32 + where % 128, where // PAGE * PAGE + 2))
                mutant[at : at + 2] = struct.pack("!H", rng.choice(WORDS))
        if not mutant:
            break
    return bytes(mutant)


@pytest.mark.parametrize(
    ("seed", "mutants"),
    [
        *((seed, MILLION // 10 // SHARES) for seed in range(SHARES)),
        *(
            pytest.param(seed, MILLION // SHARES, marks=pytest.mark.soak)
            for seed in range(100, 100 + SHARES)
        ),
    ],
)
def test_mutants_are_refused_or_sound(seed: int, mutants: int) -> None:
    rng = random.Random(seed)
    refused, longest = 0, 0.0
    for _ in range(mutants // 20):
        blob = sample(rng)
        for _ in range(20):
            mutant = mutate(rng, blob)
            began = time.thread_time()
            try:
                directory = Directory.parse(mutant)
            except DataCorrupt:
                refused += 1
                continue
            finally:
                longest = max(longest, time.thread_time() - began)
            entries = list(directory)
            assert len(entries) == len(directory)
            assert len(entries) <= len(mutant) // PAGE * BLOBS_A_PAGE
            for entry in entries:
                assert entry.name
                assert b"/" not in entry.name
                assert b"\0" not in entry.name
                assert len(entry.name) <= 255
                assert directory.find(entry.name) == (entry.vnode, entry.unique)
            assert [e.slot for e in entries] == sorted({e.slot for e in entries})
    print(f"seed {seed}: {refused} of {mutants} refused, the longest took {1000 * longest:.1f} ms")
    assert mutants // 4 < refused < mutants
    assert longest < LONGEST
