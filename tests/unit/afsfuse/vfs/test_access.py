"""Rights and mode bits."""

import errno
import os
from dataclasses import replace

import pytest

from afsfuse.errors import AfsError
from afsfuse.interfaces.common import Fid
from afsfuse.model import FileKind, Rights
from afsfuse.vfs.access import may, owner_may, refuse_writing
from tests.unit.afsfuse.vfs.worldfiles import FakeFile

R, W, X, F = os.R_OK, os.W_OK, os.X_OK, os.F_OK
READ, WRITE = Rights.READ | Rights.LOOKUP, Rights.WRITE | Rights.LOOKUP
FILE = FakeFile(Fid(1, 2, 3), FileKind.FILE, mode=0o755)


@pytest.mark.parametrize(
    ("kind", "mode", "rights", "mask", "allowed"),
    [
        (FileKind.FILE, 0o644, Rights.READ | Rights.LOOKUP, R, True),
        (FileKind.FILE, 0o644, Rights.READ | Rights.LOOKUP, X, False),
        (FileKind.FILE, 0o755, Rights.READ | Rights.LOOKUP, R | X, True),
        (FileKind.FILE, 0o055, Rights.READ | Rights.LOOKUP, R, False),  # the owner's bits count
        (FileKind.FILE, 0o055, Rights.READ | Rights.LOOKUP, X, False),
        (FileKind.FILE, 0o700, Rights.READ | Rights.LOOKUP, R | X, True),  # ... for everybody
        (FileKind.FILE, 0o755, Rights.LOOKUP, R, False),
        (FileKind.FILE, 0o755, Rights.LOOKUP, X, False),
        (FileKind.FILE, 0o755, Rights.LOOKUP, F, True),
        (FileKind.FILE, 0o755, Rights.READ, R, False),
        (FileKind.FILE, 0o000, Rights.NONE, F, True),
        (FileKind.DIRECTORY, 0o000, Rights.LOOKUP, R | X, True),  # its mode bits mean nothing
        (FileKind.DIRECTORY, 0o777, Rights.READ, R, False),
        (FileKind.DIRECTORY, 0o777, Rights.READ, X, False),
        (FileKind.SYMLINK, 0o755, Rights.LOOKUP, R, True),
        (FileKind.SYMLINK, 0o755, Rights.NONE, R, False),
        (FileKind.FILE, 0o644, WRITE, W, True),
        (FileKind.FILE, 0o644, WRITE, R | W, False),
        (FileKind.FILE, 0o644, WRITE | READ, R | W, True),
        (FileKind.FILE, 0o477, WRITE, W, False),  # the owner's bits count
        (FileKind.FILE, 0o200, WRITE, W, True),
        (FileKind.FILE, 0o644, READ, W, False),
        (FileKind.FILE, 0o644, Rights.WRITE, W, False),  # nobody gets there without lookup
        (FileKind.FILE, 0o644, READ | Rights.INSERT | Rights.DELETE, W, False),
        (FileKind.FILE, 0o744, WRITE | READ, R | W | X, True),
        (FileKind.DIRECTORY, 0o000, READ | Rights.INSERT, W, True),
        (FileKind.DIRECTORY, 0o000, READ | Rights.DELETE, W | X, True),
        (FileKind.DIRECTORY, 0o777, READ | Rights.WRITE | Rights.LOCK, W, False),
        (FileKind.DIRECTORY, 0o777, Rights.INSERT | Rights.DELETE, W, False),
        (FileKind.SYMLINK, 0o755, WRITE, W, True),
        (FileKind.SYMLINK, 0o755, READ, W, False),
    ],
)
def test_what_is_allowed(
    kind: FileKind, mode: int, rights: Rights, mask: int, allowed: bool
) -> None:
    status = replace(FILE, kind=kind, mode=mode, rights=rights).status()
    assert may(status, mask, int(rights)) is allowed


@pytest.mark.parametrize(
    ("kind", "mode", "rights", "mask", "allowed"),
    [
        (FileKind.FILE, 0o644, Rights.LOOKUP | Rights.INSERT, W, True),
        (FileKind.FILE, 0o444, Rights.LOOKUP | Rights.INSERT, W, False),
        (FileKind.FILE, 0o644, Rights.LOOKUP | Rights.INSERT, R | W, False),
        (FileKind.FILE, 0o644, READ | Rights.INSERT, R | W, True),
        (FileKind.FILE, 0o644, READ | Rights.INSERT, W | X, False),
        (FileKind.FILE, 0o644, Rights.INSERT, W, False),
        (FileKind.FILE, 0o644, READ, W, False),
        (FileKind.FILE, 0o644, READ | Rights.INSERT, R, False),  # no question of writing
        (FileKind.DIRECTORY, 0o755, READ | Rights.INSERT, W, False),
        (FileKind.SYMLINK, 0o755, READ | Rights.INSERT, W, False),
    ],
)
def test_what_owners_may_where_they_insert(
    kind: FileKind, mode: int, rights: Rights, mask: int, allowed: bool
) -> None:
    status = replace(FILE, kind=kind, mode=mode, rights=rights).status()
    assert owner_may(status, mask, int(rights)) is allowed


def test_writing_ends_with_erofs() -> None:
    refuse_writing(R | X)
    with pytest.raises(AfsError) as caught:
        refuse_writing(os.W_OK | R)
    assert caught.value.errno == errno.EROFS
