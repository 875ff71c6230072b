"""The one table from abort codes to errno: what a call was ended with, and what that comes to.

A server ends a call with a 32-bit number. Those below belong to families, most of which are tables
of com_err: a base that stands for the family's name, and the place of the code in the family. The
meanings are our own words; the errnos are what programs make the best of. They differ from those
of other clients where a program would be misled: above all, no code becomes ENOENT, which the
kernel would remember as the proof that a name is absent, and which only a directory can give.

Sources: rx.h, rxgen_consts.h, errors.h, unified_afs.et, uerrors.et, vl_errors.et, pterror.et,
rxkad_errs.et, rxgk_errs.et of OpenAFS; fs/afs/misc.c of Linux. `docs/abortcodes.md` shows it all.
"""

import enum
import errno
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class AbortCode(NamedTuple):
    """What is known of a code."""

    name: str
    errno: int
    """What a system call ends with."""
    meaning: str


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
U_BASE = 5376
PR_BASE = 267264
VL_BASE = 363520
RXK_BASE = 19270400
UAE_BASE = 49733376
RXGK_BASE = 1233242880


class VlCode(enum.IntEnum):
    """Those codes of the volume location service that mean something special to a client."""

    IO = VL_BASE + 1
    NOENT = VL_BASE + 4
    ENTDELETED = VL_BASE + 6
    BADNAME = VL_BASE + 7
    NOMEM = VL_BASE + 27


_RX = {
    -1: ("RX_CALL_DEAD", errno.ETIMEDOUT, "the peer has been silent for too long"),
    -2: ("RX_INVALID_OPERATION", errno.EOPNOTSUPP, "no such service, or not with this security"),
    -3: ("RX_CALL_TIMEOUT", errno.ETIMEDOUT, "the call took longer than it may"),
    -4: ("RX_EOF", errno.EPROTO, "fewer bytes came than the procedure wants"),
    -5: ("RX_PROTOCOL_ERROR", errno.EPROTO, "a packet that cannot be"),
    -6: ("RX_USER_ABORT", errno.ECONNABORTED, "whoever called gave up"),
    -7: ("RX_ADDRINUSE", errno.EREMOTEIO, "the port is taken"),
    -8: ("RX_MSGSIZE", errno.EMSGSIZE, "a packet was too large for the way"),
    -450: ("RXGEN_CC_MARSHAL", errno.EBADMSG, "the client cannot encode the arguments"),
    -451: ("RXGEN_CC_UNMARSHAL", errno.EBADMSG, "the client cannot decode the reply"),
    -452: ("RXGEN_SS_MARSHAL", errno.EBADMSG, "the server cannot encode the reply"),
    -453: ("RXGEN_SS_UNMARSHAL", errno.EBADMSG, "the server cannot decode the arguments"),
    -454: ("RXGEN_DECODE", errno.EBADMSG, "the number of the procedure cannot be decoded"),
    -455: ("RXGEN_OPCODE", errno.EOPNOTSUPP, "the server does not have the procedure"),
    -456: ("RXGEN_SS_XDRFREE", errno.EREMOTEIO, "the server cannot free its arguments"),
    -457: ("RXGEN_CC_XDRFREE", errno.EREMOTEIO, "the client cannot free its arguments"),
}

_VICE = {
    ViceCode.VSALVAGE: (errno.EIO, "the volume needs to be salvaged"),
    ViceCode.VNOVNODE: (errno.ESTALE, "the file does not exist any more"),
    ViceCode.VNOVOL: (errno.ENODEV, "the server does not have the volume"),
    ViceCode.VVOLEXISTS: (errno.EEXIST, "the volume exists already"),
    ViceCode.VNOSERVICE: (
        errno.ETIMEDOUT,
        "the volume is out of service; OpenAFS 1.4.8 to 1.6.24: an idle call was ended",
    ),
    ViceCode.VOFFLINE: (errno.ENXIO, "somebody took the volume off line"),
    ViceCode.VONLINE: (errno.EEXIST, "the volume is on line already"),
    ViceCode.VDISKFULL: (errno.ENOSPC, "the server's partition is full"),
    ViceCode.VOVERQUOTA: (errno.EDQUOT, "the volume's quota is used up"),
    ViceCode.VBUSY: (errno.EBUSY, "the volume is in use by its server"),
    ViceCode.VMOVED: (errno.ENODEV, "the volume has moved to another server"),
    ViceCode.VIO: (errno.EIO, "the vnode cannot be reached at the moment"),
    ViceCode.VSALVAGING: (errno.EBUSY, "the volume is being salvaged"),
    ViceCode.VRESTRICTED: (errno.EREMOTEIO, "the volume may not use this kind of storage"),
    ViceCode.VRESTARTING: (errno.EBUSY, "the server is restarting"),
}

_Family = Sequence[tuple[str, int, str]]

_U: _Family = (  # of the database servers among themselves, in the order of uerrors.et
    ("UNOQUORUM", errno.EAGAIN, "the database servers have not agreed on one of them"),
    ("UNOTSYNC", errno.EREMOTEIO, "another database server makes the changes"),
    ("UNHOSTS", errno.EREMOTEIO, "too many database servers"),
    ("UIOERROR", errno.EREMOTEIO, "the database or its log cannot be written"),
    ("UINTERNAL", errno.EREMOTEIO, "an error inside the database server"),
    ("USYNC", errno.EREMOTEIO, "the copies of the database have come apart"),
    ("UNOENT", errno.EREMOTEIO, "a file of the database is missing"),
    ("UBADLOCK", errno.EREMOTEIO, "a lock of a size that cannot be"),
    ("UBADLOG", errno.EREMOTEIO, "the database's log cannot be read"),
    ("UBADHOST", errno.EREMOTEIO, "a database server's name cannot be used"),
    ("UBADTYPE", errno.EREMOTEIO, "not in a transaction of this kind"),
    ("UTWOENDS", errno.EREMOTEIO, "a transaction was ended twice"),
    ("UDONE", errno.EREMOTEIO, "the transaction is over"),
    ("UNOSERVERS", errno.ETIMEDOUT, "no database server is up"),
    ("UEOF", errno.EREMOTEIO, "the database is shorter than it should be"),
    ("ULOGIO", errno.EREMOTEIO, "the database's log cannot be written"),
    ("UBADFAM", errno.EREMOTEIO, "an address of another family"),
    ("UBADCELL", errno.EREMOTEIO, "database servers of several cells"),
    ("UBADSECGRP", errno.EREMOTEIO, "the security group is missing or wrong"),
    ("UBADGROUP", errno.EREMOTEIO, "the server group is missing or wrong"),
    ("UBADUUID", errno.EREMOTEIO, "the server's UUID is missing or wrong"),
    ("UNOMEM", errno.EREMOTEIO, "the database server is out of memory"),
    ("UNOTMEMBER", errno.EREMOTEIO, "the host is none of the database servers"),
    ("UNBINDINGS", errno.EREMOTEIO, "too many bindings of a server"),
    ("UBADPRINNAME", errno.EREMOTEIO, "the server has another principal"),
    ("UPIPE", errno.EREMOTEIO, "a pipe of the database server broke"),
    ("UDEADLOCK", errno.EREMOTEIO, "given up so as not to wait for each other"),
    ("UEXCEPTION", errno.EREMOTEIO, "an exception in the database server's calls"),
    ("UTPQFAIL", errno.EREMOTEIO, "no thread for the vote"),
    ("USKEWED", errno.EREMOTEIO, "the database servers' clocks differ too much"),
    ("UNOLOCK", errno.EREMOTEIO, "the database's lock was not to be had"),
    ("UNOACCESS", errno.EACCES, "not for this caller"),
    ("UNOSPC", errno.EREMOTEIO, "the database's disk is full"),
    ("UBADPATH", errno.EREMOTEIO, "the database's path cannot be used"),
    ("UBADF", errno.EREMOTEIO, "the database's file is not open"),
    ("UREINITIALIZE", errno.EREMOTEIO, "begun anew before it was begun"),
    ("UMUTEXINIT", errno.EREMOTEIO, "a client's mutex cannot be made"),
    ("UMUTEXDESTROY", errno.EREMOTEIO, "a client's mutex cannot be destroyed"),
)

_PR: _Family = (  # of the protection service, in the order of pterror.et
    ("PREXIST", errno.EEXIST, "the name is taken"),
    ("PRIDEXIST", errno.EEXIST, "the number is taken"),
    ("PRNOIDS", errno.ENOSPC, "there is no free number"),
    ("PRDBFAIL", errno.EREMOTEIO, "the database cannot be read or written"),
    ("PRNOENT", errno.ESRCH, "no such user or group"),
    ("PRPERM", errno.EACCES, "not for this caller"),
    ("PRNOTGROUP", errno.EINVAL, "it is no group"),
    ("PRNOTUSER", errno.EINVAL, "it is no user"),
    ("PRBADNAM", errno.EINVAL, "this cannot be its name"),
    ("PRBADARG", errno.EINVAL, "an argument cannot be"),
    ("PRNOMORE", errno.EDQUOT, "this user may not make more groups"),
    ("PRDBBAD", errno.EREMOTEIO, "the database must be rebuilt"),
    ("PRGROUPEMPTY", errno.EINVAL, "an empty group cannot own anything"),
    ("PRINCONSISTENT", errno.EREMOTEIO, "the database contradicts itself"),
    ("PRDBADDR", errno.EREMOTEIO, "an address in the database cannot be"),
    ("PRTOOMANY", errno.E2BIG, "the group has more members than an answer holds"),
    ("PRNOMEM", errno.EREMOTEIO, "the server is out of memory"),
    ("PRINTERNAL", errno.EREMOTEIO, "an error inside the server"),
    ("PRNAMETOOLONG", errno.ENAMETOOLONG, "the name is longer than 63 characters"),
)

_VL: _Family = (  # of the volume location service, in the order of vl_errors.et
    ("VL_IDEXIST", errno.EEXIST, "the number is taken"),
    ("VL_IO", errno.EIO, "the database cannot be read or written"),
    ("VL_NAMEEXIST", errno.EEXIST, "the name is taken"),
    ("VL_CREATEFAIL", errno.EREMOTEIO, "the record cannot be made"),
    ("VL_NOENT", errno.ENODEV, "the cell has no such volume"),
    ("VL_EMPTY", errno.ENODEV, "the database is empty"),
    ("VL_ENTDELETED", errno.ENODEV, "the volume was deleted"),
    ("VL_BADNAME", errno.ENODEV, "this cannot be a volume's name"),
    ("VL_BADINDEX", errno.EINVAL, "a place in the database cannot be"),
    ("VL_BADVOLTYPE", errno.EINVAL, "no such type of volume"),
    ("VL_BADSERVER", errno.EINVAL, "this cannot be a server"),
    ("VL_BADPARTITION", errno.EINVAL, "this cannot be a partition"),
    ("VL_REPSFULL", errno.EFBIG, "the volume has as many sites as can be"),
    ("VL_NOREPSERVER", errno.ENODEV, "the volume has no such site"),
    ("VL_DUPREPSERVER", errno.EEXIST, "the volume has this site already"),
    ("VL_RWNOTFOUND", errno.ENODEV, "the read/write volume has no record"),
    ("VL_BADREFCOUNT", errno.EINVAL, "a count of references cannot be"),
    ("VL_SIZEEXCEEDED", errno.EINVAL, "the answer has no room for all"),
    ("VL_BADENTRY", errno.EINVAL, "the record cannot be"),
    ("VL_BADVOLIDBUMP", errno.EINVAL, "so many numbers cannot be taken"),
    ("VL_IDALREADYHASHED", errno.EINVAL, "the number is in the database twice"),
    ("VL_ENTRYLOCKED", errno.EBUSY, "somebody has locked the record"),
    ("VL_BADVOLOPER", errno.EBADRQC, "no such operation on a volume"),
    ("VL_BADRELLOCKTYPE", errno.EINVAL, "no such lock"),
    ("VL_RERELEASE", errno.EREMOTEIO, "the last release was not finished"),
    ("VL_BADSERVERFLAG", errno.EINVAL, "a site's flags cannot be"),
    ("VL_PERM", errno.EACCES, "not for this caller"),
    ("VL_NOMEM", errno.EREMOTEIO, "the server is out of memory"),
    ("VL_BADVERSION", errno.EREMOTEIO, "the database is of another version"),
    ("VL_INDEXERANGE", errno.EINVAL, "an index is out of range"),
    ("VL_MULTIPADDR", errno.EREMOTEIO, "two servers have one address"),
    ("VL_BADMASK", errno.EINVAL, "a mask of attributes cannot be"),
    ("VL_DBBAD", errno.EREMOTEIO, "the database contradicts itself"),
)

_RXK: _Family = (  # of rxkad, in the order of rxkad_errs.et
    ("RXKADINCONSISTENCY", errno.EPROTO, "the two ends disagree over the connection"),
    ("RXKADPACKETSHORT", errno.EPROTO, "a challenge or response is too short"),
    ("RXKADLEVELFAIL", errno.EACCES, "the server demands more protection"),
    ("RXKADTICKETLEN", errno.EACCES, "the ticket is too long or too short"),
    ("RXKADOUTOFSEQUENCE", errno.EPROTO, "a number in a challenge or response is wrong"),
    ("RXKADNOAUTH", errno.EACCES, "there is no token"),
    ("RXKADBADKEY", errno.EACCES, "the token's key is weak or broken"),
    ("RXKADBADTICKET", errno.EACCES, "the server cannot read the ticket"),
    ("RXKADUNKNOWNKEY", errno.EACCES, "the server does not have the key of the ticket"),
    ("RXKADEXPIRED", errno.EACCES, "the token has expired, or is not valid yet"),
    ("RXKADSEALEDINCON", errno.EACCES, "a packet's seal is wrong"),
    ("RXKADDATALEN", errno.EPROTO, "a packet is longer than its seal says"),
    ("RXKADILLEGALLEVEL", errno.EACCES, "this level of protection is not for this caller"),
)

_RXGK: _Family = (  # of rxgk, in the order of rxgk_errs.et
    ("RXGK_INCONSISTENCY", errno.EPROTO, "the two ends disagree over the connection"),
    ("RXGK_PACKETSHORT", errno.EPROTO, "a challenge or response is too short"),
    ("RXGK_BADCHALLENGE", errno.EPROTO, "a challenge that cannot be"),
    ("RXGK_BADETYPE", errno.ENOPKG, "the kind of encryption is not known or not allowed"),
    ("RXGK_BADLEVEL", errno.EKEYREJECTED, "the level of protection is not allowed"),
    ("RXGK_BADKEYNO", errno.EKEYREJECTED, "the server does not have the key of the token"),
    ("RXGK_EXPIRED", errno.EKEYEXPIRED, "the token has expired"),
    ("RXGK_NOTAUTH", errno.EKEYREJECTED, "not for this caller"),
    ("RXGK_BAD_TOKEN", errno.EKEYREJECTED, "the server cannot read the token"),
    ("RXGK_SEALED_INCON", errno.EKEYREJECTED, "a packet's seal is wrong"),
    ("RXGK_DATA_LEN", errno.EPROTO, "a packet is longer than it may be"),
    ("RXGK_BAD_QOP", errno.EKEYREJECTED, "there is not the protection that was asked for"),
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
_UAE_MEANINGS = {
    "EOTHER": "an error without a number",
    "EPROCLIM": "too many processes",
    "EDISCON": "disconnected",
}


def _unified_entry(name: str) -> AbortCode:
    """What a code of the unified table comes to."""
    own = getattr(errno, name, None)
    number = _UAE_SPECIAL.get(name) or own
    assert number is not None, name
    meaning = _UAE_MEANINGS.get(name) or os.strerror(number if own is None else own)
    return AbortCode(f"UA{name}", number, meaning[0].lower() + meaning[1:])


def _build_table() -> Mapping[int, AbortCode]:
    table = {code: AbortCode(*entry) for code, entry in _RX.items()}
    table |= {code: AbortCode(code.name, *entry) for code, entry in _VICE.items()}
    for base, family in (
        (U_BASE, _U), (PR_BASE, _PR), (VL_BASE, _VL), (RXK_BASE, _RXK), (RXGK_BASE, _RXGK)
    ):  # fmt: skip
        table |= {base + place: AbortCode(*entry) for place, entry in enumerate(family)}
    table |= {
        UAE_BASE + place: _unified_entry(name) for place, name in enumerate(_UAE_NAMES.split())
    }
    # Servers without error translation send their own errno: Linux's, we hope.
    for number, name in errno.errorcode.items():
        meaning = os.strerror(number)
        entry = AbortCode(name, _UAE_SPECIAL.get(name, number), meaning[0].lower() + meaning[1:])
        table.setdefault(number, entry)
    return MappingProxyType(table)


ABORT_CODES = _build_table()
"""What is known of each abort code."""


def _build_unified() -> Mapping[int, int]:
    table: dict[int, int] = {}
    for i, name in enumerate(_UAE_NAMES.split()):
        if (number := getattr(errno, name, None)) is not None:
            table.setdefault(number, UAE_BASE + i)
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
    return entry.errno if entry else errno.EREMOTEIO


def abort_name(code: int) -> str:
    """The code with its name, where it has one: `103 VNOVOL`."""
    entry = ABORT_CODES.get(code)
    return f"{code} {entry.name}" if entry else str(code)
