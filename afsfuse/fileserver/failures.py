"""What whoever asked is told of a failure: which error it is, and where it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from afsfuse.errors import AfsError, DataCorrupt, ServerUnreachable, from_abort
from afsfuse.fileserver.operation import Verdict
from rxrpc import CallAborted

if TYPE_CHECKING:
    from afsfuse.cell.servers import FileServer
    from afsfuse.cell.volumes import Volume
    from rxrpc import CallError


class About(TypedDict):
    """What an error says of where it happened."""

    cell: str
    volume: str
    server: str | None


def about(volume: Volume, server: FileServer) -> About:
    """What an error says of where it happened."""
    return {"cell": volume.cell.name, "volume": volume.name, "server": server.host}


def locate(error: AfsError, volume: Volume, server: FileServer | None) -> None:
    """Complete what an error says of where it happened."""
    error.cell = error.cell or volume.cell.name
    error.volume = error.volume or volume.name
    if server is not None:
        error.server = error.server or server.host


def explain(verdict: Verdict, exc: CallError, volume: Volume, server: FileServer) -> AfsError:
    """The error for the caller; raised at once if no other server would say otherwise."""
    where = about(volume, server)
    if isinstance(exc, CallAborted) and verdict is not Verdict.BROKEN:
        error = from_abort(exc.code, **where)
        if verdict in (Verdict.REFUSED, Verdict.TOKEN):
            raise error from exc
        return error
    if verdict is Verdict.BUSY:
        return ServerUnreachable("the file server has no room for the call", **where)
    if verdict is Verdict.CLOSED:
        raise AfsError("the daemon is stopping", **where) from exc
    raise DataCorrupt(f"the file server broke the protocol: {exc}", **where) from exc
