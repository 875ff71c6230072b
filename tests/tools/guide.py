"""The parts of `docs/rxrpc.md` that are made from the source: `python -m tests.tools.guide`.

Each stands between two marks, `<!-- made from NAME -->` and `<!-- end -->`. The command writes what
is there now anew; a test fails when that would change anything.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rxrpc.core import parameters
from rxrpc.core.parameters import Parameters
from rxrpc.core.states import ACCEPTS, TRANSITIONS, CallState
from rxrpc.trace import DropReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GUIDE = Path(__file__).parent.parent.parent / "docs" / "rxrpc.md"
_MARKED = re.compile(r"(<!-- made from ([\w/. ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_COMMENT = re.compile(r"^ +([A-Z_]+) = .*?  # (.*)$", re.MULTILINE)
_BYTES = re.compile(r"Bytes|The largest datagram|What a peer or the network may reduce")
_PACKETS = re.compile(r"Packets\b|The most packets|Datagrams")


def reachable(start: CallState) -> set[CallState]:
    """Where a call may come to from a state, that one with it."""
    found, new = set[CallState](), {start}
    while new:
        found |= new
        new = {target for state in new for target in TRANSITIONS[state]} - found
    return found


def diagram(first: CallState) -> str:
    """The states of one role as a Mermaid diagram; ``first`` follows on WAITING."""
    states = reachable(first) | {CallState.WAITING}
    arrows = [
        f"    {source.name} --> {target.name}"
        for source in CallState
        for target in CallState
        if {source, target} <= states and target in TRANSITIONS[source]
    ]
    ends = [f"    {state.name} --> [*]" for state in CallState if not TRANSITIONS[state]]
    lines = ["stateDiagram-v2", f"    [*] --> {CallState.WAITING.name}", *arrows, *ends]
    return "\n".join(["```mermaid", *lines, "```"])


def meanings(members: type[enum.Enum]) -> dict[str, str]:
    """What the comment beside each member says; the last one of a member counts."""
    return dict(_COMMENT.findall(inspect.getsource(members)))


def listening() -> str:
    """What a call listens to in each state."""
    said = meanings(CallState)
    rows = ["| state | where the call is | listens to |", "|---|---|---|"]
    for state in CallState:
        kinds = ", ".join(kind.name for kind in sorted(ACCEPTS[state]))
        rows.append(f"| {state.name} | {said[state.name]} | {kinds or 'nothing'} |")
    return "\n".join(rows)


def drop_reasons() -> str:
    """Why packets have no effect."""
    said = meanings(DropReason)
    rows = ["| reason | |", "|---|---|"]
    rows += [f"| {reason.value} | {said.get(reason.name, '')} |" for reason in DropReason]
    return "\n".join(rows)


@dataclass(frozen=True)
class Tunable:
    """A field of `Parameters`, as its source explains it."""

    section: str
    name: str
    default: object
    explanation: str

    @property
    def unit(self) -> str:
        """What its number counts, as far as that can be told."""
        match self.default:
            case bool():
                return "yes or no"
            case enum.Enum():
                return "level"
            case bytes():
                return "text"
            case float():
                return "s"
            case None:
                return "s"
        if self.name.endswith("_per_second"):
            return "a second"
        if _BYTES.match(self.explanation):
            return "bytes"
        return "packets" if _PACKETS.match(self.explanation) else "number"

    @property
    def shown(self) -> str:
        """Its default."""
        match self.default:
            case bool():
                return "yes" if self.default else "no"
            case bytes():
                return f"`{self.default.decode()}`"
            case enum.Enum():
                return self.default.name
            case int():
                return f"{self.default:,}"
            case float():
                return f"{self.default:g}"
        return "none"


def tunables() -> Iterator[Tunable]:
    """All of them, in the order of the source."""
    source = inspect.getsource(parameters)
    (cls,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    lines = source.splitlines()
    section = ""
    defaults = {field.name: field.default for field in fields(Parameters)}
    for node, after in zip(cls.body, cls.body[1:], strict=False):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        heading = re.match(r" +# (.*)", lines[node.lineno - 3])
        section = heading[1] if heading else section
        assert isinstance(after, ast.Expr)
        text = ast.literal_eval(after.value)
        yield Tunable(section, node.target.id, defaults[node.target.id], " ".join(text.split()))


def parameter_table() -> str:
    """A row a tunable, a heading a section."""
    rows: list[str] = []
    section = None
    for one in tunables():
        if one.section != section:
            section = one.section
            rows += ["", f"**{section}**", "", "| name | default | unit | |", "|---|---:|---|---|"]
        rows.append(f"| `{one.name}` | {one.shown} | {one.unit} | {one.explanation} |")
    return "\n".join(rows[1:])


MADE: dict[str, Callable[[], str]] = {
    "core/states.py for clients": lambda: diagram(CallState.SENDING),
    "core/states.py for servers": lambda: diagram(CallState.REQUEST),
    "core/states.py": listening,
    "core/parameters.py": parameter_table,
    "trace.py": drop_reasons,
}


def renew(text: str) -> str:
    """The guide with its made parts as they should be."""

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}\n{MADE[found[2]]()}\n\n{found[3]}"

    return _MARKED.sub(replace, text)


def marks(text: str) -> list[str]:
    """What of the guide is made."""
    return [found[2] for found in _MARKED.finditer(text)]


if __name__ == "__main__":
    GUIDE.write_text(renew(GUIDE.read_text()))
    sys.exit()
