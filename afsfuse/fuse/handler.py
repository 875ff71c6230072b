"""The error border: nothing but `FUSEError` leaves a request handler.

pyfuse3 ends its main loop, and with it the mount, on any other exception. So a known error becomes
its errno, and a bug costs its request an EIO and the log a traceback.
"""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import pyfuse3
import trio

from afsfuse.errors import AfsError
from afsfuse.fuse.interrupts import TooManyWaits
from afsfuse.fuse.workers import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from afsfuse.fuse.interrupts import Interrupts
    from afsfuse.fuse.requestlog import Requests
    from afsfuse.fuse.workers import Gate

log = logging.getLogger(__name__)

RETRY_PAUSE = 1.0
"""Seconds until a request that waits for servers is tried again. A server that is down is not
asked by that: who watches over servers finds out when it is back."""


class Guarded(Protocol):
    """What the border needs of the object whose methods it guards."""

    interrupts: Interrupts
    requests: Requests
    gate: Gate

    def user_of(self, arguments: tuple[object, ...]) -> int:
        """The uid behind a request with these arguments."""
        ...


P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=Guarded)


def handler(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Guard a request handler: only its answer or a `FUSEError` comes out, and it can be ended."""
    name = method.__name__

    @functools.wraps(method)
    async def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        interrupts = self.interrupts
        try:
            wait = interrupts.enter(name, self.requests.last, user := self.user_of(args))
        except TooManyWaits:
            log.warning(
                "%d requests wait: %s of uid %d is refused with EAGAIN", len(interrupts), name, user
            )
            raise pyfuse3.FUSEError(errno.EAGAIN) from None
        try:
            with wait.scope:
                while True:
                    try:
                        return cast("T", await Answer(self.gate, method(self, *args, **kwargs)))
                    except AfsError as exc:
                        if not (exc.passing and interrupts.may_retry(wait)):
                            raise
                        log.debug("%s waits: %s", name, exc)
                    await trio.sleep(RETRY_PAUSE)
        except Exception as exc:  # trio.Cancelled is a BaseException and passes through
            raise _translated(name, exc) from exc
        finally:
            interrupts.leave(wait)
        raise pyfuse3.FUSEError(wait.errno)  # its scope was cancelled: a signal, or its time

    return guarded


def asking_first(
    quick: Callable[Concatenate[S, P], T | None],
) -> Callable[
    [Callable[Concatenate[S, P], Coroutine[Any, Any, T]]],
    Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
]:
    """Put a plain function before a guarded handler: if it has the answer, nothing waits.

    What does not wait needs nobody to watch it, and watching costs as much as such an answer.
    """

    def decorate(
        guarded: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
        @functools.wraps(guarded)
        async def asked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
            self.interrupts.asked(self.requests)
            try:
                answer = quick(self, *args, **kwargs)
            except Exception as exc:
                raise _translated(guarded.__name__, exc) from exc
            if answer is None:
                return await guarded(self, *args, **kwargs)
            self.interrupts.at_once += 1
            return answer

        return asked

    return decorate


def _translated(name: str, error: Exception) -> pyfuse3.FUSEError:
    """What the kernel is told of an error of the handler of this name."""
    if isinstance(error, pyfuse3.FUSEError):
        return error
    if isinstance(error, AfsError):
        log.debug("%s: %s", name, error)
        return pyfuse3.FUSEError(error.errno)
    log.error("%s failed: a bug, the request is answered with EIO", name, exc_info=error)
    return pyfuse3.FUSEError(errno.EIO)


def quiet(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, None]]:
    """Guard a handler that has no answer (forget) or whose answer nobody reads (release).

    Such a one does not wait, so nobody watches it.
    """

    @functools.wraps(method)
    async def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.interrupts.asked(self.requests)
        try:
            await method(self, *args, **kwargs)
        except Exception:
            log.exception("%s failed: a bug", method.__name__)

    return guarded
