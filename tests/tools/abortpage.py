"""The tables of `docs/abortcodes.md`: `python -m tests.tools.abortpage` writes them anew.

They are made from `afsfuse.abortcodes`, and from what other clients make of the same codes, which
stands here as facts: `LINUX` after fs/afs/misc.c of Linux 6, `OPENAFS` after afs_error.c and
afs_analyze.c of OpenAFS. Where we say something else, `REASONS` tells why.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from afsfuse import abortcodes
from afsfuse.abortcodes import ABORT_CODES, errno_of_abort
from afsfuse.errors import from_abort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE = Path(__file__).parent.parent.parent / "docs" / "abortcodes.md"
_MARK = "<!-- made from abortcodes.py -->"

BY_NAME = {entry.name: code for code, entry in ABORT_CODES.items()}

_SAME = (  # of the unified table Linux knows these, each as the errno that it is named after
    "EPERM ENOENT EAGAIN EACCES EBUSY EEXIST ENOTDIR EISDIR EFBIG ENOSPC EROFS EMLINK EDEADLK "
    "ENAMETOOLONG ENOLCK ENOTEMPTY ELOOP EOVERFLOW ENOMEDIUM EDQUOT"
)
_LINUX = """
VSALVAGE=EIO VNOVNODE=ENOENT VNOVOL=ENOMEDIUM VVOLEXISTS=EEXIST VNOSERVICE=EIO VOFFLINE=ENOENT
VONLINE=EEXIST VDISKFULL=ENOSPC VOVERQUOTA=EDQUOT VBUSY=EBUSY VMOVED=ENXIO VL_IDEXIST=EEXIST
VL_IO=EREMOTEIO VL_NAMEEXIST=EEXIST VL_CREATEFAIL=EREMOTEIO VL_NOENT=ENOMEDIUM VL_EMPTY=ENOMEDIUM
VL_ENTDELETED=ENOMEDIUM VL_BADNAME=EINVAL VL_BADINDEX=EINVAL VL_BADVOLTYPE=EINVAL
VL_BADSERVER=EINVAL VL_BADPARTITION=EINVAL VL_REPSFULL=EFBIG VL_NOREPSERVER=ENOENT
VL_DUPREPSERVER=EEXIST VL_RWNOTFOUND=ENOENT VL_BADREFCOUNT=EINVAL VL_SIZEEXCEEDED=EINVAL
VL_BADENTRY=EINVAL VL_BADVOLIDBUMP=EINVAL VL_IDALREADYHASHED=EINVAL VL_ENTRYLOCKED=EBUSY
VL_BADVOLOPER=EBADRQC VL_BADRELLOCKTYPE=EINVAL VL_RERELEASE=EREMOTEIO VL_BADSERVERFLAG=EINVAL
VL_PERM=EACCES VL_NOMEM=EREMOTEIO RXKADINCONSISTENCY=EPROTO RXKADPACKETSHORT=EPROTO
RXKADLEVELFAIL=EKEYREJECTED RXKADTICKETLEN=EKEYREJECTED RXKADOUTOFSEQUENCE=EPROTO
RXKADNOAUTH=EKEYREJECTED RXKADBADKEY=EKEYREJECTED RXKADBADTICKET=EKEYREJECTED
RXKADUNKNOWNKEY=EKEYREJECTED RXKADEXPIRED=EKEYEXPIRED RXKADSEALEDINCON=EKEYREJECTED
RXKADDATALEN=EKEYREJECTED RXKADILLEGALLEVEL=EKEYREJECTED RXGEN_OPCODE=ENOTSUP
"""
_OPENAFS = """
VSALVAGE=ENODEV VNOVNODE=EIO VNOVOL=ENODEV VNOSERVICE=ETIMEDOUT VOFFLINE=ENODEV VDISKFULL=ENOSPC
VOVERQUOTA=EDQUOT VBUSY=EWOULDBLOCK VMOVED=ENODEV VRESTARTING=EWOULDBLOCK RX_CALL_DEAD=ETIMEDOUT
RX_CALL_TIMEOUT=ETIMEDOUT
"""


def _facts(text: str) -> dict[int, str]:
    return {BY_NAME[name]: number for name, number in (word.split("=") for word in text.split())}


LINUX = _facts(_LINUX) | {BY_NAME[f"UA{name}"]: name for name in _SAME.split()}
OPENAFS = _facts(_OPENAFS) | {
    code: entry.name.removeprefix("UA")
    for code, entry in ABORT_CODES.items()
    if entry.name.startswith("UAE") and hasattr(errno, entry.name.removeprefix("UA"))
}

_ABSENT = "ENOENT would have the kernel remember that the name is absent"
_TOKEN = "programs know EACCES, and go on with the next file; the log tells which it was"
_NO_VOLUME = "`no such device` fits a missing volume; ENOMEDIUM is not known to programs"
REASONS = {
    "VSALVAGE": "it does not pass without an administrator; the log and `afsfuse status` name it",
    "VNOVNODE": f"the file behind a fid is gone, which is ESTALE; {_ABSENT}",
    "VNOVOL": _NO_VOLUME,
    "VNOSERVICE": "servers ended idle calls with it: another try may do",
    "VOFFLINE": f"ENXIO is told apart from a volume that does not exist (ENODEV); {_ABSENT}",
    "VBUSY": "EAGAIN is for descriptors that do not block",
    "VRESTARTING": "EAGAIN is for descriptors that do not block",
    "VMOVED": "it is told only if the volume was found nowhere: the same as VNOVOL",
    "VL_IO": "a disk of the cell failed; nothing is known of the volume",
    "VL_NOENT": _NO_VOLUME,
    "VL_EMPTY": _NO_VOLUME,
    "VL_ENTDELETED": _NO_VOLUME,
    "VL_BADNAME": "the name stands in a mount point, which is not the program's mistake",
    "VL_NOREPSERVER": _ABSENT,
    "VL_RWNOTFOUND": _ABSENT,
    "RXKADLEVELFAIL": _TOKEN,
    "RXKADTICKETLEN": _TOKEN,
    "RXKADNOAUTH": _TOKEN,
    "RXKADBADKEY": _TOKEN,
    "RXKADBADTICKET": _TOKEN,
    "RXKADUNKNOWNKEY": _TOKEN,
    "RXKADEXPIRED": _TOKEN,
    "RXKADSEALEDINCON": _TOKEN,
    "RXKADILLEGALLEVEL": _TOKEN,
    "RXKADDATALEN": "the packet is wrong, not the token",
    "UAENOENT": f"calls name fids: the file is gone, which is ESTALE; {_ABSENT}",
    "UAERESTART": "only the kernel itself may see ERESTART",
}

_FAMILIES = (
    ("Rx", -10, 0), ("Rx's generated stubs (RXGEN)", -460, -449),
    ("Volumes and vnodes, of file servers", 101, 121), ("", -101, -99),
    ("Database servers among themselves (Ubik)", abortcodes.U_BASE, abortcodes.U_BASE + 256),
    ("Protection service", abortcodes.PR_BASE, abortcodes.PR_BASE + 256),
    ("Volume location service", abortcodes.VL_BASE, abortcodes.VL_BASE + 256),
    ("rxkad", abortcodes.RXK_BASE, abortcodes.RXK_BASE + 256),
    ("rxgk", abortcodes.RXGK_BASE, abortcodes.RXGK_BASE + 256),
    ("Unified errors (UAE)", abortcodes.UAE_BASE, abortcodes.UAE_BASE + 256),
)  # fmt: skip


def name_of(number: int) -> str:
    """An errno in letters."""
    return errno.errorcode[number]


def differences(theirs: Mapping[int, str]) -> dict[int, str]:
    """The codes of which another client makes something else, and what."""
    return {
        code: number
        for code, number in theirs.items()
        if getattr(errno, number) != errno_of_abort(code)
    }


def _codes() -> Iterator[str]:
    for heading, low, high in _FAMILIES:
        if heading:
            yield from ("", f"## {heading}", "")
            yield "| code | name | errno | error | meaning |"
            yield "|---:|---|---|---|---|"
        for code in sorted(code for code in ABORT_CODES if low <= code < high):
            entry = ABORT_CODES[code]
            if entry.name in errno.errorcode.values():
                continue  # a number of the system's own, between those of volumes
            kind = type(from_abort(code)).__name__
            yield f"| {code} | {entry.name} | {name_of(entry.errno)} | {kind} | {entry.meaning} |"


def _comparison() -> Iterator[str]:
    yield from ("", "## Where other clients say something else", "")
    yield "| name | here | Linux's kafs | OpenAFS | why |"
    yield "|---|---|---|---|---|"
    linux, openafs = differences(LINUX), differences(OPENAFS)
    for code in ABORT_CODES:
        if code in linux or code in openafs:
            entry = ABORT_CODES[code]
            theirs = [facts.get(code, "-") for facts in (LINUX, OPENAFS)]
            yield (
                f"| {entry.name} | {name_of(entry.errno)} | {theirs[0]} | {theirs[1]} "
                f"| {REASONS[entry.name]} |"
            )


def tables() -> str:
    """All that is made, from the first line on."""
    return "\n".join((_MARK, *_comparison(), *_codes(), ""))


def renewed(text: str) -> str:
    """The page with its tables as they should be."""
    return text.partition(_MARK)[0] + tables()


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
