"""The protection service: tells who is who. Source: src/ptserver/ptprocs.c of OpenAFS."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from afsfuse.interfaces import protection as pr
from rxrpc import CallAborted, ServerCall, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afsfuse.democell.faults import Faults
    from afsfuse.democell.people import People
    from rxrpc import ServerSecurity
    from rxrpc.rpc import Rpc, Void

A = TypeVar("A")
R = TypeVar("R")

NO_ENTRY = 267268
"""PRNOENT. Source: pterror.et."""


def service(people: People, faults: Faults, security: Sequence[ServerSecurity]) -> Service:
    """Everything in it may be asked by everybody, with a ticket or without."""
    made = Service(pr.PR, security=security)
    answers = _Answers(people)

    def serve(rpc: Rpc[A, R], handler: Callable[[A], R]) -> None:
        async def handle(call: ServerCall, args: A) -> R:
            plan = await faults.begin(rpc)
            return plan.reply(handler(args))

        made.handles(rpc)(handle)

    serve(pr.NAME_TO_ID, answers.name_to_id)
    serve(pr.ID_TO_NAME, answers.id_to_name)
    serve(pr.GET_CPS, answers.get_cps)
    serve(pr.LIST_MAX_IDS, answers.list_max)
    serve(pr.LIST_ENTRY, answers.list_entry)
    serve(pr.LIST_ELEMENTS, answers.list_elements)
    serve(pr.IS_A_MEMBER_OF, answers.is_a_member_of)
    serve(pr.GET_HOST_CPS, answers.get_host_cps)
    return made


class _Answers:
    def __init__(self, people: People) -> None:
        self._people = people

    def name_to_id(self, args: pr.NamesMessage) -> pr.IdsMessage:
        """A name that nobody has becomes the number of anonymous callers."""
        numbers = (self._people.id_of(name) for name in args.names)
        return pr.IdsMessage(tuple(pr.ANONYMOUS if n is None else n for n in numbers))

    def id_to_name(self, args: pr.IdsMessage) -> pr.NamesMessage:
        return pr.NamesMessage(tuple(self._people.name_of(number) for number in args.ids))

    def get_cps(self, args: pr.IdArgs) -> pr.MembershipReply:
        self._known(args.id)
        return pr.MembershipReply(tuple(self._people.groups_of(args.id)), 0)

    def get_host_cps(self, args: pr.IdArgs) -> pr.MembershipReply:
        """No host is a member of anything."""
        return pr.MembershipReply((), 0)

    def list_max(self, args: Void) -> pr.ListMaxReply:
        numbers = [number for number in self._people.numbers() if number != pr.ANONYMOUS]
        return pr.ListMaxReply(max(0, *numbers), min(numbers))

    def list_entry(self, args: pr.IdArgs) -> pr.ListEntryReply:
        self._known(args.id)
        if args.id < 0:
            count = len(self._people.members(args.id))
        else:
            count = len([g for g in self._people.groups_of(args.id) if g < pr.AUTHUSER])
        name = self._people.name_of(args.id)
        return pr.ListEntryReply(
            pr.CheckEntry(0, args.id, pr.ADMINISTRATORS, 0, 0, 0, count, (0,) * 5, name)
        )

    def list_elements(self, args: pr.IdArgs) -> pr.MembershipReply:
        self._known(args.id)
        found = (
            self._people.members(args.id)
            if args.id < 0
            else [g for g in self._people.groups_of(args.id) if g < pr.AUTHUSER]
        )
        return pr.MembershipReply(tuple(found), 0)

    def is_a_member_of(self, args: pr.MemberArgs) -> pr.MemberReply:
        self._known(args.user)
        return pr.MemberReply(int(args.group in self._people.groups_of(args.user)))

    def _known(self, number: int) -> None:
        if not self._people.knows(number):
            raise CallAborted(NO_ENTRY)
