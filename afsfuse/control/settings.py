"""What can be set of a running daemon: names for @sys, protection, its UUID, what is logged."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

from afsfuse.auth.security import LEVELS, TokenCredentials
from afsfuse.control.protocol import raw
from afsfuse.control.verbs import require_owner
from afsfuse.errors import ControlRefused

if TYPE_CHECKING:
    from typing import Protocol

    from afsfuse.auth.security import Credentials
    from afsfuse.control.verbs import Peer, Request, Verb
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.vfs.forgetting import Forgetting

    class Known(Protocol):
        """Who is known to servers: the callback service."""

        uuid: uuid.UUID


log = logging.getLogger(__name__)

_PACKAGE = logging.getLogger("afsfuse")
SHOWN = ("user", "console", "all", "none")
"""What may be shown. Nothing goes to terminals here: the first three are the log as it began."""
_WORDS_MAX = 64


class SettingVerbs:
    """Answers for one daemon. Everybody may look, and who owns the daemon may set."""

    def __init__(
        self,
        credentials: Credentials,
        client: FileServerClient,
        known: Known,
        forgetting: Forgetting,
    ) -> None:
        self._credentials = credentials
        self._client = client
        self._known = known
        self._forgetting = forgetting
        self._usual = _PACKAGE.level
        self.verbs: dict[str, Verb] = {
            "sysname": self._sysname,
            "crypt": self._crypt,
            "uuid": self._uuid,
            "messages": self._messages,
        }

    async def _sysname(self, request: Request, peer: Peer) -> dict[str, Any]:
        names = request.get("names")
        if names is not None:
            require_owner(peer, "set what @sys stands for")
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ControlRefused("names are expected")
            self._forgetting.set_sysnames([raw(name) for name in names])
            await self._forgetting.settled()
            log.info("@sys stands for %r now", names)
        return {"names": [name.decode(errors="replace") for name in self._forgetting.sysnames]}

    async def _crypt(self, request: Request, peer: Peer) -> dict[str, Any]:
        credentials = self._credentials
        if not isinstance(credentials, TokenCredentials):
            raise ControlRefused("this daemon knows no tokens")
        if "level" in request:
            require_owner(peer, "set how calls are protected")
            level = LEVELS.get(str(request["level"])[:_WORDS_MAX])
            if level is None:
                raise ControlRefused(f"a level is one of {', '.join(LEVELS)}")
            credentials.set_level(level)
            log.info("calls with a token are protected at level %s now", level.name.lower())
        return {"level": credentials.level.name.lower()}

    async def _uuid(self, request: Request, peer: Peer) -> dict[str, Any]:
        if request.get("generate") is True:
            require_owner(peer, "renew the UUID")
            self._known.uuid = uuid.uuid4()
            await self._client.renounce()
            log.info("servers know us as %s now", self._known.uuid)
        return {"uuid": str(self._known.uuid)}

    async def _messages(self, request: Request, peer: Peer) -> dict[str, Any]:
        if "show" in request:
            require_owner(peer, "say what is logged")
            if request["show"] not in SHOWN:
                raise ControlRefused(f"messages are one of {', '.join(SHOWN)}")
            _PACKAGE.setLevel(logging.ERROR if request["show"] == "none" else self._usual)
        return {"level": logging.getLevelName(_PACKAGE.getEffectiveLevel()).lower()}
