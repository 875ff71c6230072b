"""Where memory for objects comes from, in processes of their own: it is one choice for each.

A walk is played: much is made, one object in a thousand stays, and the rest goes.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import Any

import pytest

from afsfuse.memory import Allocator

PLAY = """
import gc, sys
from afsfuse.memory import Allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

class Thing:
    def __init__(self, number):
        self.number, self.names, self.share = number, [str(number)], number / 3

allocator = Allocator()
early = [[number] for number in range(5000)]
start = resident()
if sys.argv[1] == "lend":
    allocator.lend()
for each in early:
    each.extend(range(1000, 1040))  # grows from where it was made
late = [Thing(number) for number in range(120_000)]
most = resident()
stay = late[::1000]
late.clear()
allocator.settle()
assert not allocator.lent
for each in early:
    each.extend(range(1000, 1020))
allocator.trim()
left = resident()
assert all(each == [number, *range(1000, 1040), *range(1000, 1020)]
           for number, each in enumerate(early))
assert [(each.number, each.names) for each in stay] == [
    (number, [str(number)]) for number in range(0, 120_000, 1000)]
print({"able": allocator.able, "grown": most - start, "left": left - start})
"""


def play(*words: str, code: str = PLAY, options: tuple[str, ...] = (), **more: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONMALLOC"}
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *words],
        env={**environment, **more}, check=True, capture_output=True,
    )  # fmt: skip
    return ast.literal_eval(done.stdout.decode())


able = pytest.mark.skipif(not Allocator().able, reason="another Python, or another C library")


@able
def test_what_was_lent_comes_back_although_some_stays() -> None:
    ours, own = play("lend"), play("own")
    print(ours, own)
    for figures in (ours, own):
        assert figures["grown"] > 25 << 20, "so there was something to give back"
    assert own["left"] > own["grown"] / 2, "so few objects pin all"
    assert ours["left"] < ours["grown"] / 3


UNABLE = """
from afsfuse.memory import Allocator
allocator = Allocator()
allocator.lend()
allocator.trim()
print([allocator.able, allocator.lent])
"""


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ((), {"PYTHONMALLOC": "malloc"}),
        ((), {"PYTHONMALLOC": "pymalloc_debug"}),
        (("-X", "dev"), {}),
        (("-X", "tracemalloc"), {}),
    ],
)
def test_whoever_has_chosen_is_left_alone(
    options: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert play(code=UNABLE, options=options, **environment) == [False, False]


WATCHED = """
import tracemalloc
from afsfuse.memory import Allocator
allocator = Allocator()
tracemalloc.start()
allocator.lend()
answers = [allocator.lent]
tracemalloc.stop()
allocator.lend()
answers.append(allocator.lent)
tracemalloc.start()
allocator.settle()
answers.append(allocator.lent)
tracemalloc.stop()
allocator.settle()
answers.append(allocator.lent)
print(answers)
"""


@able
def test_nobody_who_looks_on_is_pushed_out() -> None:
    assert play(code=WATCHED) == [False, True, True, False]
