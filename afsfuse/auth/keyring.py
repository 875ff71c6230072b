"""What `keyctl show` tells of tokens: a key `afs@CELL` in the session keyring.

The key's payload says whose token it is and until when; the session key of the token is not in it.
Whoever may read a keyring of the session could take it from there, and nobody needs it there: the
daemon cannot read keyrings of other processes, so it has the token from the control socket. The
key has the type `user`, since the type `rxrpc` exists only in kernels with AF_RXRPC.

Where there are no keyrings, or no libkeyutils, nothing happens and all else works.
Source of names and numbers: keyutils.h.
"""

from __future__ import annotations

import ctypes
import functools
import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afsfuse.auth.token import Token

_LIBRARY = "libkeyutils.so.1"
_SESSION, _USER = -3, -4  # KEY_SPEC_SESSION_KEYRING, KEY_SPEC_USER_KEYRING
_TYPE = b"user"


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    serial, text = ctypes.c_int32, ctypes.c_char_p
    for name, arguments, result in (
        ("add_key", (text, text, ctypes.c_void_p, ctypes.c_size_t, serial), serial),
        ("keyctl_get_keyring_ID", (serial, ctypes.c_int), serial),
        ("keyctl_search", (serial, text, text, serial), ctypes.c_long),
        ("keyctl_unlink", (serial, serial), ctypes.c_long),
        ("keyctl_link", (serial, serial), ctypes.c_long),
        ("keyctl_set_timeout", (serial, ctypes.c_uint), ctypes.c_long),
        ("keyctl_join_session_keyring", (text,), serial),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


def description(cell: str) -> str:
    """The key's name, as AF_RXRPC's users know it."""
    return f"afs@{cell.upper()}"


def show(token: Token) -> bool:
    """Have a key that tells of a token, until the token ends; whether there is one now."""
    library = _library()
    if library is None:
        return False
    # Asked for by number: a session without a keyring of its own shares its user's, while the
    # bare name would make one that ends with this command.
    ring = library.keyctl_get_keyring_ID(_SESSION, 0)
    about = {"cell": token.cell, "client": token.client, "expires": token.end}
    payload = json.dumps(about).encode()
    name = description(token.cell).encode()
    key = library.add_key(_TYPE, name, payload, len(payload), ring) if ring > 0 else -1
    if key < 0:
        return False
    library.keyctl_set_timeout(key, max(1, int(token.end - time.time())))
    return True


def forget(cell: str) -> bool:
    """Remove the key that tells of a cell's token; whether there was one."""
    library = _library()
    if library is None:
        return False
    ring = library.keyctl_get_keyring_ID(_SESSION, 0)
    if ring <= 0:
        return False
    key = library.keyctl_search(ring, _TYPE, description(cell).encode(), 0)
    return bool(key > 0 and library.keyctl_unlink(key, ring) == 0)


def begin_session() -> bool:
    """Give this process, and those that it starts, a session keyring of their own.

    The user's own keyring is linked into it, as pam_keyinit(8) does at a login.
    """
    library = _library()
    if library is None:
        return False
    ring = library.keyctl_join_session_keyring(None)
    return bool(ring > 0 and library.keyctl_link(_USER, ring) == 0)
