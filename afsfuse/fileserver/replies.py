"""What calls to a file server bring home, in the terms of the cache.

Named tuples, since fifty of them are made for each bulk status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from afsfuse.interfaces.fileserver import CallBackType

if TYPE_CHECKING:
    from afsfuse.cell.servers import FileServer
    from afsfuse.interfaces.common import CallBack, Fid
    from afsfuse.interfaces.fileserver import VolSync, VolumeStatus
    from afsfuse.model import Status


_LONGEST_PROMISE = 86400  # seconds; servers give 4 h at most


class Promise(NamedTuple):
    """A callback promise: until `expires` the server tells us when the file changes."""

    expires: float  # trio's clock; counted from before the call was sent, so never too late
    server: FileServer


class StatusReply(NamedTuple):
    """The status of one file, as one server saw it."""

    status: Status
    promise: Promise | None  # None: the server made no promise
    sync: VolSync
    server: FileServer


class DataReply(NamedTuple):
    """The end of a data transfer; the bytes themselves are in the caller's buffers."""

    length: int  # bytes that really came
    status: Status  # of exactly these bytes: the server holds the vnode during the transfer
    promise: Promise | None
    sync: VolSync
    server: FileServer


class ChangeReply(NamedTuple):
    """The status of the vnode that a call changed. No promise comes with it: one that is there
    holds on, as a server tells everybody else of a change."""

    status: Status
    sync: VolSync
    server: FileServer


class CreateReply(NamedTuple):
    """What was made, and the directory in which it stands."""

    fid: Fid
    status: Status
    directory: Status
    promise: Promise | None  # for what was made; a symbolic link comes without
    sync: VolSync
    server: FileServer


class LinkReply(NamedTuple):
    """A file that has one more name, and the directory."""

    status: Status
    directory: Status
    sync: VolSync
    server: FileServer


class RenameReply(NamedTuple):
    """Both directories; equal if it was one."""

    old_directory: Status
    new_directory: Status
    sync: VolSync
    server: FileServer


class VolumeStatusReply(NamedTuple):
    """Quota and usage of a volume, and its name."""

    status: VolumeStatus  # sizes in KiB
    name: bytes
    offline_message: bytes = b""
    message_of_the_day: bytes = b""


def promise_of(callback: CallBack, server: FileServer, before: float) -> Promise | None:
    """The promise in a reply to a call that was sent after `before`.

    The server gives the seconds left. Source: SetCallBackStruct in viced/afsfileprocs.c.
    """
    if not callback.expiration or callback.type == CallBackType.DROPPED:
        return None
    return Promise(before + min(callback.expiration, _LONGEST_PROMISE), server)
