"""Access lists: shown, and changed in the name of whoever asks.

A list is read, changed and stored here, so that no more than the call itself lies between another
one's change and ours: AFS has no way to change a single entry.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

from afsfuse.acl import AccessList, letters
from afsfuse.cache.keylocks import KeyLocks
from afsfuse.cell.people import is_number
from afsfuse.control.protocol import raw
from afsfuse.errors import AfsError, ControlRefused
from afsfuse.vfs.xattrs import set_acl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afsfuse.cell.people import People
    from afsfuse.control.paths import Paths
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.interfaces.common import Fid
    from afsfuse.vfs.behind import Behind

log = logging.getLogger(__name__)

_ENTRIES_MAX = 20  # ACL_MAXENTRIES: servers refuse more


class AclVerbs:
    """Answers for one mount."""

    def __init__(self, paths: Paths, client: FileServerClient, people: People) -> None:
        self._paths = paths
        self._client = client
        self._cache = paths.mounted.cache
        self._people = people
        self._locks: KeyLocks[Fid] = KeyLocks()  # of directories whose lists are being changed
        self.verbs: dict[str, Verb] = {
            "acl": self._acl,
            "set-acl": self._set,
            "clean-acl": self._clean,
            "rights": self._rights,
        }

    async def _acl(self, request: Request, peer: Peer) -> dict[str, Any]:
        found = await self._paths.find(request, peer)
        return shown(await self._fetch(found))

    async def _rights(self, request: Request, peer: Peer) -> dict[str, Any]:
        found = await self._paths.find(request, peer)
        rights = letters(await self._cache.doors.rights(found.vnode, found.who))
        return {"rights": "" if rights == "none" else rights}

    async def _set(self, request: Request, peer: Peer) -> dict[str, Any]:
        """`entries` are pairs of a name and rights, which are `negative` or not; with `copy` they
        are a whole list as this told it. With `clear` nothing else stays.
        """
        found = await self._directory(request, peer)
        async with self._locks.holding(found.fid):
            return await self._change(found, request)

    async def _change(self, found: Behind, request: Request) -> dict[str, Any]:
        before = AccessList() if request.get("clear") is True else await self._fetch(found)
        gone = await self._gone(found, before)
        wanted = before.without(gone)
        if "copy" in request:
            copied = _read_list(request["copy"])
            wanted = copied.without(await self._gone(found, copied)).over(wanted)
        else:
            negative = request.get("negative") is True
            for name, rights in await self._resolved(found, _read_entries(request.get("entries"))):
                wanted = wanted.with_entry(name, rights, negative=negative)
        return await self._store(found, wanted, gone)

    async def _clean(self, request: Request, peer: Peer) -> dict[str, Any]:
        found = await self._directory(request, peer)
        async with self._locks.holding(found.fid):
            before = await self._fetch(found)
            gone = await self._gone(found, before)
            if not gone:
                return {**shown(before), "dropped": []}
            return await self._store(found, before.without(gone), gone)

    async def _fetch(self, found: Behind) -> AccessList:
        text = await self._client.fetch_acl(found.mount.volume, found.fid, found.who)
        return AccessList.from_server(text)

    async def _directory(self, request: Request, peer: Peer) -> Behind:
        found = await self._paths.find(request, peer)
        if not found.fid.vnode & 1:
            raise AfsError(
                "not a directory: for files the list of theirs counts", errno=errno.ENOTDIR
            )
        return found

    async def _gone(self, found: Behind, acl: AccessList) -> set[bytes]:
        """The names in a list whose users and groups are gone; a server would not take them."""
        numbers = [name for name in acl.names if is_number(name)]
        return await self._people.unknown(found.mount.volume.cell, numbers, found.who)

    async def _resolved(
        self, found: Behind, entries: list[tuple[bytes, str]]
    ) -> list[tuple[bytes, str]]:
        """Entries with names that the cell knows; numbers may stand for them.

        Raises `AfsError` with EINVAL that names those whom nobody knows. Who is to have no rights
        need not be known.
        """
        cell, who = found.mount.volume.cell, found.who
        wanted = [name for name, rights in entries if rights not in ("none", "")]
        unknown = await self._people.unknown(cell, wanted, who)
        names: dict[bytes, bytes] = {}
        for name in list(unknown):
            known = await self._people.name_of(cell, name, who)
            if known is not None:
                names[name] = known
                unknown.discard(name)
        if unknown:
            shown = ", ".join(sorted(_text(name) for name in unknown))
            raise AfsError(
                f"the cell {cell} has no user or group {shown}: nothing was changed",
                errno=errno.EINVAL,
            )
        return [(names.get(name, name), rights) for name, rights in entries]

    async def _store(
        self, found: Behind, wanted: AccessList, gone: Iterable[bytes]
    ) -> dict[str, Any]:
        entries = len(wanted.positive) + len(wanted.negative)
        if entries > _ENTRIES_MAX:
            raise AfsError(
                f"an access list has {_ENTRIES_MAX} entries at most, and this would be {entries}",
                errno=errno.E2BIG,
            )
        await set_acl(
            self._client, self._cache, found.mount.volume, found.fid, wanted.text(), found.who
        )
        log.info("%s: the access list is now: %s", found.node.path(), wanted)
        return {**shown(wanted), "dropped": sorted(_text(name) for name in gone)}


def shown(acl: AccessList) -> dict[str, Any]:
    """A list as commands are told it: names with their rights as letters."""
    return {
        kind: [[_text(name), letters(rights)] for name, rights in entries]
        for kind, entries in (("positive", acl.positive), ("negative", acl.negative))
    }


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _read_list(told: object) -> AccessList:
    """What `shown` made. Raises `ControlRefused`, or `AfsError` for rights that are none."""
    if not isinstance(told, dict):
        raise ControlRefused("an access list is expected")
    acl = AccessList()
    for kind in ("positive", "negative"):
        for name, rights in _read_entries(told.get(kind)):
            acl = acl.with_entry(name, rights, negative=kind == "negative")
    return acl


def _read_entries(told: object) -> list[tuple[bytes, str]]:
    if not isinstance(told, list):
        raise ControlRefused("a list of names and rights is expected")
    entries = []
    for entry in told:
        match entry:
            case [str(name), str(rights)]:
                entries.append((raw(name), rights))
            case _:
                raise ControlRefused("a name and its rights are expected")
    return entries
