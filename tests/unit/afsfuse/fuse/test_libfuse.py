"""How the module between pyfuse3 and libfuse is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from afsfuse.fuse import libfuse

LOADED = "from afsfuse.fuse import libfuse; print(libfuse.between is not None)"
FLAGS = "import os, sys; print(not sys.getdlopenflags() & os.RTLD_GLOBAL)"


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return done.stdout.decode().split()


def test_it_is_there() -> None:
    """It is optional for those who install, and not for those who develop."""
    assert libfuse.between is not None


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        (LOADED, "True"),
        (f"from afsfuse.fuse import operations; {LOADED}", "True"),
        (f"import pyfuse3; {LOADED}", "False"),  # too late
        (f"import sys; sys.modules['afsfuse.fuse._libfuse'] = None; {LOADED}", "False"),
    ],
)
def test_it_is_loaded_before_pyfuse3_or_not_at_all(code: str, loaded: str) -> None:
    assert said(f"{code}; {FLAGS}") == [loaded, "True"]


FORGOTTEN = """
import ctypes, mmap, struct, sys
from afsfuse.fuse import libfuse
import pyfuse3

class Arguments(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int), ("words", ctypes.c_void_p), ("own", ctypes.c_int)]

class Buffer(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_int), ("memory", ctypes.c_void_p),
                ("rest", ctypes.c_uint64 * 4)]

ours = ctypes.CDLL(libfuse.between.__file__)
ours.fuse_session_new.restype = ctypes.c_void_p
words = (ctypes.c_char_p * 2)(b"test", None)
arguments = Arguments(1, ctypes.cast(words, ctypes.c_void_p), 0)
session = ours.fuse_session_new(ctypes.byref(arguments), (ctypes.c_void_p * 44)(), 352, None)
assert session

page, opcode = mmap.PAGESIZE, int(sys.argv[1])
memory = mmap.mmap(-1, 8 * page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b"x" * len(memory)
start, size = page // 2, 5 * page  # libfuse's buffers do not begin with a page, either
memory[start : start + 40] = struct.pack("=IIQQIIII", size, opcode, 1, 0, 0, 0, 0, 0)
place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
ours.fuse_session_process_buf(ctypes.c_void_p(session), ctypes.byref(
    Buffer(size, 0, place + start)))
print(*(memory[number * page + page - 1] for number in range(8)))
"""


@pytest.mark.parametrize(
    ("opcode", "pages"),
    [(42, [120, 0, 0, 0, 0, 120, 120, 120]), (16, [120] * 8)],
    ids=["BATCH_FORGET", "WRITE"],
)
def test_long_lists_of_what_is_forgotten_take_no_memory(opcode: int, pages: list[int]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORGOTTEN, str(opcode)], capture_output=True, check=True
    )
    assert [int(word) for word in done.stdout.split()] == pages
