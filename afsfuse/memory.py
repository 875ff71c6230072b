"""Where the process takes memory for its objects from, so that it can be given back.

Python's own allocator takes arenas of 1 MiB from the system, and gives one back when no object in
it is left. Of ten thousand volumes that came and went, almost nothing stays; but with them came the
state of a task, a round trip that was measured: one or two of such in every arena, and they pin all
of them. The C library's allocator gives back each page of 4 KiB that is free, if it is asked to.

It takes longer, though: creating and removing small files costs a tenth more of processor time. So
objects come from it only while much is there that is going to leave (`Allocator.lend`).

What is set here is documented at https://docs.python.org/3/c-api/memory.html. Only where objects
come from is changed: to free one, Python's allocator is asked as ever, which looks whether the
address lies in one of its arenas, and hands over to the C library if not, as it must anyway for all
that is larger than 512 bytes. Source: `_PyObject_Free` and `_PyObject_Realloc` in obmalloc.c of
CPython 3.11 to 3.13. What counts objects, `sys.getallocatedblocks`, is wrong from then on.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import sys

log = logging.getLogger(__name__)

_RAW, _MEM, _OBJ = range(3)  # PyMemAllocatorDomain
_ARENA_MAX = -8  # M_ARENA_MAX. Source: glibc's malloc.h
_KNOWN = (3, 11), (3, 13)  # versions whose obmalloc.c was read, and which were tried


class _Functions(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [  # that is how ctypes wants it
        (name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")
    ]


def _current(domain: int) -> _Functions:
    functions = _Functions()
    ctypes.pythonapi.PyMem_GetAllocator(ctypes.c_int(domain), ctypes.byref(functions))
    return functions


def _set(domain: int, functions: _Functions) -> None:
    ctypes.pythonapi.PyMem_SetAllocator(ctypes.c_int(domain), ctypes.byref(functions))


class Allocator:
    """Switches where new objects come from. Its methods are for any thread that runs Python."""

    def __init__(self) -> None:
        self.lent = False
        """Whether they come from the C library."""
        self._own = {domain: _current(domain) for domain in (_MEM, _OBJ)}
        self._lent: dict[int, _Functions] = {}
        raw = _current(_RAW)
        if self._replaceable(raw):
            # One heap for all threads: what lies in those of threads is hard to give back, and
            # whoever makes objects holds the interpreter's lock anyway.
            ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
            self._lent = {
                domain: _Functions(None, raw.malloc, raw.calloc, own.realloc, own.free)
                for domain, own in self._own.items()
            }

    @property
    def able(self) -> bool:
        """Whether this interpreter has allocators that are known to go together."""
        return bool(self._lent)

    def _replaceable(self, raw: _Functions) -> bool:
        if not _KNOWN[0] <= sys.version_info[:2] <= _KNOWN[1] or sys.abiflags:
            return False  # or without a lock around the interpreter, or for its own debugging
        if "PYTHONMALLOC" in os.environ or not hasattr(ctypes.CDLL(None), "malloc_trim"):
            return False  # somebody knows what he wants; or a library that gives nothing back
        if raw.ctx or any(own.ctx for own in self._own.values()):
            return False  # somebody looks on, such as tracemalloc
        return all(own.malloc != raw.malloc for own in self._own.values())

    def lend(self) -> None:
        """Much comes now that is going to leave again: take it from the C library."""
        if not self.lent and self._lent and self._unchanged(self._own):
            for domain, functions in self._lent.items():
                _set(domain, functions)
            self.lent = True
            log.debug("memory for objects comes from the C library")

    def settle(self) -> None:
        """What comes now is as much as ever, and stays: let Python's own allocator have it."""
        if self.lent and self._unchanged(self._lent):
            for domain, functions in self._own.items():
                _set(domain, functions)
            self.lent = False
            log.debug("memory for objects comes from Python's own allocator")

    @staticmethod
    def _unchanged(expected: dict[int, _Functions]) -> bool:
        """Whether nobody else, such as tracemalloc, has put himself in between."""
        return all(bytes(_current(domain)) == bytes(each) for domain, each in expected.items())

    @staticmethod
    def trim() -> None:
        """Give memory that is free inside the C library back to the system, where that is glibc."""
        gc.collect()
        with contextlib.suppress(AttributeError):  # another library
            ctypes.CDLL(None).malloc_trim(0)
