"""The file service: one module for each kind of procedure, all of them on `Server`."""

from afsfuse.democell.fileservice.server import Server

__all__ = ["Server"]
