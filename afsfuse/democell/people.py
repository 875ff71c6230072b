"""Who is who: users and groups, and who makes a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.interfaces.protection import ADMINISTRATORS, ANONYMOUS, ANYUSER, AUTHUSER

if TYPE_CHECKING:
    from rxrpc import ServerCall


@dataclass(frozen=True)
class Identity:
    """Who calls: his number, and all that he is by way of groups."""

    id: int
    groups: frozenset[int]

    @property
    def administrator(self) -> bool:
        """Whether access lists and the like are no hindrance."""
        return ADMINISTRATORS in self.groups


ANYBODY = Identity(ANONYMOUS, frozenset({ANYUSER, ANONYMOUS}))
"""Who does not say who he is."""


def identity_of(call: ServerCall, people: People) -> Identity:
    """Who makes a call. The one place where that is decided.

    A security class that knows who is at the other end of a connection has a name for him; the
    null class says nothing of the caller.
    """
    name = getattr(call.security, "user", None)
    number = None if name is None else people.id_of(name)
    return ANYBODY if number is None else Identity(number, frozenset(people.groups_of(number)))


class People:
    """The users and groups of a cell."""

    def __init__(self) -> None:
        self._names: dict[int, bytes] = {
            ANYUSER: b"system:anyuser",
            AUTHUSER: b"system:authuser",
            ADMINISTRATORS: b"system:administrators",
            ANONYMOUS: b"anonymous",
        }
        self._ids = {name: number for number, name in self._names.items()}
        self._members: dict[int, set[int]] = {ADMINISTRATORS: set()}

    def add_user(self, name: str, number: int) -> None:
        """A user, who can be named in access lists."""
        self._names[number] = name.encode()
        self._ids[name.encode()] = number

    def add_member(self, group: int, user: int) -> None:
        """Make a user a member of a group."""
        self._members.setdefault(group, set()).add(user)

    def numbers(self) -> list[int]:
        """All users and groups."""
        return sorted(self._names)

    def knows(self, number: int) -> bool:
        """Whether somebody has this number."""
        return number in self._names

    def name_of(self, number: int) -> bytes:
        """The name, or the number in decimal of one whom nobody knows."""
        return self._names.get(number, b"%d" % number)

    def id_of(self, name: bytes) -> int | None:
        """The number; None for a name that nobody has, and for `anonymous`."""
        known = self._ids.get(name.lower())
        return known if known != ANONYMOUS else None

    def members(self, group: int) -> list[int]:
        """Who belongs to a group."""
        return sorted(self._members.get(group, ()))

    def groups_of(self, user: int) -> list[int]:
        """All that a user is: himself, his groups, and what everybody is."""
        groups = {user, ANYUSER}
        if user not in (ANONYMOUS, ANYUSER) and self.knows(user):
            groups.add(AUTHUSER)
        groups |= {group for group, members in self._members.items() if user in members}
        return sorted(groups)
