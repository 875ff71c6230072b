"""The targets of the fuzzer that is guided by coverage, with what is at hand in every run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.guided import TARGETS, corpus

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_nothing_but_refusals(target: Callable[[bytes], None]) -> None:
    rng = random.Random(target.__name__)
    print("seed", target.__name__)
    seeds = corpus()
    for data in seeds:
        target(data)
    for _ in range(2000):
        mutant = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(mutant) + 1)
            match rng.randrange(3):
                case 0:
                    mutant[at : at + 1] = rng.randbytes(1)
                case 1:
                    mutant[at : at + 4] = rng.choice([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"])
                case _:
                    del mutant[at : at + rng.randrange(1, 40)]
        target(bytes(mutant))
