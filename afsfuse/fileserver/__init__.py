"""Calls to file servers: one coroutine an RPC (`client`), described as operations (`operation`),
tried at the servers of their volumes by the one retry loop (`rotation`), which knows who is down
(`health`)."""

from afsfuse.fileserver.client import FileServerClient
from afsfuse.fileserver.health import HealthLimits
from afsfuse.fileserver.replies import DataReply, Promise, StatusReply, VolumeStatusReply
from afsfuse.fileserver.rotation import RetryLimits

__all__ = [
    "DataReply",
    "FileServerClient",
    "HealthLimits",
    "Promise",
    "RetryLimits",
    "StatusReply",
    "VolumeStatusReply",
]
