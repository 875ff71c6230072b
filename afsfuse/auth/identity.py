"""Who is asking: the identity that tokens belong to.

It is the PAG that the caller is in, and else its uid. A PAG is a tree of processes: the one that
`afsfuse pagsh` made its root, and all its descendants. The kernel keeps the parent of each process
and lets nobody choose it, so whoever is not in the tree cannot get into it. docs/identity.md says
why it is that and not a group.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afsfuse.auth.processes import TooDeep, Unclear, kin, lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afsfuse.auth.processes import Process

_NOBODY = 65534
_REMEMBERED = 1 << 15  # threads and ancestors of theirs
_UNCLEAR = ""  # in place of a PAG: what is below it is too deep
_TEXT = re.compile(r"uid-(0|[1-9][0-9]{0,9})|pag-([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Caller:
    """The thread behind a request. `tid` 0: no thread waits, so none can be interrupted."""

    uid: int
    gid: int
    tid: int


ANONYMOUS = Caller(_NOBODY, _NOBODY, 0)
"""Nobody in particular."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom tokens belong to: a PAG or a user. Nobody is neither, and never has a token."""

    uid: int | None = None
    pag: str | None = None

    @property
    def text(self) -> str:
        """`uid-1000`, `pag-0123456789abcdef`; part of a file's name."""
        if self.pag is not None:
            return f"pag-{self.pag}"
        return "nobody" if self.uid is None else f"uid-{self.uid}"

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """The inverse of `text`; None for anything else, and for nobody."""
        if (match := _TEXT.fullmatch(text)) is None:
            return None
        return cls(pag=match[2]) if match[2] else cls(uid=int(match[1]))


NOBODY = Identity()


@functools.lru_cache(_REMEMBERED)
def _of_user(uid: int) -> Identity:
    """One object for each user: requests ask for it all the time."""
    return Identity(uid=uid)


class Identities:
    """Finds identities, and remembers those of threads while that is sound.

    `roots` are the PAGs that live, by their root processes. Call `changed` whenever they did.

    What is remembered of a thread holds as long as its start is the same, that is, as long as it
    is this thread: it cannot leave a PAG but by the end of the PAG's root, and it cannot come into
    one but by becoming a root itself, and both change `roots`. While no PAG lives, nothing is read.

    What was found is remembered of the ancestors, too. So the children of a process cost a look at
    this one, however deep it is: all users wait meanwhile, and whoever likes makes a deep tree.
    """

    def __init__(
        self,
        roots: Mapping[Process, str],
        *,
        read: Callable[[int], tuple[Process, int]] = kin,
        ancestors: Callable[[int, Callable[[Process], bool]], list[Process]] = lineage,
    ) -> None:
        self._roots = roots
        self._read = read
        self._ancestors = ancestors
        self._known: dict[int, tuple[Process, str | None]] = {}

    def changed(self) -> None:
        """A PAG began or ended."""
        self._known.clear()

    def of(self, caller: Caller) -> Identity:
        """The identity of the thread behind a request.

        A thread that the daemon cannot see (thread 0: it is in another pid namespace, or it is
        the kernel itself) is in no PAG. One that is gone or whose ancestors remain unclear has no
        rights at all: nobody waits for the answer, or it is not known who does.
        """
        if not self._roots or not caller.tid:
            return _of_user(caller.uid)
        try:
            pag = self._pag_of(caller.tid)
        except Unclear:
            return NOBODY
        return _of_user(caller.uid) if pag is None else Identity(pag=pag)

    def _pag_of(self, tid: int) -> str | None:
        process = self._read(tid)[0]
        pag = self._known[tid][1] if self._is_known(process) else self._learn(tid)
        if pag == _UNCLEAR:
            raise Unclear
        return pag

    def _is_known(self, process: Process) -> bool:
        known = self._known.get(process.pid)
        return known is not None and known[0] == process

    def _is_clear(self, process: Process) -> bool:
        """Whether no ancestors of a process need be looked at."""
        return process in self._roots or self._is_known(process)

    def _learn(self, tid: int) -> str | None:
        """Find out in which PAG a thread and its ancestors are. -> that of the thread"""
        pag: str | None = None
        try:
            line = self._ancestors(tid, self._is_clear)
        except TooDeep as exc:
            # What is deep down is as good as too deep: else each of its children would cost a walk.
            line, pag = exc.line[: len(exc.line) // 2], _UNCLEAR
        else:
            if self._is_known(line[-1]):
                pag = self._known[line[-1].pid][1]
        if len(self._known) + len(line) > _REMEMBERED:
            self._known.clear()
        for process in reversed(line):
            pag = self._roots.get(process, pag)
            self._known[process.pid] = process, pag
        return pag
