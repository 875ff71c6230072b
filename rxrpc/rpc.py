"""Remote procedure calls, each declared once.

An `Rpc` is a value: name, number, classes of the arguments and of the reply. The client's call,
the server's handler, the names in traces and the fuzz targets all derive from it::

    FETCH_STATUS = Rpc("FetchStatus", 132, FidArgs, FetchStatusReply, idempotent=True)
    RXAFS = Interface("RXAFS", service_id=1, rpcs=(FETCH_STATUS, ...))

On the wire a call is the opcode as one word, then the arguments; the reply is bare.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from rxrpc.xdr import xdr_struct

A = TypeVar("A")
R = TypeVar("R")


class RxgenCode(enum.IntEnum):
    """Abort codes of the stubs that RXGEN makes. Source: rxgen_consts.h."""

    CC_MARSHAL = -450
    CC_UNMARSHAL = -451
    SS_MARSHAL = -452  # the server could not encode its reply
    SS_UNMARSHAL = -453
    DECODE = -454  # the arguments cannot be decoded: what servers answer in that case
    OPCODE = -455  # the service has no procedure with this number
    SS_XDRFREE = -456
    CC_XDRFREE = -457


class Stream(enum.Enum):
    """Whether bytes outside the arguments and the reply travel with a call (a split call).

    In all of them the request ends before the reply begins: that is how Rx is. Nothing tells the
    end of such data but the procedure itself, usually by a length in front of it.
    """

    NONE = "none"
    FROM_SERVER = "from server"  # data stands in front of the reply
    TO_SERVER = "to server"  # data stands behind the arguments
    BOTH = "both"  # first to the server, then from it

    __hash__ = object.__hash__  # that of Enum is a function of Python, and called for every call


SENDS = frozenset({Stream.TO_SERVER, Stream.BOTH})
"""Where the request goes on behind the arguments."""


@xdr_struct
class Void:
    """No arguments, or no reply values."""

    def __bool__(self) -> Literal[True]:
        """A reply, even without values: as a tuple it would count as false."""
        return True


@dataclass(frozen=True, slots=True)
class Rpc(Generic[A, R]):
    """One procedure of an interface."""

    name: str
    opcode: int
    args: type[A]
    reply: type[R]
    idempotent: bool = False  # a second execution changes nothing: the call may be sent again
    stream: Stream = Stream.NONE

    def __str__(self) -> str:
        """Name and number, as logs show them."""
        return f"{self.name}({self.opcode})"


@dataclass(frozen=True)
class Interface:
    """A service: its number and its procedures."""

    name: str
    service_id: int
    rpcs: tuple[Rpc[Any, Any], ...]
    by_opcode: Mapping[int, Rpc[Any, Any]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the procedures; two with one number are a mistake in the table."""
        table = {rpc.opcode: rpc for rpc in self.rpcs}
        if len(table) != len(self.rpcs):
            raise ValueError(f"{self.name}: an opcode is declared twice")
        object.__setattr__(self, "by_opcode", MappingProxyType(table))
