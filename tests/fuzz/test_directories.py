"""Directory blobs with random damage: refused or sound, never anything else, and quickly."""

from __future__ import annotations

import os
import random

import pytest

from afsfuse.cache.directories import BLOBS_A_PAGE, Directory
from afsfuse.errors import DataCorrupt
from tests.unit.afsfuse.cache.blobs import PAGE, DirectoryBuilder

MUTANTS = int(os.environ.get("FUZZ_MUTANTS", "100000"))
SEEDS = 10


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
        match rng.randrange(8):
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
        if not mutant:
            break
    return bytes(mutant)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_mutants_are_refused_or_sound(seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for _ in range(MUTANTS // SEEDS // 20):
        blob = sample(rng)
        for _ in range(20):
            mutant = mutate(rng, blob)
            try:
                directory = Directory.parse(mutant)
            except DataCorrupt:
                refused += 1
                continue
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
    assert refused > MUTANTS // SEEDS // 4
