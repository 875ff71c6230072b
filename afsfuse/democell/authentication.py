"""The authentication service of old: tickets of Kerberos 4 for passwords.

What a `klog` asks for is here, and no more: no administration, no other cells, no counting of
wrong passwords. Source: Authenticate and GetTicket in src/kauth/kaprocs.c of OpenAFS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from afsfuse.democell.realm import DES, KEY_VERSION
from afsfuse.interfaces import kauth
from afsfuse.interfaces.kauth import KaCode
from rxrpc import CallAborted, ParseError, SecurityError, ServerCall, Service
from rxrpc.security import des
from rxrpc.security.rxkadcodes import RxkadCode
from rxrpc.security.servicekeys import ServiceKeys
from rxrpc.security.tickets import (
    Principal,
    check_times,
    lifetime_byte,
    lifetime_end,
    make_ticket_4,
    open_ticket,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.democell.faults import Faults
    from afsfuse.democell.realm import Realm
    from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")

MAX_LIFETIME = 25 * 3600
"""Seconds that a ticket is valid, as users of OpenAFS's server have it who were given no other."""
_SKEW = 15 * 60
_SERVICE = ("afs", "")
_NO_EXPIRY = 255


def services(realm: Realm, faults: Faults) -> list[Service]:
    """Two of them, at one port."""
    answers = _Answers(realm)
    granting, authentication = Service(kauth.KAT), Service(kauth.KAA)

    def serve(service: Service, rpc: Rpc[A, R], handler: Callable[[A], R]) -> None:
        async def handle(call: ServerCall, args: A) -> R:
            plan = await faults.begin(rpc)
            return plan.reply(handler(args))

        service.handles(rpc)(handle)

    serve(authentication, kauth.AUTHENTICATE, answers.authenticate)
    serve(authentication, kauth.AUTHENTICATE_V2, answers.authenticate_v2)
    serve(granting, kauth.GET_TICKET, answers.get_ticket)
    return [authentication, granting]


class _Answers:
    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def authenticate(self, args: kauth.AuthenticateArgs) -> kauth.AnswerReply:
        return self._authenticate(args, None)

    def authenticate_v2(self, args: kauth.AuthenticateArgs) -> kauth.AnswerReply:
        return self._authenticate(args, _NO_EXPIRY)

    def _authenticate(
        self, args: kauth.AuthenticateArgs, password_days: int | None
    ) -> kauth.AnswerReply:
        user = _text(args.name), _text(args.instance)
        if not user[0]:
            raise CallAborted(KaCode.BAD_NAME)
        key = self._realm.users.get(".".join(filter(None, user)))
        if key is None:
            raise CallAborted(KaCode.NO_ENTRY)
        try:
            request = kauth.Request.parse(des.pcbc_decrypt(key, args.request))
        except ParseError as exc:
            raise CallAborted(KaCode.BAD_REQUEST, reason=str(exc)) from None
        if request.label != kauth.REQUEST_LABEL:
            raise CallAborted(KaCode.BAD_REQUEST, reason="sealed with another key")
        if abs(request.time - self._realm.clock()) > _SKEW:
            raise CallAborted(KaCode.CLOCK_SKEW)
        granting = kauth.GRANTING_NAME.decode(), self._realm.name
        challenge = (request.time + 1) & 0xFFFFFFFF
        answer = self._answer(
            kauth.GRANTED_LABEL, challenge, Principal(*user, ""), granting, args.start, args.end,
            self._realm.granting_key, password_days,
        )  # fmt: skip
        return _sealed(answer, key, args.answer.room)

    def get_ticket(self, args: kauth.GetTicketArgs) -> kauth.AnswerReply:
        service = _text(args.name), _text(args.instance)
        if len(args.times) != des.BLOCK:
            raise CallAborted(KaCode.BAD_ARGUMENT)
        local = _text(args.realm) in ("", self._realm.name)
        if not local or args.kvno != KEY_VERSION:
            raise CallAborted(KaCode.UNKNOWN_KEY)
        now = self._realm.clock()
        keys = ServiceKeys({(KEY_VERSION, DES): self._realm.granting_key})
        try:
            granting = open_ticket(KEY_VERSION, args.ticket, keys, now)
        except SecurityError as exc:
            expired = exc.code == RxkadCode.EXPIRED
            raise CallAborted(exc.code if expired else KaCode.NO_AUTH, reason=str(exc)) from None
        session_key = bytes(granting.session_key)
        times = kauth.Times.parse(des.decrypt_block(session_key, args.times))
        try:
            check_times(times.start, times.end, now)
        except SecurityError as exc:
            raise CallAborted(KaCode.BAD_REQUEST, reason=str(exc)) from None
        client = granting.client
        name = ".".join(filter(None, (client.name, client.instance)))
        if service != _SERVICE or name not in self._realm.users:
            raise CallAborted(KaCode.NO_ENTRY)
        answer = self._answer(
            kauth.TICKET_LABEL, 0, client, service, times.start, min(times.end, granting.end),
            self._realm.service_key, None,
        )  # fmt: skip
        return _sealed(answer, session_key, args.answer.room)

    def _answer(
        self,
        label: bytes,
        challenge: int,
        client: Principal,
        service: tuple[str, str],
        start: int,
        end: int,
        key: bytes,
        password_days: int | None,
    ) -> kauth.TicketAnswer:
        """A ticket for a service whose key this is."""
        life = lifetime_byte(min(end - start, MAX_LIFETIME))
        end = lifetime_end(start, life)
        if not life or end > 0xFFFFFFFF:
            raise CallAborted(KaCode.BAD_ARGUMENT, reason="no lifetime")
        session_key = self._realm.new_des_key()
        ticket = make_ticket_4(key, client, session_key, start, life, service)
        names = (client.name, client.instance, client.realm, *service)
        first, instance, cell, name, of_service = (each.encode() for each in names)
        return kauth.TicketAnswer(
            label, challenge, session_key, start, end, KEY_VERSION,
            (first, instance, cell, name, of_service), ticket, password_days,
        )  # fmt: skip


def _sealed(answer: kauth.TicketAnswer, key: bytes, room: int) -> kauth.AnswerReply:
    data = des.pcbc_encrypt(key, answer.build())
    if len(data) > min(room, kauth.BYTES_MAX):
        raise CallAborted(KaCode.ANSWER_TOO_LONG)
    return kauth.AnswerReply(kauth.Answer(room, data))


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise CallAborted(KaCode.BAD_NAME) from None
