"""Four users of one mount: what one has seen is not another one's, whatever the kernel has cached.

Alice may read in a directory, Bob may only look into it, and two have no token; one of these is
root, who is nobody special. The kernel's caches are real, and so are the users.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import wait_until
from tests.mount.usersmount import ALICE, BOB, CLOSED, NAMES, OTHER, SUPERUSER, USERS
from tests.mount.userworker import LOOKING, READING

if TYPE_CHECKING:
    from tests.mount.usersmount import UsersMount

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users"),
]


def allowed(uid: int, operation: str) -> bool:
    return uid == ALICE or (uid == BOB and operation in LOOKING)


def test_each_user_sees_what_its_own_rights_allow(mounts: dict[str, UsersMount]) -> None:
    """Every operation, in every order of who touches first, and all of it twice."""
    mount = mounts["strict"]
    wrong = []
    for operation in LOOKING + READING:
        for number, order in enumerate(itertools.permutations(USERS)):
            name = f"{operation}-{number}"
            mount.make(name, CLOSED)
            for uid in (*order, *order):
                said = mount.does(uid, operation, name)
                if said != ("ok" if allowed(uid, operation) else "EACCES"):
                    wrong.append((operation, [NAMES[one] for one in order], NAMES[uid], said))
    assert not wrong


def test_all_that_one_user_brought_into_the_caches_is_not_the_others(
    mounts: dict[str, UsersMount],
) -> None:
    mount = mounts["strict"]
    for operation in LOOKING + READING:
        mount.make(operation, CLOSED)
        for done in LOOKING + READING:
            assert mount.does(ALICE, done, operation) == "ok"
        for uid in USERS:
            said = "ok" if allowed(uid, operation) else "EACCES"
            assert mount.does(uid, operation, operation) == said, (operation, NAMES[uid])


@pytest.mark.parametrize("leaking", ["traverse", "lstat", "stat", "absent"])
def test_without_the_rule_of_timeouts_it_would_leak(
    mounts: dict[str, UsersMount], leaking: str
) -> None:
    """The test above can fail: here the kernel keeps what Alice looked up, for everybody."""
    mount = mounts["leaky"]
    mount.make("closed", CLOSED)
    assert mount.does(OTHER, leaking, "closed") == "EACCES"
    assert mount.does(ALICE, leaking, "closed") == "ok"
    assert mount.does(OTHER, leaking, "closed") == "ok"


@pytest.mark.parametrize("operation", LOOKING + READING)
def test_a_list_that_changes_in_between(mounts: dict[str, UsersMount], operation: str) -> None:
    mount = mounts["strict"]
    mount.make("changing", {"anybody": "rl"})
    for uid in USERS:
        assert mount.does(uid, operation, "changing") == "ok"
    mount.change("changing", CLOSED)
    for uid in (OTHER, SUPERUSER, BOB, ALICE):
        said = "ok" if allowed(uid, operation) else "EACCES"
        wait_until(
            lambda uid=uid, said=said: mount.does(uid, operation, "changing") == said,  # type: ignore[misc]
            f"{NAMES[uid]} hears {said}",
        )
    mount.change("changing", {"bob": "rl"})
    for uid in USERS:
        said = "ok" if uid == BOB else "EACCES"
        assert mount.does(uid, operation, "changing") == said
    mount.change("changing", {"anybody": "rl"})
    for uid in USERS:
        assert mount.does(uid, operation, "changing") == "ok"


def test_what_was_mapped_stays_and_opens_nothing(mounts: dict[str, UsersMount]) -> None:
    mount = mounts["strict"]
    mount.make("mapped", CLOSED)
    assert mount.does(ALICE, "hold", "mapped") == "ok"
    mount.change("mapped", {"bob": "l"})
    assert mount.does(ALICE, "held_still", "mapped") == "ok"
    for uid in USERS:
        assert mount.does(uid, "read", "mapped") == "EACCES", "the pages are the mapping's only"
