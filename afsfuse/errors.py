"""Every error of this package, in one tree, and which of them an abort code becomes.

::

    AfsError                 EIO unless told otherwise
    ├── UsageError           EINVAL: a mistake on the command line or in the configuration
    ├── CellUnknown          ENOENT: neither CellServDB nor the DNS knows the cell
    ├── CellUnreachable      ETIMEDOUT: no volume location server of the cell answers
    ├── VolumeMissing        ENODEV: the cell has no such volume, or not of that type
    ├── VolumeBusy           EBUSY: the volume is in use by its server (moved, dumped, salvaged)
    ├── VolumeOffline        ENXIO: the volume is there, but somebody took it off line
    ├── ServerUnreachable    ETIMEDOUT: no file server of the volume answers
    │   └── OutcomeUnknown   ... any more: whether it made a change is not known
    ├── ReadOnlyVolume       EROFS: a change was asked of a read-only or backup volume
    ├── ServerError          a server's abort code that none of the others stands for
    ├── NotFound             ENOENT: proven by a directory that has no such name
    ├── NotPermitted         EACCES
    │   ├── TokenExpired     ... for the token has expired, and without one it is not permitted
    │   └── TokenRefused     ... for a server does not take the token
    ├── NameTooLong          ENAMETOOLONG
    ├── StaleInode           ESTALE: the file behind a fid or an inode is gone
    ├── TicketRefused        EKEYREJECTED: Kerberos gives no ticket for the cell
    ├── TokenMalformed       EBADMSG: bytes that should be a token are none
    ├── NoDaemon             ENOTCONN: no daemon is there to keep a token
    ├── ControlRefused       EPERM: a daemon did not do what a command asked for
    └── DataCorrupt          EIO: a server sent what cannot be

`errno` is what the system call ends with. The wire's code, if there was one, is in `code`; the
table of those is in `afsfuse.abortcodes`, and to be had from here.
"""

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

from afsfuse.abortcodes import ABORT_CODES as ABORT_CODES
from afsfuse.abortcodes import RXK_BASE
from afsfuse.abortcodes import ViceCode as ViceCode
from afsfuse.abortcodes import VlCode as VlCode
from afsfuse.abortcodes import abort_name as abort_name
from afsfuse.abortcodes import errno_of_abort as errno_of_abort
from afsfuse.abortcodes import unified as unified
from afsfuse.refusals import Refused, note


class AfsError(Exception):
    """Root of all errors of this package.

    `cell`, `volume` and `server` (an address as text) say what the error is about; they stand
    behind the message when it is printed.
    """

    errno: int = errno.EIO
    passing = False
    """Whether it may pass without anybody's doing: a mount with `-o hard` waits for that."""

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        cell: str | None = None,
        volume: str | None = None,
        server: str | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if errno is not None:
            self.errno = errno
        self.cell = cell
        self.volume = volume
        self.server = server
        self.code = code

    def again(self) -> Self:
        """A fresh error that says the same: for a second caller, who needs his own traceback.

        Made without `__init__`: what is told twice has not happened twice.
        """
        fresh = type(self).__new__(type(self))
        fresh.args = self.args
        fresh.__dict__.update(self.__dict__)
        return fresh

    def __str__(self) -> str:
        """The message, and what it is about."""
        about = [
            f"{what} {value}"
            for what, value in (
                ("volume", self.volume),
                ("cell", self.cell),
                ("server", self.server),
                ("abort code", None if self.code is None else abort_name(self.code)),
            )
            if value is not None
        ]
        return f"{self.message} ({', '.join(about)})" if about else self.message


class UsageError(AfsError):
    """A mistake of the user: told in one line, then the command ends with `exit_code`."""

    errno = errno.EINVAL

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CellUnknown(AfsError):
    """Neither CellServDB nor the DNS knows the cell."""

    errno = errno.ENOENT


class CellUnreachable(AfsError):
    """No volume location server of the cell answers."""

    errno = errno.ETIMEDOUT
    passing = True


class VolumeMissing(AfsError):
    """The cell has no such volume, or none of the wanted type, or its server lost it."""

    errno = errno.ENODEV


class VolumeBusy(AfsError):
    """The volume is in use by its server and did not come free in time."""

    errno = errno.EBUSY
    passing = True


class VolumeOffline(AfsError):
    """The volume is there, but off line."""

    errno = errno.ENXIO
    passing = True


class ServerUnreachable(AfsError):
    """No file server that has the volume answers."""

    errno = errno.ETIMEDOUT
    passing = True


class OutcomeUnknown(ServerUnreachable):
    """A server fell silent over a change: it may have been done or not. It is not sent again."""

    passing = False


class ReadOnlyVolume(AfsError):
    """A change was asked of a read-only or backup volume."""

    errno = errno.EROFS


class ServerError(AfsError):
    """A server ended a call with a code that none of the other classes stands for."""


class NotFound(AfsError):
    """A directory, whole and of a known version, has no such name."""

    errno = errno.ENOENT


class NotPermitted(AfsError):
    """The access list does not let the caller do it."""

    errno = errno.EACCES


class TokenExpired(NotPermitted):
    """The caller's token has expired, and what it wants is not for everybody.

    EACCES and not EKEYEXPIRED: programs know EACCES. A search along PATH goes on after it, as it
    does after no unknown errno; Python has PermissionError for it, `find` and `rsync` take it as
    the matter of one file. Which of the two it was, the log tells.
    """

    MESSAGE = "the token for the cell has expired: get a new one with `afsfuse aklog`"


class TokenRefused(NotPermitted):
    """A server does not take the caller's token; see `TokenExpired` for why it is EACCES."""


class NameTooLong(AfsError):
    """A name is longer than AFS allows."""

    errno = errno.ENAMETOOLONG


class StaleInode(AfsError):
    """The file behind a fid or an inode does not exist any more."""

    errno = errno.ESTALE


class TicketRefused(AfsError):
    """Kerberos gives no ticket for the cell: the message says why, and what to do."""

    errno = errno.EKEYREJECTED

    def __init__(
        self, message: str, *, kerberos: int | None = None, cell: str | None = None
    ) -> None:
        super().__init__(message, cell=cell)
        self.kerberos = kerberos
        """The library's code, if it had one."""


class TokenMalformed(AfsError):
    """Bytes that should be a token are none. The message tells nothing of what is in them."""

    errno = errno.EBADMSG


class NoDaemon(AfsError):
    """No daemon is there to keep a token, or to be asked."""

    errno = errno.ENOTCONN


class ControlRefused(AfsError):
    """A daemon did not do what a command asked for."""

    errno = errno.EPERM


class DataCorrupt(AfsError):
    """A server sent what cannot be; what it said is not used. Each one is counted."""

    def __init__(
        self,
        message: str,
        *,
        cell: str | None = None,
        volume: str | None = None,
        server: str | None = None,
    ) -> None:
        super().__init__(message, cell=cell, volume=volume, server=server)
        note(Refused.REPLY)


_OF_ABORT: Mapping[int, tuple[type[AfsError], str]] = MappingProxyType(
    {
        ViceCode.VNOVOL: (VolumeMissing, "the server does not have the volume"),
        ViceCode.VMOVED: (VolumeMissing, "the volume moved and was not found again"),
        ViceCode.VBUSY: (VolumeBusy, "the volume is busy; try again later"),
        ViceCode.VRESTARTING: (VolumeBusy, "the server is restarting; try again later"),
        ViceCode.VSALVAGING: (VolumeBusy, "the volume is being salvaged; try again later"),
        ViceCode.VOFFLINE: (VolumeOffline, "the volume is off line; ask the cell's administrators"),
        ViceCode.VSALVAGE: (
            VolumeOffline,
            "the volume needs to be salvaged; ask the cell's administrators",
        ),
        ViceCode.VOVERQUOTA: (ServerError, "the volume's quota is used up"),
        ViceCode.VDISKFULL: (ServerError, "the disk of the file server is full"),
        ViceCode.VNOVNODE: (StaleInode, "the file does not exist any more"),
        RXK_BASE + 2: (TokenRefused, "the server demands more encryption: mount with crypt=crypt"),
        RXK_BASE + 3: (TokenRefused, "the server does not take so long a ticket"),
        RXK_BASE + 5: (TokenRefused, "the server has nobody's token"),
        RXK_BASE + 6: (TokenRefused, "the server does not take the key of the token"),
        RXK_BASE + 7: (TokenRefused, "the token was made with another key than the server's"),
        RXK_BASE + 8: (TokenRefused, "the server does not know the key of the token"),
        RXK_BASE + 9: (TokenExpired, TokenExpired.MESSAGE),
        RXK_BASE + 10: (TokenRefused, "the server cannot read what is sealed with the token"),
        RXK_BASE + 12: (TokenRefused, "the server does not offer this level of encryption"),
        VlCode.NOENT: (VolumeMissing, "the cell has no such volume"),
        VlCode.ENTDELETED: (VolumeMissing, "the volume was deleted"),
        VlCode.BADNAME: (VolumeMissing, "this cannot be a volume's name"),
    }
)


def from_abort(
    code: int, *, cell: str | None = None, volume: str | None = None, server: str | None = None
) -> AfsError:
    """The error for a call that a server ended with an abort code."""
    number = errno_of_abort(code)
    known = ABORT_CODES.get(code)
    refused = f"the server refused: {known.meaning}" if known else "the server refused"
    kind, message = _OF_ABORT.get(code, (ServerError, refused))
    if kind is ServerError and number == errno.EACCES:
        kind, message = NotPermitted, "the access list does not permit it"
    elif kind is ServerError and number == errno.ESTALE:
        kind, message = StaleInode, "the file does not exist any more"
    return kind(message, errno=number, cell=cell, volume=volume, server=server, code=code)


def printable(text: str) -> str:
    """A name as it may go to a terminal or a log: anybody may have chosen it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
