"""Names of users and groups, as the protection servers of a cell know them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from afsfuse.cell.location import NotOffered
from afsfuse.errors import AfsError
from afsfuse.interfaces import protection as pr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.auth.identity import Identity
    from afsfuse.cell.directory import Cell
    from afsfuse.cell.usernumbers import ProtectionService

log = logging.getLogger(__name__)

_NUMBER = re.compile(rb"-?[0-9]{1,10}")
_ANONYMOUS = b"anonymous"


class People:
    """Asks protection servers who is who."""

    def __init__(self, service: ProtectionService) -> None:
        self._service = service

    async def unknown(self, cell: Cell, names: Iterable[bytes], who: Identity) -> set[bytes]:
        """Those names that nobody has; none when the servers do not say.

        A file server has the last word: it asks for the names of a list that is stored itself.
        """
        asked = [name for name in names if 0 < len(name) < pr.NAME_MAX]
        unknown = {name for name in names if name not in asked}
        if not asked:
            return unknown
        try:  # the databases know names in small letters. Source: stolower in ptuser.c
            args = pr.NamesMessage(tuple(name.lower() for name in asked))
            numbers = (await self._service.call(cell, pr.NAME_TO_ID, args, who=who)).ids
        except (AfsError, NotOffered) as exc:
            log.info("names in %s cannot be looked up: %s", cell, exc)
            return unknown
        for name, number in zip(asked, numbers, strict=False):
            if number == pr.ANONYMOUS and name.lower() != _ANONYMOUS:
                unknown.add(name)
        return unknown

    async def name_of(self, cell: Cell, number: bytes, who: Identity) -> bytes | None:
        """The name of whoever has a number, given as text; None if nobody has, or nobody says."""
        if not _NUMBER.fullmatch(number) or not -(2**31) <= int(number) < 2**31:
            return None
        try:
            args = pr.IdsMessage((int(number),))
            reply = await self._service.call(cell, pr.ID_TO_NAME, args, who=who)
        except (AfsError, NotOffered) as exc:
            log.info("a number in %s cannot be looked up: %s", cell, exc)
            return None
        name = reply.names[0] if reply.names else number
        return None if _NUMBER.fullmatch(name) else name


def is_number(name: bytes) -> bool:
    """Whether an entry of an access list is one whose name nobody has any more.

    File servers write the number in place of a name that they do not find.
    """
    return _NUMBER.fullmatch(name) is not None
