"""Several users in one mount for everybody, at OpenAFS's servers, with tokens of their own.

What the kernel's caches would give away is tried in every detail in `tests/mount/test_users.py`;
here real servers say who may do what.
"""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.identity import Identity
from afsfuse.auth.store import TokenStore
from tests.interop.desk import SECONDS, Desk
from tests.interop.mounts import RealMount, eventually
from tests.realcell.configuration import CELL
from tests.realcell.tokens import made_token, service_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

ALICE, BOB, OTHER, SUPERUSER = USERS = (1001, 1002, 65534, 0)
TOKENS = {ALICE: "alice", BOB: "bob"}
DENIED = "Permission denied"


def as_user(uid: int, *command: str | Path) -> str:
    """What a program prints for a user, or why it cannot."""
    done = subprocess.run(
        command, user=uid, group=uid, extra_groups=[], capture_output=True, text=True,
        check=False, cwd="/", timeout=SECONDS,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else done.stderr.strip().rpartition(": ")[2]


def look(uid: int, home: Path) -> list[str]:
    """A name by its path, a listing, attributes, and a file's contents."""
    return [
        as_user(uid, "stat", "-c", "%s", home / "note"),
        as_user(uid, "ls", home),
        as_user(uid, "ls", "-l", home / "secret.bin"),
        as_user(uid, "cat", home / "note"),
    ]


@pytest.fixture
def store(desk: Desk) -> Iterator[TokenStore]:
    """The tokens of the daemons, as another daemon of root's has them."""
    store = TokenStore(desk.runtime)
    store.load()
    yield store
    store.close()


@pytest.fixture
def mount(desk: Desk, store: TokenStore) -> Iterator[RealMount]:
    for folder in (desk.folder, *desk.folder.parents[:3]):  # pytest makes them for root alone
        folder.chmod(0o755)
    keys = service_keys(desk.cell)
    for uid, name in TOKENS.items():
        store.set(Identity(uid=uid), made_token(keys, name))
    with desk.mount(options="allow_other,debug") as mount:
        assert eventually(lambda: mount.log.read_text().count("has a token") == 2, SECONDS)
        yield mount


def test_everybody_sees_what_is_his_in_whatever_order(mount: RealMount) -> None:
    homes = {uid: mount.cell / f"home.{name}" for uid, name in TOKENS.items()}
    mine: dict[int, list[str]] = {}
    for order in itertools.permutations(USERS):
        for uid in order:
            for owner, home in homes.items():
                seen = look(uid, home)
                if uid == owner:
                    assert DENIED not in seen
                    assert seen == mine.setdefault(uid, seen)
                else:
                    assert seen == [DENIED] * len(seen), (uid, home)
            assert as_user(uid, "cat", mount.cell / "README") == "The root of the test cell.\n"
    assert mine[ALICE][3] == "alice's own\n"
    assert mine[BOB][3] == "bob's own\n"


def test_who_drops_his_token_sees_no_more_than_anybody(mount: RealMount, store: TokenStore) -> None:
    home = mount.cell / "home.alice"
    assert as_user(ALICE, "cat", home / "note") == "alice's own\n"
    store.drop(Identity(uid=ALICE), [CELL])
    assert eventually(lambda: as_user(ALICE, "cat", home / "note") == DENIED, SECONDS)
    assert look(ALICE, home) == [DENIED] * 4
    assert as_user(BOB, "cat", mount.cell / "home.bob/note") == "bob's own\n"
