"""Where the process takes memory for its objects from, so that it can be given back.

Python's own allocator takes arenas of 1 MiB from the system, and gives one back when no object in
it is left. Of ten thousand volumes that came and went almost nothing stays; but every task that
waits has some dozens of small objects, which were made in the midst of that. They pin most arenas.
The C library's allocator gives back each page of 4 KiB that is free, if it is asked to.

So the daemon's objects come from there, from its start on; docs/mounts.md says what that costs.
That is what `PYTHONMALLOC=malloc` does, which would have to be set before Python starts. What is
used here is documented at https://docs.python.org/3/c-api/memory.html. Only where objects come from
is changed: to free one, Python's allocator is asked as ever, which looks whether the address lies
in one of its arenas, and hands over to the C library if not, as it must anyway for all that is
larger than 512 bytes. Source: `_PyObject_Free` and `_PyObject_Realloc` in obmalloc.c of CPython
3.11 to 3.13. What counts objects, `sys.getallocatedblocks`, is wrong from then on.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys

_RAW, _MEM, _OBJ = range(3)  # PyMemAllocatorDomain
_CACHED_SIZES = range(24, 1033, 16)
"""Bytes: one of each size of which the C library keeps freed blocks at hand, on 64-bit machines."""
_CACHED_MOST = 7  # blocks of each. Source: TCACHE_FILL_COUNT and TCACHE_MAX_BINS in malloc.c
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


def able() -> bool:
    """Whether this interpreter has allocators that are known to go together, and nobody else has
    changed them.
    """
    if not _KNOWN[0] <= sys.version_info[:2] <= _KNOWN[1] or sys.abiflags:
        return False  # or without a lock around the interpreter, or for its own debugging
    if "PYTHONMALLOC" in os.environ or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return False  # somebody knows what he wants; or a library that gives nothing back
    raw, own = _current(_RAW), [_current(domain) for domain in (_MEM, _OBJ)]
    if raw.ctx or any(each.ctx for each in own):
        return False  # somebody looks on, such as tracemalloc
    return all(each.malloc != raw.malloc for each in own)


def use_c_library() -> bool:
    """Have all new objects of this process come from the C library, for good, where that is known
    to work; whether it is. To be called before there are threads.
    """
    if not able():
        return False
    # One heap for all threads: what lies in those of threads is hard to give back, and whoever
    # makes objects holds the interpreter's lock anyway.
    ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
    raw = _current(_RAW)
    for domain in (_MEM, _OBJ):
        own = _current(domain)
        new = _Functions(None, raw.malloc, raw.calloc, own.realloc, own.free)
        ctypes.pythonapi.PyMem_SetAllocator(ctypes.c_int(domain), ctypes.byref(new))
    return True


def trim() -> None:
    """Give memory that is free back to the system, where the C library can do that."""
    gc.collect()
    _forget_names()
    with contextlib.suppress(AttributeError):  # another library
        ctypes.CDLL(None).malloc_trim(0)
        _exchange_cached()
        ctypes.CDLL(None).malloc_trim(0)


def _exchange_cached() -> None:
    """The C library keeps some blocks of each size for this thread that were freed last, and does
    not count them as free. They lie all over the heap, each of which pins a page.

    So they are taken out, and others put in their place. Those are found where it is fullest: what
    fits best lies between things that stay.
    """
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = (ctypes.c_size_t,)
    library.free.argtypes = (ctypes.c_void_p,)
    library.free.restype = None
    sizes = [size for size in _CACHED_SIZES for _ in range(_CACHED_MOST)]
    strewn = [library.malloc(size) for size in sizes]
    near = [library.malloc(size) for size in sizes]
    for block in near + strewn:  # in this order: there is room for the first ones only
        library.free(block)


def _forget_names() -> None:
    """The interpreter remembers under which names it found attributes of types, 4,096 of them. C
    code often makes such a name anew each time, so that many equal ones are strewn over the heap.
    """
    forget = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget is not None:
        forget()
