"""Which security the calls to a cell get: with an identity's token, or none.

A token becomes one `RxkadClient`, for as long as it is the identity's token; calls of one identity
share its connections, and no two identities ever share any, even if their tokens are the same. When
a token changes, the next call has another client and so another connection; connections of the old
one take no more calls.

What a server's refusal of a token leads to is decided here, too, since volume location servers and
file servers are alike in it: see `TokenCredentials.instead`.
"""

from __future__ import annotations

import itertools
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from afsfuse.errors import abort_name
from rxrpc.errors import CallAborted, LocalError, ParseError
from rxrpc.security import deskeys
from rxrpc.security.base import SecurityLevel
from rxrpc.security.null import NULL
from rxrpc.security.rxkad import RxkadClient, RxkadCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.auth.store import TokenStore
    from afsfuse.auth.token import Token
    from rxrpc.security.base import ClientSecurity

T = TypeVar("T")

log = logging.getLogger(__name__)

LEVELS: Final = {level.name.lower(): level for level in SecurityLevel}
"""Names of the levels: clear, auth, crypt."""
UNKNOWN: Final = "a server"
_LOOK_SECONDS = 60.0  # the wall clock may be set: no sleep is longer
_NAP_SECONDS = 0.05
_SKEW_SECONDS = 300.0  # Source: clockskew in krb5.conf(5)


class Credentials:
    """Everybody is anonymous."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what goes on in the background."""
        task_status.started()

    def of(self, who: Identity, cell: str) -> ClientSecurity:
        """The security of an identity's calls to a cell."""
        return NULL

    def has_expired(self, who: Identity, cell: str) -> bool:
        """Whether an identity is anonymous only because its token has expired."""
        return False

    def instead(
        self,
        who: Identity,
        cell: str,
        tried: ClientSecurity,
        error: CallAborted,
        server: str = UNKNOWN,
    ) -> ClientSecurity | None:
        """What to try once in place of a security with which a call failed; None: nothing."""
        return None

    async def run_as(
        self,
        who: Identity,
        cell: str,
        attempt: Callable[[ClientSecurity], Awaitable[T]],
        *,
        public: bool = False,
        as_nobody: bool = True,
        server: str = UNKNOWN,
    ) -> T:
        """Make an attempt in an identity's name, and one more where that can mend a refused token.

        `public`: what is asked for is told to anybody, so a token that is no good does not matter.
        `as_nobody`: an expired token is tried without, as what anybody may see is to be seen still.
        `server`: which one is asked, for messages.
        """
        tried = self.of(who, cell)
        try:
            return await attempt(tried)
        except CallAborted as exc:
            instead = self.instead(who, cell, tried, exc, server)
            if instead is None and public and tried is not NULL and is_about_token(exc):
                instead = NULL
            if instead is None or (instead is NULL and not as_nobody):
                raise
        return await attempt(instead)


class TokenCredentials(Credentials):
    """Identities are known by the tokens of a store."""

    def __init__(
        self,
        store: TokenStore,
        level: SecurityLevel = SecurityLevel.CRYPT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._level = level
        self._clock = clock
        self._held: dict[tuple[Identity, str], _Held] = {}
        self._numbers = itertools.count(1)
        for identity, token in store.all():
            self._changed(identity, token.cell)
        store.subscribe(self._changed)

    @property
    def level(self) -> SecurityLevel:
        """How calls with a token are protected."""
        return self._level

    def set_level(self, level: SecurityLevel) -> None:
        """Protect calls in another way from now on: each token has other connections then."""
        self._level = level
        for identity, cell in list(self._held):
            self._changed(identity, cell)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell in the log of tokens that expire, when they do, until cancelled."""
        task_status.started()
        while True:
            living = [held for held in self._held.values() if not self._is_over(held)]
            left = min((held.token.end for held in living), default=inf) - self._clock()
            await trio.sleep(min(max(left, _NAP_SECONDS), _LOOK_SECONDS))

    def of(self, who: Identity, cell: str) -> ClientSecurity:
        """That of the identity's token, while there is one that servers take."""
        held = self._held.get((who, cell))
        if held is None or held.client is None or self._is_over(held):
            return NULL
        return held.client

    def has_expired(self, who: Identity, cell: str) -> bool:
        """Whether there is a token, but an old one."""
        held = self._held.get((who, cell))
        return held is not None and self._is_over(held)

    def instead(
        self,
        who: Identity,
        cell: str,
        tried: ClientSecurity,
        error: CallAborted,
        server: str = UNKNOWN,
    ) -> ClientSecurity | None:
        """What to try once in place of `tried`, if it was for the token that a call failed.

        A token that has changed meanwhile: the new one. One that has expired, by the server's
        clock if not by ours: no token, as everybody may read what anybody may. But our clocks agree
        within what Kerberos bears, or a forged abort could have us do without protection at any
        time. A level that is too low: the highest. All else is final, as it is the same at the next
        attempt.
        """
        if tried is NULL or not is_about_token(error):
            return None
        code = error.code
        now = self.of(who, cell)
        if now != tried:
            return now
        held = self._held.get((who, cell))
        assert held is not None
        if code == RxkadCode.EXPIRED and held.token.expired(self._clock() + _SKEW_SECONDS):
            held.over = True
            self._tell_of_end(held)
            return NULL
        if code == RxkadCode.LEVEL_FAIL and tried.level < SecurityLevel.CRYPT:
            log.warning(
                "%s of %s demands level crypt, not %s: the token of %s is used with that from now"
                " on; mount with -o crypt=crypt, or without this option",
                *(server, cell, tried.level.name.lower(), held.whose),
            )
            held.client = self._make(held, SecurityLevel.CRYPT)
            return held.client
        if not held.refused:
            held.refused = True
            log.warning(
                "%s of %s refuses the token of %s: %s; get a new one with `afsfuse aklog`, or"
                " drop it with `afsfuse unlog`",
                *(server, cell, held.whose, abort_name(code)),
            )
        return None

    def _is_over(self, held: _Held) -> bool:
        """By a server's word, or by our clock, which may be set back again."""
        if not (held.over or held.token.expired(self._clock())):
            return False
        self._tell_of_end(held)
        return True

    def _tell_of_end(self, held: _Held) -> None:
        if held.told:
            return
        held.told = True
        log.info(
            "the token of %s for %s has expired: anonymous there until the next `afsfuse aklog`",
            *(held.whose, held.token.cell),
        )

    def _changed(self, identity: Identity, cell: str) -> None:
        """A token came, went, or was replaced."""
        before = self._held.pop((identity, cell), None)
        if before is not None and before.client is not None:
            before.client.wipe()
        token = self._store.get(identity, cell)
        if token is None:
            log.info("the token of %s for %s is gone", identity, cell)
            return
        held = self._held[identity, cell] = _Held(identity, token)
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(token.end))
        log.info("%s has a token for %s: %s, until %s", identity, cell, token.client, until)
        held.client = self._make(held, self._level)

    def _make(self, held: _Held, level: SecurityLevel) -> RxkadClient | None:
        """The client of a token; None for one that cannot be used with rxkad."""
        token = held.token
        try:
            key = deskeys.session_key(token.enctype, token.key.reveal())
            try:
                return RxkadClient(
                    ticket=token.ticket, session_key=key, kvno=token.kvno, level=level,
                    expires=token.end, clock=self._clock,
                    owner=f"{held.whose}/{next(self._numbers)}",
                )  # fmt: skip
            finally:
                key[:] = bytes(len(key))
        except (ParseError, LocalError) as exc:
            log.warning("the token of %s for %s is of no use: %s", held.whose, token.cell, exc)
            return None


class _Held:
    """A token, and what has come of it."""

    __slots__ = ("client", "over", "refused", "token", "told", "whose")

    def __init__(self, whose: Identity, token: Token) -> None:
        self.whose = whose
        self.token = token
        self.client: RxkadClient | None = None
        self.over = False  # it has expired, as a server says
        self.told = False  # of its end
        self.refused = False  # by a server, for another reason, and that was told


_TOKEN_CODES = frozenset(
    {
        RxkadCode.LEVEL_FAIL, RxkadCode.TICKET_LENGTH, RxkadCode.NO_AUTH, RxkadCode.BAD_KEY,
        RxkadCode.BAD_TICKET, RxkadCode.UNKNOWN_KEY, RxkadCode.EXPIRED,
        RxkadCode.SEALED_INCONSISTENT, RxkadCode.ILLEGAL_LEVEL,
    }
)  # fmt: skip
_OWN_CODES = frozenset({RxkadCode.LEVEL_FAIL, RxkadCode.NO_AUTH, RxkadCode.EXPIRED})


def is_about_token(error: CallAborted) -> bool:
    """Whether a call ended because of the caller's token, and not because of a packet.

    A server that finds a token wrong and one that finds a packet wrong may say the same; what we
    ourselves find wrong with a packet is no fault of the token.
    """
    return error.code in (_TOKEN_CODES if error.remote else _OWN_CODES)
