"""Who is who: users and groups, and who makes a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afsfuse.interfaces.protection import ADMINISTRATORS, ANONYMOUS, ANYUSER, AUTHUSER
from rxrpc.security.rxkad import RxkadServerConnection

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

    Who comes with a ticket of this cell's realm is the user of that name. Everybody else is
    nobody: callers without a ticket, those of another realm, and those whom nobody has entered.
    Source: h_FindClient_r in src/viced/host.c of OpenAFS.
    """
    security = call.security
    if not isinstance(security, RxkadServerConnection) or security.principal is None:
        return ANYBODY
    who = security.principal
    if who.realm.lower() not in ("", people.cell):  # none: Kerberos 4 leaves out its own
        return ANYBODY
    name = f"{who.name}.{who.instance}" if who.instance else who.name
    number = people.id_of(name.encode())
    if number is None or number < 0:  # groups do not call
        return ANYBODY
    return Identity(number, frozenset(people.groups_of(number)))


class People:
    """The users and groups of a cell."""

    def __init__(self, cell: str) -> None:
        self.cell = cell.lower()
        self._names: dict[int, bytes] = {
            ANYUSER: b"system:anyuser",
            AUTHUSER: b"system:authuser",
            ADMINISTRATORS: b"system:administrators",
            ANONYMOUS: b"anonymous",
        }
        self._ids = {name: number for number, name in self._names.items()}
        self._members: dict[int, set[int]] = {ADMINISTRATORS: set()}

    def add_user(self, name: str, number: int) -> None:
        """A user, who can be named in access lists; or a group, whose number is negative."""
        self._names[number] = name.lower().encode()
        self._ids[name.lower().encode()] = number

    def remove(self, name: bytes) -> None:
        """A user or group is gone; access lists go on to name the number."""
        number = self._ids.pop(name.lower())
        del self._names[number]
        self._members.pop(number, None)
        for members in self._members.values():
            members.discard(number)

    def next_user(self) -> int:
        """A number that no user has."""
        return max(0, *(number for number in self._names if number != ANONYMOUS)) + 1

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

    def facts(self) -> dict[str, Any]:
        """All of it, as text that can be kept."""
        return {
            "names": [[number, name.decode("latin-1")] for number, name in self._names.items()],
            "members": [[group, sorted(users)] for group, users in self._members.items()],
        }

    def restore(self, facts: dict[str, Any]) -> None:
        """The inverse of `facts`."""
        self._names = {int(number): name.encode("latin-1") for number, name in facts["names"]}
        self._ids = {name: number for number, name in self._names.items()}
        self._members = {int(group): set(users) for group, users in facts["members"]}
