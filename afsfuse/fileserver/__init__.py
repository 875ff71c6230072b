"""Calls to file servers: one coroutine an RPC, described as operations (`operation`), tried at the
servers of their volumes by the one retry loop (`rotation`, within `limits`), which knows who is
down (`health`) and who refuses what (`refusals`); `failures` says what comes of a failure for
whoever asked. What only asks is in `client`, what changes a volume in `changes`."""

from afsfuse.fileserver.changes import UNCHANGED, Changes, StatusChange
from afsfuse.fileserver.client import FileServerClient
from afsfuse.fileserver.health import HealthLimits
from afsfuse.fileserver.limits import RetryLimits
from afsfuse.fileserver.replies import (
    ChangeReply,
    CreateReply,
    DataReply,
    LinkReply,
    Promise,
    RenameReply,
    StatusReply,
    VolumeStatusReply,
)

__all__ = [
    "UNCHANGED",
    "ChangeReply",
    "Changes",
    "CreateReply",
    "DataReply",
    "FileServerClient",
    "HealthLimits",
    "LinkReply",
    "Promise",
    "RenameReply",
    "RetryLimits",
    "StatusChange",
    "StatusReply",
    "VolumeStatusReply",
]
