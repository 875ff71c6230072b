"""From a password to a token by AFS's own authentication server, as before Kerberos 5.

Who listens to it can try passwords at leisure, and find the DES keys without any: this is for
cells that have nothing else. Source: ka_Authenticate, ka_GetToken and ka_UserAuthenticateGeneral
in src/kauth (authclient.c, user.c) of OpenAFS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from afsfuse.auth.token import Secret, Token
from afsfuse.errors import TicketRefused, abort_name
from afsfuse.interfaces import kauth
from afsfuse.interfaces.kauth import KaCode
from rxrpc import CallAborted, CallError, CallTimeouts, ParseError, SecurityError
from rxrpc.rpc import RxgenCode
from rxrpc.security import des
from rxrpc.security.passwords import afs_key, kerberos_key
from rxrpc.security.rxkadcodes import RxkadCode
from rxrpc.security.tickets import check_times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rxrpc import Address, Endpoint
    from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")

CALL_SECONDS = 3.0
"""A server that takes longer is passed over for the next."""
_SERVERS_MAX = 4  # so many are tried: more would take longer than a user is made to wait
LIFETIME = 30 * 24 * 3600
"""Seconds that are asked for: servers give what they think right, and no more than this."""
_DES = 1  # des-cbc-crc
_SERVICE = (b"afs", b"")
# Codes of the database below: this server cannot tell just now, another one may. Source: uerrors.et
_ELSEWHERE = frozenset({5376, 5377})

_REFUSALS: Mapping[int, str] = {
    KaCode.NO_ENTRY: "the authentication server knows no such user",
    KaCode.BAD_NAME: "the authentication server knows no such user",
    KaCode.BAD_REQUEST: "the password is wrong",
    KaCode.BAD_USER: "this user may not get tickets",
    KaCode.CLOCK_SKEW: "the clocks of this machine and of the server differ by a quarter of an "
    "hour: set this one",
    KaCode.PASSWORD_EXPIRED: "the password has expired: have an administrator give you another",
    KaCode.LOCKED: "the user is locked after too many wrong passwords: try later",
    RxkadCode.EXPIRED: "the ticket has expired already: does this machine's clock go right?",
    RxgenCode.OPCODE: "the authentication server is older than this program knows",
}


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants a token, for which cell."""

    cell: str
    name: str
    instance: str = ""

    @classmethod
    def of(cls, user: str, cell: str) -> Login:
        """What the user typed: a name, perhaps with an instance behind a dot."""
        name, _, instance = user.partition(".")
        if not name or not user.isprintable():
            raise TicketRefused("that is no name")
        if max(len(part.encode()) for part in (name, instance)) > kauth.NAME_MAX:
            raise TicketRefused("the name is longer than names can be")
        return cls(cell, name, instance)

    @property
    def realm(self) -> str:
        """The cell's realm: its name in capitals."""
        return self.cell.upper()

    def __str__(self) -> str:
        dot = "." if self.instance else ""
        return f"{self.name}{dot}{self.instance}@{self.realm}"


class KaServers:
    """The authentication servers of a cell."""

    def __init__(
        self, endpoint: Endpoint, hosts: Sequence[str], clock: Callable[[], float]
    ) -> None:
        """`clock` gives seconds since 1970."""
        self._endpoint = endpoint
        self._addresses: list[Address] = [(host, kauth.PORT) for host in hosts[:_SERVERS_MAX]]
        self._clock = clock

    async def log_in(self, login: Login, password: Secret, say: Callable[[str], object]) -> Token:
        """A token. Raises `TicketRefused`.

        A database may have keys that were made in Kerberos's way, not in AFS's: both are tried.
        """
        secret = password.reveal()
        say(f"asking the authentication servers of {login.cell} as {login}")
        try:
            granted = await self._authenticate(login, afs_key(secret, login.cell))
        except _WrongKey:
            say("not with the key that AFS makes of this password: trying Kerberos's")
            try:
                granted = await self._authenticate(login, kerberos_key(secret))
            except _WrongKey:
                raise TicketRefused(_REFUSALS[KaCode.BAD_REQUEST]) from None
        say("asking for a ticket for afs")
        ticket = await self._get_ticket(login, granted)
        return Token(
            cell=login.cell,
            client=str(login),
            enctype=_DES,
            key=Secret(ticket.session_key),
            ticket=ticket.ticket,
            start=ticket.start,
            end=ticket.end,
            kvno=ticket.kvno,
        )

    async def _authenticate(self, login: Login, key: bytes) -> kauth.TicketAnswer:
        """A ticket to get tickets with. Raises `_WrongKey` when the server has another key."""
        now = int(self._clock())
        args = kauth.AuthenticateArgs(
            login.name.encode(), login.instance.encode(), now, now + LIFETIME,
            des.pcbc_encrypt(key, kauth.Request(now).build()), kauth.NO_ANSWER,
        )  # fmt: skip
        service = kauth.AUTHENTICATION_SERVICE
        try:
            reply = await self._call(service, kauth.AUTHENTICATE_V2, args)
        except CallAborted as exc:
            if exc.code != RxgenCode.OPCODE:
                raise _refusal(exc) from None
            try:
                reply = await self._call(service, kauth.AUTHENTICATE, args)
            except CallAborted as older:
                raise _refusal(older) from None
        answer = self._open(reply, key, kauth.GRANTED_LABEL)
        expected = login.name.encode(), login.instance.encode()
        if answer.challenge != now + 1 or answer.names[:2] != expected:
            raise _nonsense("the answer to another request")
        return answer

    async def _get_ticket(self, login: Login, granted: kauth.TicketAnswer) -> kauth.TicketAnswer:
        now = int(self._clock())
        times = kauth.Times(now, now + LIFETIME).build()
        args = kauth.GetTicketArgs(
            granted.kvno, login.realm.encode(), granted.ticket, *_SERVICE,
            des.encrypt_block(granted.session_key, times), kauth.NO_ANSWER,
        )  # fmt: skip
        try:
            reply = await self._call(kauth.GRANTING_SERVICE, kauth.GET_TICKET, args)
        except CallAborted as exc:
            raise _refusal(exc) from None
        answer = self._open(reply, granted.session_key, kauth.TICKET_LABEL)
        if answer.challenge or answer.names[3:] != _SERVICE:
            raise _nonsense("a ticket for another service")
        return answer

    def _open(self, reply: kauth.AnswerReply, key: bytes, label: bytes) -> kauth.TicketAnswer:
        try:
            answer = kauth.TicketAnswer.parse(des.pcbc_decrypt(key, reply.answer.data), label)
            check_times(answer.start, answer.end, self._clock())
        except (ParseError, SecurityError) as exc:
            raise _nonsense(str(exc)) from None
        return answer

    async def _call(self, service: int, rpc: Rpc[A, R], args: A) -> R:
        """Ask one server after the other. Raises `CallAborted` or `TicketRefused`."""
        reason: CallError | None = None
        for address in list(self._addresses):
            connection = self._endpoint.connect(address, service)
            try:
                reply = await connection.call(rpc, args, timeouts=CallTimeouts(hard=CALL_SECONDS))
                self._addresses = [address]  # its tickets are the best known to itself
                return reply
            except CallAborted as exc:
                if exc.code not in _ELSEWHERE:
                    raise
                reason = exc
            except CallError as exc:
                reason = exc
        raise TicketRefused(
            f"no authentication server of the cell answers at port {kauth.PORT} ({reason}): "
            "does it still have any? otherwise use klog without --kaserver"
        )


class _WrongKey(TicketRefused):
    """The user's key is another one."""


def _refusal(exc: CallAborted) -> TicketRefused:
    text = _REFUSALS.get(exc.code)
    kind = _WrongKey if exc.code == KaCode.BAD_REQUEST else TicketRefused
    return kind(text or f"the authentication server refused ({abort_name(exc.code)})")


def _nonsense(what: str) -> TicketRefused:
    return TicketRefused(f"what answers is no authentication server of this cell: {what}")
