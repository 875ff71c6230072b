"""The first message of a connection, FUSE_INIT: libfuse answers it, and we correct the answer.

pyfuse3 gives no way to say what the mount wants of the kernel, and three things matter much:

- `PARALLEL_DIROPS`. Without it the kernel lets one process at a time look up a name in a directory
  and lets the others wait for it, beyond the reach of any signal: one cell that does not answer
  would block all of the dynamic root. libfuse up to 3.16 wants it, but forgets to say so.
- `HANDLE_KILLPRIV_V2`. Without it the kernel asks for the attribute `security.capability` before
  each write, which doubles the requests of programs that write a little at a time, and with it
  before the first to a file only. Then we are to take set-id bits away when somebody writes: we
  show none, and file servers do it.
- `max_background`, 12 by default: so many read-aheads of all files together may be on their way.
  One dead server would take them all and stop buffered reads everywhere.

So libfuse first gets a socket in place of the connection, with the kernel's request in it. What it
answers is corrected on its way to the kernel; then the connection takes the socket's place.

Source of the layouts: the kernel's include/uapi/linux/fuse.h.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

import pyfuse3
import trio

from afsfuse.fuse.mount import EXIT_SYSTEM, MountError

# struct fuse_in_header, then of struct fuse_init_in: major, minor, max_readahead, flags
_REQUEST = struct.Struct("=IIQQIIII IIII")
# struct fuse_out_header, then of struct fuse_init_out: major, minor, max_readahead, flags,
# max_background, congestion_threshold
_REPLY = struct.Struct("=IiQ IIIIHH")

_FUSE_INIT = 26
_PARALLEL_DIROPS = 1 << 18
_HANDLE_KILLPRIV_V2 = 1 << 28

_MESSAGE_SIZE = 1 << 16  # the kernel insists on 8 KiB at least
_SECONDS = 10.0


@dataclass(frozen=True)
class Wishes:
    """What the answer is corrected to."""

    background: int = 4000
    """Background requests in flight, 65535 at most; the kernel allows ordinary users fewer."""


def corrected(request: bytes, reply: bytes, wishes: Wishes) -> bytes:
    """libfuse's reply with our wishes in it. Raises `MountError` if it is none, or a refusal."""
    if len(request) < _REQUEST.size or _REQUEST.unpack_from(request)[1] != _FUSE_INIT:
        raise MountError("the kernel did not begin with FUSE_INIT", exit_code=EXIT_SYSTEM)
    if len(reply) < _REPLY.size or (values := _REPLY.unpack_from(reply))[1] != 0:
        raise MountError("libfuse and the kernel do not agree on a version", exit_code=EXIT_SYSTEM)
    *head, flags, _, _ = values
    offered = _REQUEST.unpack_from(request)[-1]
    flags |= offered & (_PARALLEL_DIROPS | _HANDLE_KILLPRIV_V2)
    background = min(wishes.background, 0xFFFF)
    # Above the second number the kernel takes the mount for congested and reads ahead less.
    start = _REPLY.pack(*head, flags, background, background * 3 // 4)
    return start + reply[_REPLY.size :]


async def shake_hands(operations: pyfuse3.Operations, connection: int, wishes: Wishes) -> int:
    """Begin a session of libfuse on a fresh connection; returns the descriptor that it now has.

    `pyfuse3.main` can be called then, and `pyfuse3.close` closes the descriptor. Raises
    `MountError` when the two do not get along; everything is closed then.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = theirs.detach()
    with ours:
        try:
            # "debug" has libfuse write its request log, see `requestlog`.
            pyfuse3.init(operations, f"/dev/fd/{descriptor}", {"debug"})
        except RuntimeError as exc:
            os.close(descriptor)
            os.close(connection)
            raise MountError(f"libfuse does not start: {exc}", exit_code=EXIT_SYSTEM) from exc
        try:
            request = os.read(connection, _MESSAGE_SIZE)
            reply = await _answer_of_libfuse(ours, request)
            os.write(connection, corrected(request, reply, wishes))
            os.dup2(connection, descriptor, inheritable=False)
        except BaseException:
            pyfuse3.close(unmount=False)
            raise
        finally:
            os.close(connection)
    return descriptor


async def _answer_of_libfuse(peer: socket.socket, request: bytes) -> bytes:
    """Let libfuse read a request at the other end of a socket; nothing if it does not answer.

    Its main loop ends here, so that it begins anew with what it finds behind its descriptor.
    """
    peer.send(request)
    reply = b""
    with trio.move_on_after(_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main, 1, 1)
            await trio.lowlevel.wait_readable(peer)
            reply = peer.recv(_MESSAGE_SIZE)
            nursery.cancel_scope.cancel()
    return reply
