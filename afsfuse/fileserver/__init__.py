"""Calls to file servers: one coroutine an RPC, described as operations (`operation`), tried at the
servers of their volumes by the one retry loop (`rotation`), which knows who is down (`health`).
What only asks is in `client`, what changes a volume in `changes`."""

from afsfuse.fileserver.changes import UNCHANGED, Changes, StatusChange
from afsfuse.fileserver.client import FileServerClient
from afsfuse.fileserver.health import HealthLimits
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
from afsfuse.fileserver.rotation import RetryLimits

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
