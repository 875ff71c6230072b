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

from afsfuse.memory import able

PLAY = """
import sys
from afsfuse import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

class Thing:
    def __init__(self, number):
        self.number, self.names, self.share = number, [str(number)], number / 3

early = [[number] for number in range(5000)]
start = resident()
used = sys.argv[1] == "ours" and memory.use_c_library()
for each in early:
    each.extend(range(1000, 1040))  # grows from where it was made
late = [Thing(number) for number in range(120_000)]
most = resident()
stay = late[::1000]
late.clear()
memory.trim()
left = resident()
assert all(each == [number, *range(1000, 1040)] for number, each in enumerate(early))
assert [(each.number, each.names) for each in stay] == [
    (number, [str(number)]) for number in range(0, 120_000, 1000)]
print({"used": used, "grown": most - start, "left": left - start})
"""


def play(*words: str, code: str = PLAY, options: tuple[str, ...] = (), **more: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONMALLOC"}
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *words],
        env={**environment, **more}, check=True, capture_output=True,
    )  # fmt: skip
    return ast.literal_eval(done.stdout.decode())


@pytest.mark.skipif(not able(), reason="another Python, or another C library")
def test_what_was_free_comes_back_although_some_stays() -> None:
    ours, own = play("ours"), play("own")
    print(ours, own)
    assert (ours["used"], own["used"]) == (True, False)
    for figures in (ours, own):
        assert figures["grown"] > 25 << 20, "so there was something to give back"
    assert own["left"] > own["grown"] / 2, "so few objects pin all"
    assert ours["left"] < ours["grown"] / 3


UNABLE = """
from afsfuse import memory
used = memory.use_c_library()
memory.trim()
print([memory.able(), used])
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


CACHED = """
import ctypes, sys
from afsfuse import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

memory.use_c_library()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = (ctypes.c_void_p,)
sizes = [size for size in range(24, 1033, 16) for _ in range(7)]
if sys.argv[1] == "only freed":
    memory._exchange_cached = lambda: None
memory.trim()
start = resident()
few, much = [], []
for size in sizes:  # each far from the others
    few.append(library.malloc(size))
    much += [library.malloc(1100) for _ in range(20)]
for block in few + much:
    library.free(block)
del few, much
memory.trim()
print(resident() - start)
"""


@pytest.mark.skipif(not able(), reason="another Python, or another C library")
def test_blocks_at_hand_pin_no_pages() -> None:
    ours, before = play("all", code=CACHED), play("only freed", code=CACHED)
    print(ours, before)
    assert before > 1 << 20, "so many pages are pinned by one block each"
    assert ours < before / 3


NAMES = """
import gc, sys
from afsfuse import memory
class Thing:
    value = 1
names = ["".join(["val", "ue"]) for _ in range(3000)]
found = [getattr(Thing, name) for name in names]
held = sum(sys.getrefcount(name) > 3 for name in names)
memory.trim()
print([held > 50, sum(sys.getrefcount(name) > 3 for name in names)])
"""


def test_names_that_the_interpreter_remembers_are_forgotten() -> None:
    assert play(code=NAMES) == [True, 0]
