"""PR, the protection service: users and groups by name and number. Source: ptint.xg.

Names stand on the wire as 64 characters of a word each. Groups have negative numbers.
"""

from typing import Annotated

from rxrpc.rpc import Interface, Rpc, Void
from rxrpc.xdr import Array, CharVector, Vector, i32, xdr_struct

PORT = 7002
SERVICE_ID = 73
NAME_MAX = 64  # PR_MAXNAMELEN, with the NUL
LIST_MAX = 5000  # PR_MAXLIST; newer servers allow more

ANYUSER = -101  # system:anyuser. Source: ptserver.h
AUTHUSER = -102  # system:authuser
ADMINISTRATORS = -204  # system:administrators
ANONYMOUS = 32766  # who does not say who he is; also the answer for a name that nobody has

PrName = Annotated[bytes, CharVector(NAME_MAX)]
Names = Annotated[tuple[PrName, ...], Array(LIST_MAX)]
Ids = Annotated[tuple[i32, ...], Array(LIST_MAX)]


@xdr_struct
class NamesMessage:
    """Names of users or groups."""

    names: Names


@xdr_struct
class IdsMessage:
    """Numbers of users or groups."""

    ids: Ids


@xdr_struct
class IdArgs:
    """One user or group."""

    id: i32


@xdr_struct
class MembershipReply:
    """Groups of a user or members of a group; `over` counts those that did not fit."""

    ids: Ids
    over: i32


@xdr_struct
class ListMaxReply:
    """The highest number of a user, and the lowest of a group."""

    user: i32
    group: i32


@xdr_struct
class CheckEntry:
    """prcheckentry: one user or group."""

    flags: i32
    id: i32
    owner: i32
    creator: i32
    group_quota: i32
    user_quota: i32
    count: i32  # of groups or members
    reserved: Annotated[tuple[i32, ...], Vector(5)]
    name: PrName


@xdr_struct
class ListEntryReply:
    """One user or group."""

    entry: CheckEntry


@xdr_struct
class MemberArgs:
    """A user and a group."""

    user: i32
    group: i32


@xdr_struct
class MemberReply:
    """1: the user is a member."""

    flag: i32


NAME_TO_ID = Rpc("NameToID", 504, NamesMessage, IdsMessage, idempotent=True)
ID_TO_NAME = Rpc("IDToName", 505, IdsMessage, NamesMessage, idempotent=True)
GET_CPS = Rpc("GetCPS", 508, IdArgs, MembershipReply, idempotent=True)
LIST_MAX_IDS = Rpc("ListMax", 510, Void, ListMaxReply, idempotent=True)
LIST_ENTRY = Rpc("ListEntry", 512, IdArgs, ListEntryReply, idempotent=True)
LIST_ELEMENTS = Rpc("ListElements", 514, IdArgs, MembershipReply, idempotent=True)
IS_A_MEMBER_OF = Rpc("IsAMemberOf", 515, MemberArgs, MemberReply, idempotent=True)
GET_HOST_CPS = Rpc("GetHostCPS", 519, IdArgs, MembershipReply, idempotent=True)

PR = Interface(
    "PR",
    service_id=SERVICE_ID,
    rpcs=(
        NAME_TO_ID,
        ID_TO_NAME,
        GET_CPS,
        LIST_MAX_IDS,
        LIST_ENTRY,
        LIST_ELEMENTS,
        IS_A_MEMBER_OF,
        GET_HOST_CPS,
    ),
)
