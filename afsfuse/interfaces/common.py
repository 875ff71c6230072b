"""Structures and limits that several AFS interfaces share. Source: common.xg."""

from typing import Annotated
from uuid import UUID

from rxrpc.xdr import AfsUuid, Array, String, u32, xdr_struct

NAME_MAX = 256  # AFSNAMEMAX: names of files, volumes and cells
OPAQUE_MAX = 1024  # AFSOPAQUEMAX: access lists and messages
FIDS_MAX = 50  # AFSCBMAX: fids in one bulk call
CAPABILITIES_MAX = 196  # AFSCAPABILITIESMAX: words
CALLBACK_VERSION = 1

Uuid = Annotated[UUID, AfsUuid()]
Name = Annotated[bytes, String(NAME_MAX)]
Capabilities = Annotated[tuple[u32, ...], Array(CAPABILITIES_MAX)]


@xdr_struct
class Fid:
    """File identifier: which volume, which vnode of it, which use of that vnode's number.

    A fid with vnode and unique 0 stands for its whole volume where callbacks are broken.
    """

    volume: u32
    vnode: u32
    unique: u32

    def __str__(self) -> str:
        """The dotted form which AFS tools print."""
        return f"{self.volume}.{self.vnode}.{self.unique}"


@xdr_struct
class CallBack:
    """A callback promise as a file server gives it."""

    version: u32
    expiration: u32  # seconds; see the interface that uses it for their origin
    type: u32  # CallBackType


Fids = Annotated[tuple[Fid, ...], Array(FIDS_MAX)]
CallBacks = Annotated[tuple[CallBack, ...], Array(FIDS_MAX)]


@xdr_struct
class CapabilitiesReply:
    """Bit words; bits beyond the last word are clear."""

    capabilities: Capabilities
