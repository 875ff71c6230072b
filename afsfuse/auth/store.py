"""The tokens of all identities, and the PAGs that live: in memory, and in files beside.

The files make tokens outlive a daemon, and are how the daemons of one owner share them: a daemon
that is told of a change (`reread`, by `afsfuse.auth.following`) takes it over. What is in the
memory of one is at most as old as the last event.

Nothing here waits, so each method is one step to other tasks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.auth.files import Folder
from afsfuse.auth.folders import KEEPS, PAGS, TOKENS, prepare
from afsfuse.auth.identity import Identities, Identity
from afsfuse.auth.processes import Process, alive
from afsfuse.auth.token import Token
from afsfuse.errors import ControlRefused, TokenMalformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from afsfuse.auth.renewal import Renewal

    Listener = Callable[[Identity, str], None]

log = logging.getLogger(__name__)

CELLS_MAX = 64
"""Cells that one identity may have tokens for."""
TOKENS_MAX = 256
"""Tokens that one user may have, with those of the PAGs that he began: they take memory, 90 kB each
at the most with what they are renewed with, in the daemon and in `/run`.
"""
PAGS_MAX = 64
"""PAGs that one user may have begun, of those that live."""
LINGER = 7200
"""Seconds for which a token is still shown after its end. Source: NOTOKTIMEOUT in afs.h"""
_CELL = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,199}")


class Pag(NamedTuple):
    """A PAG that lives as long as its root does."""

    id: str
    root: Process
    uid: int
    """Who began it."""


class TokenStore:
    """All tokens that one owner's daemons hold. `load` it before use."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._tokens: dict[tuple[Identity, str], Token] = {}
        self._renewals: dict[tuple[Identity, str], Renewal] = {}
        self._pags: dict[str, Pag] = {}
        self._roots: dict[Process, str] = {}
        self._listeners: list[Listener] = []
        self._files: dict[str, Folder] = {}
        self.identities = Identities(self._roots)
        self.on_pag: Callable[[Pag], None] | None = None
        """Is called with each PAG that begins."""
        self.on_keep: Callable[[], None] | None = None
        """Is called when there is another token to renew."""

    def load(self) -> None:
        """Make the folder if need be, and read what is there.

        Raises `UsageError` when the folder cannot be used, OSError when it cannot be read.
        """
        prepare(self.folder)
        self._files = {kind: Folder(self.folder / kind) for kind in (PAGS, TOKENS, KEEPS)}
        for files in self._files.values():
            files.clear()
        self.rescan()

    def close(self) -> None:
        """Let go of the folders, and of all keys in memory."""
        for files in self._files.values():
            files.close()
        self._files = {}
        for token in self._tokens.values():
            token.key.wipe()
        self._tokens.clear()
        self._renewals.clear()

    def subscribe(self, listener: Listener) -> None:
        """Have a function called with identity and cell after each change of a token."""
        self._listeners.append(listener)

    # Tokens

    def get(self, identity: Identity, cell: str) -> Token | None:
        """The token of an identity for a cell; it may have `expired`. None if there is none."""
        return self._tokens.get((identity, cell))

    def of(self, identity: Identity) -> list[Token]:
        """All tokens of an identity, by cell."""
        found = [token for (owner, _), token in self._tokens.items() if owner == identity]
        return sorted(found, key=lambda token: token.cell)

    def all(self) -> list[tuple[Identity, Token]]:
        """All tokens with their identities."""
        pairs = [(owner, token) for (owner, _), token in self._tokens.items()]
        return sorted(pairs, key=lambda pair: (pair[0].text, pair[1].cell))

    def set(self, identity: Identity, token: Token) -> None:
        """Give an identity a token, in place of the one that it had for the cell.

        Of the same principal's the number stays known. Raises `ControlRefused` when it cannot be
        kept.
        """
        if Identity.parse(identity.text) is None:
            raise ControlRefused("it is not clear who is asking, so no token can be kept")
        if not _CELL.fullmatch(token.cell):
            raise ControlRefused(f"{token.cell:.80}: no token can be kept for a cell of this name")
        known = self._tokens.get((identity, token.cell))
        if known is None and len(self.of(identity)) >= CELLS_MAX:
            raise ControlRefused(f"there are tokens for {CELLS_MAX} cells already: drop some first")
        if known is None and self._count_of_user(identity) >= TOKENS_MAX:
            raise ControlRefused(f"there are {TOKENS_MAX} tokens of this user: drop some first")
        if known is not None and token.viceid is None and known.client == token.client:
            token = replace(token, viceid=known.viceid)
        self._write(identity, token)
        self._put(identity, token.cell, token)

    def number(self, identity: Identity, token: Token, viceid: int) -> None:
        """Add its owner's number to a token, if it is still there. The token is the same one to
        all who use it, so nobody is told. Raises `ControlRefused` when it cannot be kept.
        """
        if self.get(identity, token.cell) == token:
            token = replace(token, viceid=viceid)
            self._write(identity, token)
            self._put(identity, token.cell, token)

    def _count_of_user(self, identity: Identity) -> int:
        """How many tokens there are of the user whose identity this is."""
        uid = self._user_of(identity)
        return sum(self._user_of(owner) == uid for owner, _ in self._tokens)

    def _user_of(self, identity: Identity) -> int | None:
        """Whoever began a PAG; None when that has ended."""
        pag = self._pags.get(identity.pag or "")
        return identity.uid if pag is None else pag.uid

    def _write(self, identity: Identity, token: Token) -> None:
        data = bytearray(token.encode().encode())
        try:
            self._files[TOKENS].write(_name(identity, token.cell), data)
        except OSError as exc:
            raise ControlRefused(f"the token cannot be kept: {exc.strerror or exc}") from None
        finally:
            data[:] = bytes(len(data))

    def drop(self, identity: Identity, cells: Iterable[str] | None = None) -> list[str]:
        """Wipe tokens of an identity: those for some cells, or all. -> cells that it had one for

        Raises `ControlRefused` when a file stays; the tokens are not used any more all the same.
        """
        gone, left = self._drop(identity, cells)
        if left is not None:
            raise ControlRefused(f"the token cannot be removed: {left.strerror}")
        return gone

    def _drop(
        self, identity: Identity, cells: Iterable[str] | None = None
    ) -> tuple[list[str], OSError | None]:
        """The same; what has gone, and why some file has not."""
        left: OSError | None = None
        mine = {cell for owner, cell in (*self._tokens, *self._renewals) if owner == identity}
        gone = sorted(mine if cells is None else mine & set(cells))
        for cell in gone:
            self._put(identity, cell, None)
            self._renewals.pop((identity, cell), None)
            for kind in (KEEPS, TOKENS):
                left = self._remove(kind, _name(identity, cell)) or left
        return gone, left

    def _remove(self, kind: str, name: str) -> OSError | None:
        """Wipe a file and remove it; why that cannot be."""
        try:
            self._files[kind].remove(name)
        except OSError as exc:
            log.warning("%s/%s cannot be removed: %s", kind, name, exc.strerror)
            return exc
        return None

    def _put(self, identity: Identity, cell: str, token: Token | None) -> None:
        """Change what is in memory, and tell of it. Keys are wiped by whoever holds them last."""
        before = self._tokens.pop((identity, cell), None)
        if token is not None:
            self._tokens[identity, cell] = token
        if token != before:
            for listener in self._listeners:
                listener(identity, cell)

    # What tokens are renewed with

    def renewals(self) -> list[tuple[Identity, Renewal]]:
        """All tokens that are to be kept, and how."""
        return [(identity, renewal) for (identity, _), renewal in self._renewals.items()]

    def keep(self, identity: Identity, renewal: Renewal) -> None:
        """Have a token renewed. Raises `ControlRefused` when there is none."""
        cell = renewal.wanted.cell
        if (identity, cell) not in self._tokens:
            raise ControlRefused(f"{cell:.80}: there is no token to keep")
        data = bytearray(renewal.encode().encode())
        try:
            self._files[KEEPS].write(_name(identity, cell), data)
        except OSError as exc:
            raise ControlRefused(f"the token cannot be kept: {exc.strerror or exc}") from None
        finally:
            data[:] = bytes(len(data))
        self._keep((identity, cell), renewal)

    def _keep(self, key: tuple[Identity, str], renewal: Renewal) -> None:
        self._renewals[key] = renewal
        if self.on_keep is not None:
            self.on_keep()

    def unkeep(self, identity: Identity, cell: str) -> None:
        """Have a token end when it ends."""
        if self._renewals.pop((identity, cell), None) is not None:
            self._remove(KEEPS, _name(identity, cell))

    # PAGs

    @property
    def pags(self) -> Mapping[str, Pag]:
        """Those that live, by their number."""
        return self._pags

    def begin_pag(self, root: Process, uid: int) -> str:
        """Make a process the root of a new PAG. -> its number, which is random and not in use

        Raises `ControlRefused`.
        """
        if root in self._roots:
            raise ControlRefused("this process is the root of a PAG already")
        if sum(pag.uid == uid for pag in self._pags.values()) >= PAGS_MAX:
            raise ControlRefused(f"there are {PAGS_MAX} PAGs of this user already: end some first")
        while (number := secrets.token_hex(8)) in self._pags or self.of(Identity(pag=number)):
            pass  # once in an age of the universe
        text = json.dumps({"pid": root.pid, "start": root.start, "uid": uid})
        try:
            self._files[PAGS].write(f"pag-{number}", text.encode())
        except OSError as exc:
            raise ControlRefused(f"the PAG cannot be kept: {exc.strerror or exc}") from None
        self._enter(Pag(number, root, uid))
        return number

    def end_pag(self, number: str) -> None:
        """Its root has ended: its tokens are nobody's any more."""
        self._remove(PAGS, f"pag-{number}")
        self._forget_pag(number)

    def _enter(self, pag: Pag) -> None:
        self._pags[pag.id] = pag
        self._roots[pag.root] = pag.id
        self.identities.changed()
        if self.on_pag is not None:
            self.on_pag(pag)

    def _forget_pag(self, number: str) -> None:
        pag = self._pags.pop(number, None)
        if pag is not None:
            self._roots.pop(pag.root, None)
            self.identities.changed()
        self._drop(Identity(pag=number))

    # What others change

    def reread(self, kind: str, name: str) -> None:
        """A file of `tokens` or `pags` was written or removed, perhaps by another daemon."""
        identity = Identity.parse(name.partition(".")[0])
        if identity is None:
            return
        read = {PAGS: self._reread_pag, KEEPS: self._reread_renewal, TOKENS: self._reread_token}
        try:
            read[kind](name, identity)
        except OSError as exc:
            log.warning("%s/%s cannot be read, and counts as before: %s", kind, name, exc.strerror)

    def _reread_pag(self, name: str, identity: Identity) -> None:
        if identity.pag is None:
            return
        data = self._files[PAGS].read(name)
        try:
            values = json.loads(data or b"null")
            pag = Pag(identity.pag, Process(values["pid"], values["start"]), values["uid"])
        except (ValueError, KeyError, TypeError):  # it is gone, or just being wiped
            self._forget_pag(identity.pag)
            return
        if identity.pag not in self._pags:
            self._enter(pag)

    def _reread_renewal(self, name: str, identity: Identity) -> None:
        from afsfuse.auth.renewal import Renewal  # with Kerberos, which few need

        key = (identity, name.partition(".")[2])
        data = self._files[KEEPS].read(name)
        self._renewals.pop(key, None)
        if data is not None:
            with contextlib.suppress(TokenMalformed):  # it is just being wiped
                self._keep(key, Renewal.decode(bytes(data)))
            data[:] = bytes(len(data))

    def _reread_token(self, name: str, identity: Identity) -> None:
        cell = name.partition(".")[2]
        data = self._files[TOKENS].read(name)
        token: Token | None = None
        if data is not None:
            try:
                token = Token.decode(bytes(data))
            except TokenMalformed as exc:
                if any(data):  # else it is just being wiped
                    log.warning("the token for %s of %s is not used: %s", cell, identity, exc)
            data[:] = bytes(len(data))
        if token is not None and token.cell != cell:
            log.warning("the token for %s of %s is for another cell: not used", cell, identity)
            token = None
        self._put(identity, cell, token)

    def rescan(self) -> None:
        """Take over whatever has changed in the folders."""
        known = {
            PAGS: {f"pag-{number}" for number in self._pags},
            TOKENS: {_name(*key) for key in self._tokens},
            KEEPS: {_name(*key) for key in self._renewals},
        }
        for kind, files in self._files.items():
            try:
                there = files.names()
            except OSError as exc:
                log.warning("%s cannot be read, and counts as before: %s", kind, exc.strerror)
                continue
            for name in known[kind].union(there):
                self.reread(kind, name)
        self.sweep()

    def sweep(self) -> None:
        """Remove what is over: PAGs whose root has ended, tokens without a PAG, old tokens."""
        for pag in list(self._pags.values()):
            if not alive(pag.root):
                self.end_pag(pag.id)
        now = self._clock()
        for identity, token in self.all():
            if identity.pag is not None and identity.pag not in self._pags:
                self.reread(PAGS, identity.text)  # without a PAG its tokens go
            if token.expired(now - LINGER) and (identity, token.cell) not in self._renewals:
                self._drop(identity, [token.cell])


def _name(identity: Identity, cell: str) -> str:
    return f"{identity.text}.{cell}"
