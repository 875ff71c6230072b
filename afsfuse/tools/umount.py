"""`afsfuse umount --tree`: have a daemon let go of one volume at one place, and all below it."""

from __future__ import annotations

import os
import stat

from afsfuse.control.places import ask_each
from afsfuse.errors import UsageError, printable
from afsfuse.tools import complain
from afsfuse.tools.common import EXIT_FAILED, EXIT_OK


def let_go(path: str) -> int:
    """Let the tree go whose root is at `path`, or say who uses it; returns the exit status.

    Raises `UsageError` when nothing is there that could go.
    """
    try:
        found = os.stat(path)
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}", exit_code=EXIT_FAILED) from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: not a directory", exit_code=EXIT_FAILED)
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    answers = ask_each("let-go", device=device, inode=found.st_ino)
    answer = next((answer for answer in answers if "other" not in answer), None)
    if answer is None:
        raise UsageError(f"{path}: in no mount of ours", exit_code=EXIT_FAILED)
    if "missing" in answer:
        raise UsageError(f"{path}: not the root of a volume in use", exit_code=EXIT_FAILED)
    for use in answer["using"]:
        complain(printable(f"{use['path']}: in use: {use['what']} {use['who']}".rstrip()))
    return EXIT_FAILED if answer["using"] else EXIT_OK
