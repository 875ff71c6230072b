"""`afsfuse serverprefs`: the file servers, how far they are, and which of them to ask first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from afsfuse.cell.ranks import parse_network, parse_rank
from afsfuse.control.places import ask_each
from afsfuse.errors import UsageError
from afsfuse.tools.commandline import EXIT_USAGE
from afsfuse.tools.common import EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    Shown = dict[str, Any]


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "serverprefs",
        "Show the file servers that the mounts of this machine use: a line for each address, with "
        "its rank (the lower, the sooner it is asked; 40000 without a rule) and its round trip. "
        "Among replicas of equal rank the nearer one is asked.",
    )
    known.add_argument("--json", action="store_true", help="for programs")
    what = known.add_mutually_exclusive_group()
    what.add_argument(
        "--set", nargs=2, metavar=("ADDRESS", "RANK"),
        help="give an address, or a network such as 192.0.2.0/24, a rank from 0 to 65534",
    )  # fmt: skip
    what.add_argument("--unset", metavar="ADDRESS", help="take a rule away")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    wanted: Shown = {}
    try:
        if given.set is not None:
            wanted = {"network": str(parse_network(given.set[0])), "rank": given.set[1]}
            parse_rank(given.set[1])
        elif given.unset is not None:
            wanted = {"network": str(parse_network(given.unset)), "rank": None}
    except ValueError as exc:
        raise UsageError(f"serverprefs: {exc}", exit_code=EXIT_USAGE) from None
    answers = ask_each("serverprefs", **wanted)
    if given.json:
        print(json.dumps({"mounts": answers}, indent=2))
        return EXIT_OK
    for answer in answers:
        for text in lines(answer):
            print(text)
    return EXIT_OK


def lines(answer: Shown) -> list[str]:
    """What is said of the servers of one mount."""
    said = [
        f"{server['cell']:<24} {one['address']:<16} {one['rank']:>5}  {_state(server, one)}"
        for server in sorted(answer["servers"], key=lambda server: server["cell"])
        for one in server["addresses"]
    ]
    said += [f"rule: {rule['network']} {rule['rank']}" for rule in answer["rules"]]
    return said or ["No file server was used yet."]


def _state(server: Shown, one: Shown) -> str:
    if not server["up"]:
        return "does not answer"
    words = "not measured" if one["rtt"] is None else f"{1000 * one['rtt']:.1f} ms"
    return f"{words}, in use" if one["address"] == server["used"] else words
