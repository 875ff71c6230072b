"""What can be asked over the control socket, and by whom.

Everybody may set, see and drop the tokens of the identity that he has himself, and no other's.
Root may see who has tokens. Nobody is given a key: no verb answers with one. What was written and
is not stored yet is shown to whoever wrote it, and given up by him, or by root. Which file servers
there are is shown to everybody, as cells are in a listing; root, and who has mounted, may rank
them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afsfuse.auth.identity import Caller, Identity
from afsfuse.auth.processes import Unclear, kin
from afsfuse.auth.token import Token
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from afsfuse.auth.store import TokenStore
    from afsfuse.control.outlets import Outlet
    from afsfuse.control.servers import ServerPreferences
    from afsfuse.control.unstored import UnstoredFiles

    Request = dict[str, Any]
    Verb = Callable[[Request, "Peer"], Awaitable[dict[str, Any]]]
    Stream = Callable[[Request, "Peer", Outlet], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end; the kernel vouches for its numbers."""

    uid: int
    gid: int
    pid: int
    """0 when it is in a pid namespace that we do not see."""
    lives: Callable[[], bool] = lambda: True
    """Whether it is still there: if so after its number was used, the number was its own."""

    @property
    def owns_daemon(self) -> bool:
        """Whether it is root's, or of whoever runs this daemon, who has made the mount."""
        return self.uid in (0, os.geteuid())

    @classmethod
    def here(cls) -> Peer:
        """This process."""
        return cls(os.geteuid(), os.getegid(), os.getpid())


def require_owner(peer: Peer, what: str) -> None:
    """`ControlRefused` unless it is root, or whoever runs this daemon, who wants to do `what`."""
    if not peer.owns_daemon:
        raise ControlRefused(f"only root and who has mounted it may {what}")


class Verbs:
    """Does what is asked for, with one store."""

    def __init__(
        self,
        store: TokenStore,
        clock: Callable[[], float] = time.time,
        unstored: UnstoredFiles | None = None,
        servers: ServerPreferences | None = None,
    ) -> None:
        """Without `unstored` there is nothing that waits for being stored, and without `servers`
        there are none.
        """
        self._servers = servers
        self._store = store
        self._clock = clock
        self._unstored_files = unstored
        self._verbs: dict[str, Callable[[Request, Peer], dict[str, Any]]] = {
            "hello": self._hello,
            "set": self._set,
            "tokens": self._tokens,
            "drop": self._drop,
            "begin-pag": self._begin_pag,
            "keep": self._keep,
            "unstored": self._unstored,
            "discard": self._discard,
            "serverprefs": self._serverprefs,
        }
        self._slow: dict[str, Verb] = {}
        self.streams: dict[str, Stream] = {}
        """What tells by and by, until it is cancelled or has no more to tell."""

    def add(self, verbs: Mapping[str, Verb]) -> None:
        """Know these, too: what takes a mount, and some time."""
        self._slow.update(verbs)

    async def perform(self, request: Request, peer: Peer) -> dict[str, Any]:
        """The answer to a request, be it that it has to be waited for. Raises as `do`."""
        verb = self._slow.get(request["do"])
        return self.do(request, peer) if verb is None else await verb(request, peer)

    def do(self, request: Request, peer: Peer) -> dict[str, Any]:
        """The answer to a request. Raises `ControlRefused` or `TokenMalformed`."""
        verb = self._verbs.get(request["do"])
        if verb is None:
            raise ControlRefused("this daemon does not know how to do that: is it an older one?")
        return verb(request, peer)

    def identity(self, peer: Peer) -> Identity:
        """Whom the process at the other end is."""
        identity = self._store.identities.of(Caller(peer.uid, peer.gid, peer.pid))
        if not peer.lives():
            raise ControlRefused("the process that asks has ended")
        if identity == Identity():
            raise ControlRefused("it is not clear which PAG asks: try again")
        return identity

    def _hello(self, request: Request, peer: Peer) -> dict[str, Any]:
        return {"pid": os.getpid(), "identity": self.identity(peer).text}

    def _set(self, request: Request, peer: Peer) -> dict[str, Any]:
        text = request.get("token")
        if not isinstance(text, str):
            raise ControlRefused("a token is expected")
        token = Token.decode(text)
        if token.expired(self._clock()):
            raise ControlRefused("the token has expired already: see that the clock is right")
        identity = self.identity(peer)
        self._store.unkeep(identity, token.cell)  # it may be another principal's
        self._store.set(identity, token)
        return {"identity": identity.text}

    def _keep(self, request: Request, peer: Peer) -> dict[str, Any]:
        from afsfuse.auth.renewal import Renewal  # with Kerberos, which few need

        text = request.get("renewal")
        if not isinstance(text, str):
            raise ControlRefused("what to renew the token with is expected")
        identity = self.identity(peer)
        pag = self._store.pags.get(identity.pag or "")
        if pag is not None and pag.uid != peer.uid:  # whose process would have to parse it
            raise ControlRefused("another user began this PAG: only he can have its tokens renewed")
        self._store.keep(identity, Renewal.decode(text))
        return {}

    def _tokens(self, request: Request, peer: Peer) -> dict[str, Any]:
        identity = self.identity(peer)
        if request.get("all") is True:
            if peer.uid != 0:
                raise ControlRefused("only root may see who has tokens")
            pairs = self._store.all()
        else:
            pairs = [(identity, token) for token in self._store.of(identity)]
        return {"identity": identity.text, "tokens": self._shown(pairs)}

    def _shown(self, pairs: Iterable[tuple[Identity, Token]]) -> list[dict[str, Any]]:
        """What is told of tokens."""
        kept = {(identity, renewal.wanted.cell) for identity, renewal in self._store.renewals()}
        return [
            {
                "identity": identity.text,
                "cell": token.cell,
                "client": token.client,
                "viceid": token.viceid,
                "start": token.start,
                "end": token.end,
                "kept": (identity, token.cell) in kept,
            }
            for identity, token in pairs
        ]

    def _drop(self, request: Request, peer: Peer) -> dict[str, Any]:
        cells = request.get("cells")
        if cells is not None and not _is_words(cells):
            raise ControlRefused("a list of cells is expected")
        return {"dropped": self._store.drop(self.identity(peer), cells)}

    def _unstored(self, request: Request, peer: Peer) -> dict[str, Any]:
        identity = self.identity(peer)
        files = self._unstored_files
        whose = None if peer.uid == 0 else identity
        return {"files": [] if files is None else files.listed(whose), "root": peer.uid == 0}

    def _discard(self, request: Request, peer: Peer) -> dict[str, Any]:
        path = request.get("path")
        if not isinstance(path, str):
            raise ControlRefused("a path is expected")
        identity = self.identity(peer)
        files = self._unstored_files
        whose = None if peer.uid == 0 else identity
        return {"discarded": [] if files is None else files.discard(path, whose)}

    def _serverprefs(self, request: Request, peer: Peer) -> dict[str, Any]:
        if self._servers is None:
            return {"servers": [], "rules": []}
        if "network" in request:
            require_owner(peer, "set ranks of servers")
            self._servers.set(request["network"], request.get("rank"))
        return self._servers.shown()

    def _begin_pag(self, request: Request, peer: Peer) -> dict[str, Any]:
        try:
            process = kin(peer.pid).process
        except Unclear:
            raise ControlRefused("a PAG cannot begin with a process that is out of sight") from None
        if not peer.lives():
            raise ControlRefused("the process that asks has ended")
        return {"pag": self._store.begin_pag(process, peer.uid)}


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
