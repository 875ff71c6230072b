"""Access lists: who may do what in a directory, and the text in which servers keep that.

The text is a line with the number of positive entries, one with that of negative ones, and a line
for each entry, positive ones first: name, tab, rights as a decimal number. What negative entries
name is taken away whatever else is said, so the two kinds never meet in one list.
Sources: src/libacl/aclprocs.c of OpenAFS; prs_fs.h; CVE-2018-7168.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.interfaces.common import OPAQUE_MAX
from afsfuse.model import Rights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Entries = tuple[tuple[bytes, int], ...]
"""Names of users or groups, with their rights as numbers: servers may know more than `Rights`."""

NAME_MAX = 63  # Source: PR_MAXNAMELEN, which counts the NUL

_LETTERS = {
    **dict(zip("rlidwka", (1, 8, 4, 16, 2, 32, 64), strict=True)),
    **{letter: int(Rights.USR0) << number for number, letter in enumerate("ABCDEFGH")},
}
"""Letters of rights in the order in which `fs listacl` shows them. Source: prs_fs.h."""

_WORDS = {"none": 0, "read": 9, "write": 63, "all": 127, "mail": 44}  # Source: fs_setacl(1)

_COUNT = re.compile(rb"[ \t]*(\d{1,9})[ \t]*(?:\n|\Z)")
_ENTRY = re.compile(rb"[ \t]*([^\s\0]{1,%d})[ \t]+([^\s\0]{1,15})[ \t]*(?:\n|\Z)" % NAME_MAX)
_DFS = re.compile(rb"[ \t]*\d+[ \t]+dfs:")
_NUMBER = re.compile(rb"-?\d{1,10}")


class _Nonsense(Exception):
    """Why a text is no access list."""


def letters(rights: int) -> str:
    """Rights as people write them: `rlidwka` and `A` to `H`; bits without a letter as a number."""
    known = "".join(letter for letter, bit in _LETTERS.items() if rights & bit)
    rest = rights & ~sum(_LETTERS.values())
    return known + (f"+{rest:#x}" if rest else "") or "none"


def from_letters(text: str) -> int:
    """The inverse of `letters` for rights that have letters, and the words of `fs setacl`.

    Raises `ValueError` for any other.
    """
    if text in _WORDS:
        return _WORDS[text]
    try:
        return sum({_LETTERS[letter] for letter in text})
    except KeyError as exc:
        raise ValueError(f"no right has the letter {exc.args[0]!r}") from None


@dataclass(frozen=True, slots=True)
class AccessList:
    """The list of one directory."""

    positive: Entries = ()
    negative: Entries = ()

    @classmethod
    def from_server(cls, text: bytes) -> AccessList:
        """What a server sent, with or without the NUL that ends it in C.

        Raises `DataCorrupt` unless it is a list from its first byte to its last.
        """
        try:
            return _parse(text, _number)
        except _Nonsense as exc:
            raise DataCorrupt(f"a server sent what is no access list: {exc}") from None

    @classmethod
    def from_user(cls, text: bytes) -> AccessList:
        """What a user wants: rights may be letters, too, and gaps any blanks.

        Raises `AfsError`: EINVAL for what is no list or has one name twice, E2BIG for what is too
        long for servers.
        """
        try:
            made = _parse(text, _number_or_letters)
            for entries in (made.positive, made.negative):
                if len(dict(entries)) < len(entries):
                    raise _Nonsense("a name stands twice in it")
        except _Nonsense as exc:
            raise AfsError(f"this is no access list: {exc}", errno=errno.EINVAL) from None
        if len(made.text()) >= OPAQUE_MAX:  # with the NUL
            raise AfsError(
                f"an access list has at most {OPAQUE_MAX - 1} bytes of text", errno=errno.E2BIG
            )
        return made

    def text(self) -> bytes:
        """The text of servers, without the NUL; the exact inverse of `from_server`."""
        lines = [b"%d\n%d\n" % (len(self.positive), len(self.negative))]
        lines += [b"%s\t%d\n" % (name, _signed(rights)) for name, rights in self.positive]
        lines += [b"%s\t%d\n" % (name, _signed(rights)) for name, rights in self.negative]
        return b"".join(lines)

    @property
    def names(self) -> list[bytes]:
        """All names in it, each once."""
        return list(dict.fromkeys(name for name, _ in (*self.positive, *self.negative)))

    def without(self, names: Collection[bytes]) -> AccessList:
        """The list without the entries of some names."""
        return AccessList(
            tuple(entry for entry in self.positive if entry[0] not in names),
            tuple(entry for entry in self.negative if entry[0] not in names),
        )

    def with_entry(self, name: bytes, rights: str, *, negative: bool = False) -> AccessList:
        """The list with other rights for a name: letters or a word, which replace what it had; with
        a `+` behind them they are added to it, with a `-` taken away. A name without rights leaves.

        Raises `AfsError` with EINVAL for rights that are none. Source: fs_setacl(1).
        """
        entries = dict(self.negative if negative else self.positive)
        wanted, sign = rights, ""
        if rights[-1:] in ("+", "-"):
            wanted, sign = rights[:-1], rights[-1]
        try:
            bits = from_letters(wanted)
        except ValueError as exc:
            raise AfsError(f"{rights!r} are no rights: {exc}", errno=errno.EINVAL) from None
        had = entries.get(name)
        bits = {"": bits, "+": (had or 0) | bits, "-": (had or 0) & ~bits}[sign]
        if had is None:
            entries = {name: bits, **entries}
        entries[name] = bits
        changed = tuple(entry for entry in entries.items() if entry[1])
        if negative:
            return AccessList(self.positive, changed)
        return AccessList(changed, self.negative)

    def over(self, other: AccessList) -> AccessList:
        """This list, and those entries of another one whose names it does not have."""
        return AccessList(
            tuple({**dict(self.positive), **dict(other.positive), **dict(self.positive)}.items()),
            tuple({**dict(self.negative), **dict(other.negative), **dict(self.negative)}.items()),
        )

    def __str__(self) -> str:
        """One line for people, such as `alice rlidwka, system:anyuser l, not bob w`."""
        shown = [f"{_shown(name)} {letters(rights)}" for name, rights in self.positive]
        shown += [f"not {_shown(name)} {letters(rights)}" for name, rights in self.negative]
        return ", ".join(shown) or "nobody"


def _parse(text: bytes, rights_of: Callable[[bytes], int]) -> AccessList:
    text, _, behind = text.partition(b"\0")
    if behind.strip(b"\0"):
        raise _Nonsense("there is something behind its end")
    if _DFS.match(text):
        raise _Nonsense("it is one of DFS")
    at = 0
    counts = []
    for _ in range(2):
        count = _COUNT.match(text, at)
        if count is None:
            raise _Nonsense("it does not begin with two counts")
        counts.append(int(count[1]))
        at = count.end()
    lists: list[Entries] = []
    for number in counts:
        entries: list[tuple[bytes, int]] = []
        for _ in range(number):
            entry = _ENTRY.match(text, at)
            if entry is None:
                raise _Nonsense(f"entry {sum(map(len, lists)) + len(entries) + 1} makes no sense")
            entries.append((entry[1], rights_of(entry[2])))
            at = entry.end()
        lists.append(tuple(entries))
    if text[at:].strip():
        raise _Nonsense("it has more entries than it says")
    return AccessList(*lists)


def _number(text: bytes) -> int:
    """Rights as servers write them: the number is printed with a sign."""
    if not _NUMBER.fullmatch(text) or not -(2**31) <= int(text) < 2**32:
        raise _Nonsense(f"{_shown(text)} are no rights")
    return int(text) & 0xFFFFFFFF


def _number_or_letters(text: bytes) -> int:
    if text[:1].isdigit() or text[:1] == b"-":
        return _number(text)
    try:
        return from_letters(text.decode("ascii", "replace"))
    except ValueError as exc:
        raise _Nonsense(str(exc)) from None


def _signed(rights: int) -> int:
    return rights - 2**32 if rights >= 2**31 else rights


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
