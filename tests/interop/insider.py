"""A process inside of a volume: `python insider.py FOLDER`, with FOLDER as its working directory
and the file `held` there open. For each line of its input it does everything once and tells how
that went, as one line of JSON: by name, a value or the name of an errno.

Nothing of the project is imported: this is a user's program.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Outcome = str | int | list[str] | None


def attempt(action: Callable[[], Outcome]) -> Outcome:
    try:
        return action()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def main(folder: str) -> None:
    os.chdir(folder)
    held = os.open("held", os.O_RDWR)
    actions: dict[str, Callable[[], Outcome]] = {
        "list": lambda: sorted(os.listdir()),
        "stat": lambda: os.stat("other").st_size,
        "read": lambda: open("other").read(),  # noqa: SIM115 - closed at once, as it has no name
        "create": lambda: os.close(os.open("created", os.O_CREAT | os.O_WRONLY)),
        "remove": lambda: os.unlink("created"),
        "fstat": lambda: os.fstat(held).st_size,
        "pread": lambda: os.pread(held, 100, 0).decode(),
        "pwrite": lambda: os.pwrite(held, b"inside", 0),
        "fsync": lambda: os.fsync(held),
    }
    print("ready", flush=True)
    for _ in sys.stdin:
        os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
        told = {name: attempt(action) for name, action in actions.items()}
        print(json.dumps(told), flush=True)
    print(json.dumps(attempt(lambda: os.close(held))))


if __name__ == "__main__":
    main(sys.argv[1])
