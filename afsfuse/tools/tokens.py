"""`afsfuse tokens`: what tokens the caller has, in the words of OpenAFS's command."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from afsfuse.control.places import tell_all
from afsfuse.tools.common import EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Shown = dict[str, Any]


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "tokens", "Show the tokens of this PAG, or else of this user. Keys are not shown."
    )
    known.add_argument("--json", action="store_true", help="for programs")
    known.add_argument(
        "--all", dest="everybody", action="store_true", help="those of everybody (root)"
    )
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    answers = [answer for _, answer in tell_all("tokens", all=given.everybody)]
    tokens = merged(token for answer in answers for token in answer["tokens"])
    now = time.time()
    if given.json:
        for token in tokens:
            token["expired"] = now >= token["end"]
        print(json.dumps({"identity": answers[0]["identity"], "tokens": tokens}, indent=2))
        return EXIT_OK
    print("\nTokens held by the Cache Manager:\n")
    for token in tokens:
        owner = f"{token['identity']}: " if given.everybody else ""
        print(owner + line(token, now))
    print("   --End of list--")
    return EXIT_OK


def merged(tokens: Iterable[Shown]) -> list[Shown]:
    """One for each owner and cell: several daemons may keep it. The one that lasts longest."""
    best: dict[tuple[str, str], Shown] = {}
    for token in tokens:
        owner = "pag" if token["identity"].startswith("pag-") else token["identity"]
        known = best.get((owner, token["cell"]))
        if known is None or known["end"] < token["end"]:
            best[owner, token["cell"]] = token
    return list(best.values())


def line(token: Shown, now: float) -> str:
    """What is said of one. The words are those that scripts look for. Source: tokens.c"""
    if token["viceid"] is not None:
        owner = f"User's (AFS ID {token['viceid']})"
    else:
        owner = f"User {token['client']}'s"
    end = ">> Expired <<" if now >= token["end"] else f"Expires {time.ctime(token['end'])[4:16]}"
    return f"{owner} rxkad tokens for {token['cell']} [{end}]"
