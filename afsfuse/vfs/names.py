"""Names as bytes: how long they may be, what `@sys` stands for, and which could name a cell.

Names are never decoded: AFS stores bytes, and directories written by old systems hold names that
are no UTF-8.
"""

import platform
import re
from collections.abc import Iterable

from afsfuse.errors import NameTooLong

NAME_MAX = 255
"""Bytes of the longest name that a directory can hold. Source: src/dir/dir.h (256 with the NUL)."""

SYS_SUFFIX = b"@sys"

_MACHINES = {
    "x86_64": "amd64",
    "i386": "i386",
    "i586": "i386",
    "i686": "i386",
    "aarch64": "arm64",
}
"""`uname -m` to the word in OpenAFS's system names. Source: SYS_NAME in src/config/param.*.h."""


def default_sysnames(machine: str | None = None) -> tuple[bytes, ...]:
    """The `@sys` list of a Linux machine: OpenAFS's word, then the kernel client's if different."""
    machine = machine or platform.machine()
    names = [f"{_MACHINES.get(machine, machine)}_linux26", f"{machine}_linux26"]
    return tuple(name.encode() for name in dict.fromkeys(names))


def check_length(name: bytes) -> None:
    """Refuse what no directory can hold; the kernel lets up to 1024 bytes through to FUSE."""
    if len(name) > NAME_MAX:
        raise NameTooLong(f"name of {len(name)} bytes; AFS allows {NAME_MAX}")


def sys_candidates(name: bytes, sysnames: Iterable[bytes]) -> tuple[bytes, ...]:
    """The names to search for in place of one that ends in `@sys`, in order.

    The name itself comes last, for a directory that really holds it. A replacement that would be
    too long for any directory is left out.
    """
    stem = name[: -len(SYS_SUFFIX)]
    replaced = (stem + sysname for sysname in sysnames)
    return (*(candidate for candidate in replaced if len(candidate) <= NAME_MAX), name)


_CELL_LABEL = re.compile(rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_TOP_LABEL = re.compile(rb"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
_CELL_MAX = 253

# What programs look for in every directory and would be a host name by its form.
_PROBED_NAMES = frozenset(
    b"setup.py manage.py conftest.py readme.md install.sh autorun.sh configure.ac makefile.am"
    b" index.pl main.rs lib.rs build.rs build.sh main.py version.sh".split()
)
# Last labels of file names. None of them is a top-level domain, which is why .zip, .sh, .py, .md,
# .rs, .pl, .so, .ps and .cab are not here.
_FILE_EXTENSIONS = frozenset(
    b"inf ini db jpg jpeg png gif svg ico bmp webp txt html htm xhtml php asp jsp xml json jsonc"
    b" toml cfg conf config yaml yml lock log tmp temp bak swp orig rej exe dll sys bat cmd lnk url"
    b" msi iso img desktop theme gradle kts bazel bzl tar tgz gz xz bz deb rpm apk jar class java"
    b" js mjs cjs ts tsx jsx css scss pdf doc docx odt xls xlsx ods ppt pptx csv tsv rst tex"
    b" hpp cpp cxx lib pyc pyd pyi ipynb rb erb go sum mod lua vim wav ogg flac avi"
    b" mkv sqlite pem crt key gpg sig asc crdownload torrent service socket mount automount"
    b" hidden gitignore plist out nfo sfv cue m3u".split()
)


def may_name_a_cell(name: bytes) -> bool:
    """Whether it makes sense to ask DNS for a cell of this name (without the dot of `/afs/.CELL`).

    File managers, shells and build tools look for names such as `.Trash-1000`, `autorun.inf` or
    `package.json` in every directory; in the dynamic root each would be a DNS query. A cell name
    is a host name: at least two labels of letters, digits, hyphens and underscores, the last one
    alphabetic (or an internationalised one) and not what file names end in. Cells that are named
    in CellServDB need not pass this.
    """
    folded = name.lower()
    if len(folded) > _CELL_MAX or folded in _PROBED_NAMES:
        return False
    *labels, top = folded.split(b".")
    return (
        bool(labels)
        and _TOP_LABEL.fullmatch(top) is not None
        and top not in _FILE_EXTENSIONS
        and all(_CELL_LABEL.fullmatch(label) for label in labels)
    )
