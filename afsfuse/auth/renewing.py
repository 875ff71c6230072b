"""Renews the tokens that are to be kept, in good time before they end.

Of several daemons of one owner one does it: the one that holds the lock. When a renewal fails, the
log says so once, while the token is still good for a quarter of its life, and it is tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from afsfuse.auth.acquire import KDC_SECONDS
from afsfuse.auth.complaints import presentable
from afsfuse.auth.renewal import Renewal
from afsfuse.auth.token import Token
from afsfuse.errors import AfsError, TicketRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from afsfuse.auth.identity import Identity
    from afsfuse.auth.store import TokenStore

    Perform = Callable[[Renewal, int], Awaitable[tuple[Token, Renewal]]]

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""Between two looks, at most, and between two attempts at a renewal that failed."""
_LEAST_SECONDS = 1.0
_DUE = 0.75  # of a token's life
_AT_ONCE = 8  # processes
_TOLD_MAX = 1 << 18  # bytes that one tells: a token, and what to renew it with
LOCK = "renewing.lock"


class Renewer:
    """Keeps the tokens of one store that are to be kept."""

    def __init__(
        self,
        store: TokenStore,
        clock: Callable[[], float] = time.time,
        perform: Perform | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._perform = perform or in_a_process
        self._failing: set[tuple[Identity, str]] = set()
        self._tried: dict[tuple[Identity, str], float] = {}  # and when
        self._limit = trio.CapacityLimiter(_AT_ONCE)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew until cancelled."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self._store.folder / LOCK, flags, 0o600)
        wake = trio.Event()
        self._store.on_keep = lambda: wake.set()
        task_status.started()
        try:
            while True:
                pause = await self.look() if _locked(lock) else LOOK_SECONDS
                with trio.move_on_after(pause):
                    await wake.wait()  # there is another one to renew
                wake = trio.Event()
        finally:
            self._store.on_keep = None
            os.close(lock)

    async def look(self) -> float:
        """Renew what is due. -> seconds until the next look

        One after the other for each user, and for all users at once: whose KDC is silent holds up
        nobody else, and his own tokens that were tried last come first at the next look.
        """
        kept = {(identity, each.wanted.cell): each for identity, each in self._store.renewals()}
        self._failing &= kept.keys()
        self._tried = {key: when for key, when in self._tried.items() if key in kept}
        due: dict[int, list[tuple[Identity, Renewal]]] = {}
        for key in sorted(kept, key=lambda key: self._tried.get(key, -inf)):
            uid = self._uid_of(key[0])
            if uid is not None and self._rest(key[0], kept[key]) <= 0:
                due.setdefault(uid, []).append((key[0], kept[key]))
        until = trio.current_time() + LOOK_SECONDS
        async with trio.open_nursery() as nursery:
            for of_user in due.values():
                nursery.start_soon(self._renew_some, of_user, until)
        rests = [self._rest(identity, renewal) for identity, renewal in self._store.renewals()]
        pause = min((rest for rest in rests if rest > 0), default=LOOK_SECONDS)
        return max(min(pause, LOOK_SECONDS), _LEAST_SECONDS)

    async def _renew_some(self, due: list[tuple[Identity, Renewal]], until: float) -> None:
        """Renew tokens of one user, as many as there is time for."""
        for identity, renewal in due:
            async with self._limit:
                if trio.current_time() >= until:
                    return
                self._tried[identity, renewal.wanted.cell] = trio.current_time()
                await self._renew(identity, renewal)

    def _rest(self, identity: Identity, renewal: Renewal) -> float:
        """Seconds until the token is to be renewed."""
        token = self._store.get(identity, renewal.wanted.cell)
        if token is None:
            return 0.0
        return token.start + _DUE * (token.end - token.start) - self._clock()

    async def _renew(self, identity: Identity, renewal: Renewal) -> None:
        cell = renewal.wanted.cell
        uid = self._uid_of(identity)
        if uid is None or (identity, renewal) not in self._store.renewals():
            return  # it is nobody's any more
        try:
            token, again = await self._perform(renewal, uid)
            if (identity, renewal) not in self._store.renewals():
                return  # dropped or replaced meanwhile
            self._store.set(identity, token)
            self._store.keep(identity, again)
        except AfsError as exc:
            if (identity, cell) not in self._failing:
                self._failing.add((identity, cell))
                held = self._store.get(identity, cell)
                until = f"until {time.ctime(held.end)[4:16]}" if held else "no more"
                log.warning(
                    "the token of %s for %s cannot be renewed, it is good %s: %s",
                    identity, cell, until, exc.message,
                )  # fmt: skip
        else:
            if (identity, cell) in self._failing:
                self._failing.discard((identity, cell))
                log.info("the token of %s for %s is renewed again", identity, cell)

    def _uid_of(self, identity: Identity) -> int | None:
        """The user whose token it is; whoever began the PAG. None when that has ended: with what
        he has handed over nothing is done in another name, least of all root's.
        """
        if identity.pag is None:
            return identity.uid
        pag = self._store.pags.get(identity.pag)
        return None if pag is None else pag.uid


def _locked(descriptor: int) -> bool:
    """Whether we are the one that renews; become it if nobody is."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def in_a_process(renewal: Renewal, uid: int) -> tuple[Token, Renewal]:
    """Perform a renewal in a process of its own, under the user's uid, within a bound."""
    root = str(Path(__file__).parent.parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {root!r}); from afsfuse.auth.renewal import main; main()"
    )
    order = json.dumps({"uid": uid, "renewal": renewal.encode()}).encode()
    try:
        with trio.move_on_after(KDC_SECONDS):
            return _outcome(await _told([sys.executable, "-I", "-S", "-c", code], order))
    except OSError as exc:
        raise TicketRefused(f"no process can be begun for it: {exc.strerror}") from None
    raise TicketRefused(f"no KDC has answered within {KDC_SECONDS:.0f} s")


async def _told(command: list[str], order: bytes) -> bytearray:
    """What a process tells that is given an order; it has ended then, however this ends.

    It works with what the user gave us, so it may be what he has made of it. Raises OSError where
    there can be no process, `TicketRefused` for what is too long.
    """
    pipe = subprocess.PIPE
    process = await trio.lowlevel.open_process(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = bytearray()
    try:
        async with process.stdout:
            with contextlib.suppress(trio.BrokenResourceError):  # it has ended, and says why
                async with process.stdin:
                    await process.stdin.send_all(order)
            async for chunk in process.stdout:
                told += chunk
                if len(told) > _TOLD_MAX:
                    raise _failed()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    return told


def _outcome(told: bytearray) -> tuple[Token, Renewal]:
    """What came of a renewal. Raises `TicketRefused`, or `TokenMalformed`."""
    try:
        values = json.loads(told)
    except (ValueError, RecursionError):
        raise _failed() from None
    match values:
        case {"error": str(reason)}:
            raise TicketRefused(presentable(reason))
        case {"token": str(token), "renewal": str(renewal)}:
            return Token.decode(token), Renewal.decode(renewal)
    raise _failed()


def _failed() -> TicketRefused:
    return TicketRefused("the Kerberos library failed")
