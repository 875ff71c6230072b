"""A process that locks files on order: `python -S locker.py`.

Orders come in on standard input, one Python literal a line, and each is answered by one line: the
literal of what came out, or the name of an errno. An order that waits is answered when it is done;
SIGINT ends it with KeyboardInterrupt, as that ends a program.
"""

import ast
import errno
import fcntl
import os
import struct
import sys

LAYOUT = "hhqqi4x"  # struct flock of 64-bit Linux
F_OFD_SETLK = 37
TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
NAMES = {number: name for name, number in TYPES.items()}
HOW = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX, "un": fcntl.LOCK_UN}


def do_open(path: str, mode: str = "r") -> int:
    return os.open(path, os.O_RDONLY if mode == "r" else os.O_RDWR)


def do_close(descriptor: int) -> None:
    os.close(descriptor)


def do_dup(descriptor: int) -> int:
    return os.dup(descriptor)


def do_flock(descriptor: int, how: str, wait: bool = False) -> None:
    fcntl.flock(descriptor, HOW[how] | (0 if wait else fcntl.LOCK_NB))


def do_lock(
    descriptor: int, type: str, start: int = 0, length: int = 0, wait: bool = False
) -> None:
    command = fcntl.F_SETLKW if wait else fcntl.F_SETLK
    fcntl.fcntl(descriptor, command, struct.pack(LAYOUT, TYPES[type], 0, start, length, 0))


def do_ofd(descriptor: int, type: str, start: int = 0, length: int = 0) -> None:
    fcntl.fcntl(descriptor, F_OFD_SETLK, struct.pack(LAYOUT, TYPES[type], 0, start, length, 0))


def do_test(descriptor: int, type: str, start: int = 0, length: int = 0) -> tuple[object, ...]:
    asked = struct.pack(LAYOUT, TYPES[type], 0, start, length, 0)
    number, _, start, length, pid = struct.unpack(
        LAYOUT, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    )
    return ("u",) if number == fcntl.F_UNLCK else (NAMES[number], start, length, pid)


def do_fork(descriptor: int, order: str, *arguments: object) -> object:
    """Let a child do something with a descriptor, and end."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, repr(obey(order, descriptor, *arguments)).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    answer = os.read(reader, 1000)
    os.close(reader)
    return ast.literal_eval(answer.decode())


def do_read(descriptor: int) -> bytes:
    return os.pread(descriptor, 1000, 0)


def do_write(descriptor: int, data: bytes) -> int:
    return os.pwrite(descriptor, data, 0)


def obey(order: str, *arguments: object) -> object:
    try:
        return globals()[f"do_{order}"](*arguments)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


if __name__ == "__main__":
    for line in sys.stdin:
        print(repr(obey(*ast.literal_eval(line))), flush=True)
