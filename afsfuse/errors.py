"""Every error of this package, in one tree, and the one table from abort codes to errno.

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

`errno` is what the system call ends with. The wire's code, if there was one, is in `code`.
"""

import copy
import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self


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
        """A fresh error that says the same: for a second caller, who needs his own traceback."""
        return copy.copy(self)

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
    """A server sent what cannot be; what it said is not used."""


class ViceCode(enum.IntEnum):
    """What file servers say of volumes and vnodes. Source: util/errors.h."""

    VSALVAGE = 101
    VNOVNODE = 102
    VNOVOL = 103
    VVOLEXISTS = 104
    VNOSERVICE = 105
    VOFFLINE = 106
    VONLINE = 107
    VDISKFULL = 108
    VOVERQUOTA = 109
    VBUSY = 110
    VMOVED = 111
    VIO = 112
    VSALVAGING = 113
    VRESTRICTED = 120
    VRESTARTING = -100


# First codes of com_err tables; a table has at most 256 codes.
_U_BASE = 5376
_VL_BASE = 363520
_RXK_BASE = 19270400
_UAE_BASE = 49733376
_RXGK_BASE = 1233242880


class VlCode(enum.IntEnum):
    """Those codes of the volume location service that mean something special to a client."""

    IO = _VL_BASE + 1
    NOENT = _VL_BASE + 4
    ENTDELETED = _VL_BASE + 6
    BADNAME = _VL_BASE + 7
    NOMEM = _VL_BASE + 27


# Names with the errno that each one becomes. Most of the meanings are those of Linux fs/afs/misc.c,
# but no code becomes ENOENT that a directory has not proven: the kernel would remember it.
_RX = {
    -1: ("RX_CALL_DEAD", errno.ETIMEDOUT),
    -2: ("RX_INVALID_OPERATION", errno.EOPNOTSUPP),
    -3: ("RX_CALL_TIMEOUT", errno.ETIMEDOUT),
    -4: ("RX_EOF", errno.EPROTO),
    -5: ("RX_PROTOCOL_ERROR", errno.EPROTO),
    -6: ("RX_USER_ABORT", errno.ECONNABORTED),
    -7: ("RX_ADDRINUSE", errno.EREMOTEIO),
    -8: ("RX_MSGSIZE", errno.EMSGSIZE),
    -450: ("RXGEN_CC_MARSHAL", errno.EBADMSG),
    -451: ("RXGEN_CC_UNMARSHAL", errno.EBADMSG),
    -452: ("RXGEN_SS_MARSHAL", errno.EBADMSG),
    -453: ("RXGEN_SS_UNMARSHAL", errno.EBADMSG),
    -454: ("RXGEN_DECODE", errno.EBADMSG),
    -455: ("RXGEN_OPCODE", errno.EOPNOTSUPP),
    -456: ("RXGEN_SS_XDRFREE", errno.EREMOTEIO),
    -457: ("RXGEN_CC_XDRFREE", errno.EREMOTEIO),
}

_VICE = {
    ViceCode.VSALVAGE: errno.EIO,
    ViceCode.VNOVNODE: errno.ESTALE,
    ViceCode.VNOVOL: errno.ENODEV,
    ViceCode.VVOLEXISTS: errno.EEXIST,
    ViceCode.VNOSERVICE: errno.ETIMEDOUT,  # OpenAFS 1.4.8 to 1.6.24 ended idle calls with it
    ViceCode.VOFFLINE: errno.ENXIO,
    ViceCode.VONLINE: errno.EEXIST,
    ViceCode.VDISKFULL: errno.ENOSPC,
    ViceCode.VOVERQUOTA: errno.EDQUOT,
    ViceCode.VBUSY: errno.EBUSY,
    ViceCode.VMOVED: errno.ENODEV,
    ViceCode.VIO: errno.EIO,
    ViceCode.VSALVAGING: errno.EBUSY,
    ViceCode.VRESTRICTED: errno.EREMOTEIO,
    ViceCode.VRESTARTING: errno.EBUSY,
}

_U = {  # the database servers among themselves. Source: uerrors.et
    _U_BASE: ("UNOQUORUM", errno.EAGAIN),
    _U_BASE + 1: ("UNOTSYNC", errno.EREMOTEIO),
    _U_BASE + 13: ("UNOSERVERS", errno.ETIMEDOUT),
}

_VL = (  # in the order of vl_errors.et
    ("IDEXIST", errno.EEXIST),
    ("IO", errno.EIO),
    ("NAMEEXIST", errno.EEXIST),
    ("CREATEFAIL", errno.EREMOTEIO),
    ("NOENT", errno.ENODEV),
    ("EMPTY", errno.ENODEV),
    ("ENTDELETED", errno.ENODEV),
    ("BADNAME", errno.ENODEV),
    ("BADINDEX", errno.EINVAL),
    ("BADVOLTYPE", errno.EINVAL),
    ("BADSERVER", errno.EINVAL),
    ("BADPARTITION", errno.EINVAL),
    ("REPSFULL", errno.EFBIG),
    ("NOREPSERVER", errno.ENODEV),
    ("DUPREPSERVER", errno.EEXIST),
    ("RWNOTFOUND", errno.ENODEV),
    ("BADREFCOUNT", errno.EINVAL),
    ("SIZEEXCEEDED", errno.EINVAL),
    ("BADENTRY", errno.EINVAL),
    ("BADVOLIDBUMP", errno.EINVAL),
    ("IDALREADYHASHED", errno.EINVAL),
    ("ENTRYLOCKED", errno.EBUSY),
    ("BADVOLOPER", errno.EBADRQC),
    ("BADRELLOCKTYPE", errno.EINVAL),
    ("RERELEASE", errno.EREMOTEIO),
    ("BADSERVERFLAG", errno.EINVAL),
    ("PERM", errno.EACCES),
    ("NOMEM", errno.EREMOTEIO),
    ("BADVERSION", errno.EREMOTEIO),
    ("INDEXERANGE", errno.EINVAL),
    ("MULTIPADDR", errno.EREMOTEIO),
    ("BADMASK", errno.EINVAL),
    ("DBBAD", errno.EREMOTEIO),
)

_RXK = (  # in the order of rxkad_errs.et
    ("RXKADINCONSISTENCY", errno.EPROTO),
    ("RXKADPACKETSHORT", errno.EPROTO),
    ("RXKADLEVELFAIL", errno.EACCES),
    ("RXKADTICKETLEN", errno.EACCES),
    ("RXKADOUTOFSEQUENCE", errno.EPROTO),
    ("RXKADNOAUTH", errno.EACCES),
    ("RXKADBADKEY", errno.EACCES),
    ("RXKADBADTICKET", errno.EACCES),
    ("RXKADUNKNOWNKEY", errno.EACCES),
    ("RXKADEXPIRED", errno.EACCES),
    ("RXKADSEALEDINCON", errno.EACCES),
    ("RXKADDATALEN", errno.EPROTO),
    ("RXKADILLEGALLEVEL", errno.EACCES),
)

_RXGK = (  # in the order of rxgk_errs.et
    ("RXGK_INCONSISTENCY", errno.EPROTO),
    ("RXGK_PACKETSHORT", errno.EPROTO),
    ("RXGK_BADCHALLENGE", errno.EPROTO),
    ("RXGK_BADETYPE", errno.ENOPKG),
    ("RXGK_BADLEVEL", errno.EKEYREJECTED),
    ("RXGK_BADKEYNO", errno.EKEYREJECTED),
    ("RXGK_EXPIRED", errno.EKEYEXPIRED),
    ("RXGK_NOTAUTH", errno.EKEYREJECTED),
    ("RXGK_BAD_TOKEN", errno.EKEYREJECTED),
    ("RXGK_SEALED_INCON", errno.EKEYREJECTED),
    ("RXGK_DATA_LEN", errno.EPROTO),
    ("RXGK_BAD_QOP", errno.EKEYREJECTED),
)

# The errno names of the unified table, in its order. Source: unified_afs.et.
_UAE_NAMES = """
EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK
EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE
EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP EWOULDBLOCK
ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO
EBADRQC EBADSLT EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM
EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX
ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN
ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN
ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOTRECOVERABLE ENOTSUP
EOTHER EOWNERDEAD EPROCLIM EDISCON
"""
# What has no errno here, or one that must not reach a program.
_UAE_SPECIAL = {
    "ENOENT": errno.ESTALE,  # calls name fids, not names: the file is gone
    "ERESTART": errno.EINTR,
    "EOTHER": errno.EREMOTEIO,
    "EPROCLIM": errno.EAGAIN,
    "EDISCON": errno.ESHUTDOWN,
}


def _build_table() -> Mapping[int, tuple[str, int]]:
    table: dict[int, tuple[str, int]] = dict(_RX)
    table |= {code: (code.name, number) for code, number in _VICE.items()}
    table |= _U
    table |= {_VL_BASE + i: (f"VL_{name}", number) for i, (name, number) in enumerate(_VL)}
    table |= {_RXK_BASE + i: entry for i, entry in enumerate(_RXK)}
    table |= {_RXGK_BASE + i: entry for i, entry in enumerate(_RXGK)}
    for i, name in enumerate(_UAE_NAMES.split()):
        number = _UAE_SPECIAL.get(name) or getattr(errno, name)
        table[_UAE_BASE + i] = (f"UA{name}", number)
    # Servers without error translation send their own errno: Linux's, we hope.
    for number, name in errno.errorcode.items():
        table.setdefault(number, (name, _UAE_SPECIAL.get(name, number)))
    return MappingProxyType(table)


ABORT_CODES = _build_table()
"""Abort code -> its name, and the errno that it becomes."""


def _build_unified() -> Mapping[int, int]:
    table: dict[int, int] = {}
    for i, name in enumerate(_UAE_NAMES.split()):
        if (number := getattr(errno, name, None)) is not None:
            table.setdefault(number, _UAE_BASE + i)
    return MappingProxyType(table)


_UNIFIED = _build_unified()


def unified(code: int) -> int:
    """What a server answers a client that understands unified errors in place of an errno.

    Codes of volumes stay as they are. Source: sys_error_to_et in viced/afsfileprocs.c.
    """
    if ViceCode.VSALVAGE <= code <= ViceCode.VIO or code == ViceCode.VRESTRICTED:
        return code
    return _UNIFIED.get(code, code)


def errno_of_abort(code: int) -> int:
    """The errno for an abort code, whatever a server sends; always within 1 and 4095."""
    entry = ABORT_CODES.get(code)
    return entry[1] if entry else errno.EREMOTEIO


def abort_name(code: int) -> str:
    """The code with its name, where it has one: `103 VNOVOL`."""
    entry = ABORT_CODES.get(code)
    return f"{code} {entry[0]}" if entry else str(code)


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
        _RXK_BASE + 2: (TokenRefused, "the server demands more encryption: mount with crypt=crypt"),
        _RXK_BASE + 3: (TokenRefused, "the server does not take so long a ticket"),
        _RXK_BASE + 5: (TokenRefused, "the server has nobody's token"),
        _RXK_BASE + 6: (TokenRefused, "the server does not take the key of the token"),
        _RXK_BASE + 7: (TokenRefused, "the token was made with another key than the server's"),
        _RXK_BASE + 8: (TokenRefused, "the server does not know the key of the token"),
        _RXK_BASE + 9: (TokenExpired, TokenExpired.MESSAGE),
        _RXK_BASE + 10: (TokenRefused, "the server cannot read what is sealed with the token"),
        _RXK_BASE + 12: (TokenRefused, "the server does not offer this level of encryption"),
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
    kind, message = _OF_ABORT.get(code, (ServerError, "the server refused"))
    if kind is ServerError and number == errno.EACCES:
        kind, message = NotPermitted, "the access list does not permit it"
    elif kind is ServerError and number == errno.ESTALE:
        kind, message = StaleInode, "the file does not exist any more"
    return kind(message, errno=number, cell=cell, volume=volume, server=server, code=code)
