"""What a block of commands needs, said by one word behind the language in the line of its fence.

==============  ================================================================================
cell            a shell of alice's, the cell example.org mounted on /afs
apart           the same, but nothing is mounted yet: the block mounts, and unmounts again
checkout        the folder of the source; nothing of a cell
stays           as `cell`, but each line goes on until Ctrl-C, while others work in the cell
listening       `python -m rxrpc listen` at 127.0.0.1:7009
real            OpenAFS's own servers and a KDC: root, and Debian's packages
by=TEST         run by a test of its own: `by=tests/FILE.py::FUNCTION`
dry=REASON      what is too long, changes the machine, or is this suite itself: it is only tried,
                by `make -n` and `apt-get -s`
skip=REASON     not run at all
==============  ================================================================================

A block in `console` has, behind each command, what it prints. There is no other way to leave a
command out: a block without a word, or with another one, fails the test.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from tests.docs.pages import Block

COMMANDS = ("sh", "console")
"""Languages of blocks that are run."""
OTHERS = ("text", "mermaid", "python", "toml", "fstab")
"""Languages of blocks in which there are no commands."""


class Need(enum.Enum):
    """The words."""

    CELL = "cell"
    APART = "apart"
    CHECKOUT = "checkout"
    STAYS = "stays"
    LISTENING = "listening"
    REAL = "real"
    BY = "by"
    DRY = "dry"
    SKIP = "skip"


class Understood(NamedTuple):
    """What a block needs, and the reason or the test that was given."""

    need: Need
    detail: str


_DETAILED = (Need.BY, Need.DRY, Need.SKIP)


def understand(block: Block) -> Understood:
    """Raises ValueError for a block that nobody knows how to run."""
    word, equals, detail = block.words.partition("=")
    try:
        need = Need(word)
    except ValueError:
        raise ValueError(f"{block}: {block.words!r} says nothing of what it needs") from None
    if (need in _DETAILED) != bool(equals and detail.strip()):
        raise ValueError(f"{block}: {word} needs a reason, or takes none")
    if need is Need.BY:
        _check_test(block, detail)
    return Understood(need, detail)


def _check_test(block: Block, name: str) -> None:
    """ValueError where there is no such test, or its file neither reads the page nor knows of such
    commands.
    """
    path, _, function = name.partition("::")
    source = ROOT / path
    if not (path.startswith("tests/") and function and source.is_file()):
        raise ValueError(f"{block}: {name}: no such test")
    text = source.read_text()
    if not re.search(rf"^(async )?def {function}\(", text, re.MULTILINE):
        raise ValueError(f"{block}: {name}: no such test")
    if Path(block.page).name in text:
        return
    for command in commands(block):
        words = re.sub(r"(^| )#.*", "", command.text).removeprefix("sudo ").split()
        told = [word for word in words[1:] if re.fullmatch(r"[a-z][\w.-]*", word)]
        for word in told[:2]:
            if not re.search(rf"\b{re.escape(word)}\b", text):
                raise ValueError(f"{block}: {name}: nothing of {word!r} is in that file")


class Command(NamedTuple):
    """A command, and what is said to be printed by it."""

    text: str
    printed: str


def commands(block: Block) -> list[Command]:
    """The commands of a block, in their order; those of `sh` print what they like."""
    if block.language == "console":
        if not block.text.startswith("$ "):
            raise ValueError(f"{block}: a command begins with '$ '")
        steps = (step.partition("\n") for step in f"\n{block.text}".split("\n$ ")[1:])
        return [Command(command, printed) for command, _, printed in steps]
    joined = block.text.replace("\\\n", " ")
    lines = (line for line in joined.splitlines() if line.strip())
    return [Command(line, "") for line in lines if not line.lstrip().startswith("#")]
