"""Access lists: `listacl`, `setacl`, `copyacl`, `cleanacl`, `getcalleraccess`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from afsfuse.errors import AfsError, printable
from afsfuse.tools import complain
from afsfuse.tools.daemons import of
from afsfuse.tools.fs import EXIT_FAILED
from afsfuse.tools.fs.doing import as_json, each, gather, refuse
from afsfuse.tools.fs.syntax import wrong
from afsfuse.tools.fs.trees import below
from afsfuse.tools.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.tools.daemons import Served
    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given


def listacl(given: Given) -> int:
    """Show access lists; of a file that of its directory."""
    _refuse_dfs(given)
    answers, status = gather(given.paths, lambda served: served.ask("acl"))
    if given.json:
        as_json(lists=answers)
        return status
    for number, answer in enumerate(answers):
        if given.flag("cmd"):
            for command in as_commands(answer):
                print(command)
            continue
        if number:
            print()
        print(f"Access list for {printable(answer['path'])} is")
        for line in entries(answer):
            print(line)
    return status


def entries(answer: Shown) -> Iterator[str]:
    """The lines for what is in a list, as OpenAFS shows them."""
    for kind, title in (("positive", "Normal rights:"), ("negative", "Negative rights:")):
        if answer[kind]:
            yield title
            yield from (f"  {printable(name)} {rights}" for name, rights in answer[kind])


def as_commands(answer: Shown) -> Iterator[str]:
    """Commands that make such a list."""
    for kind, behind in (("positive", ""), ("negative", " -negative")):
        if answer[kind]:
            path = printable(shlex.quote(answer["path"]))
            pairs = "".join(f"  {printable(name)} {rights}" for name, rights in answer[kind])
            yield f"fs setacl -dir {path} -acl {pairs}{behind}"


def setacl(given: Given) -> int:
    """Set entries of access lists."""
    _refuse_dfs(given)
    words = given.many("acl")
    if len(words) % 2:
        raise wrong(f"fs setacl: {words[-1]!r} is without rights: pairs are expected")
    pairs = [list(pair) for pair in zip(words[::2], words[1::2], strict=True)]
    return _change(
        given, given.many("dir"), "set-acl",
        entries=pairs, clear=given.flag("clear"), negative=given.flag("negative"),
    )  # fmt: skip


def copyacl(given: Given) -> int:
    """Copy an access list to other directories, or to whole trees of them."""
    _refuse_dfs(given)
    source = given.many("fromdir")[0]
    try:
        with of(source) as served:
            copied = served.ask("acl")
    except (AfsError, OSError) as exc:
        return refuse(source, exc)
    return _change(
        given, given.many("todir"), "set-acl",
        trees=given.flag("recursive"), copy=copied, clear=given.flag("clear"),
    )  # fmt: skip


def cleanacl(given: Given) -> int:
    """Drop entries of users and groups that are gone."""
    answers, status = gather(given.paths, lambda served: served.ask("clean-acl"))
    if given.json:
        as_json(lists=answers)
        return status
    for number, answer in enumerate(answers):
        path = printable(answer["path"])
        if not answer["dropped"]:
            print(f"Access list for {path} is fine.")
            continue
        if number:
            print()
        print(f"Access list for {path} is now")
        for line in entries(answer):
            print(line)
    return status


def getcalleraccess(given: Given) -> int:
    """Show what rights the caller has."""
    answers, status = gather(given.paths, lambda served: served.ask("rights"))
    if given.json:
        as_json(rights=answers)
        return status
    for answer in answers:
        print(f"Callers access to {printable(answer['path'])} is {answer['rights']}")
    return status


def _change(
    given: Given, tops: list[str], verb: str, *, trees: bool = False, **arguments: object
) -> int:
    """Change the lists of directories; entries that go with that are named.

    `trees`: also of all directories below these, which a terminal shows the progress of.
    """
    answers: list[Shown] = []
    failures: list[str] = []
    with Progress() as progress:

        def change(served: Served) -> None:
            progress.show(f"{len(answers)} lists are set; {printable(served.path)}")
            answer = served.ask(verb, **arguments)
            answers.append({"path": served.path, **answer})
            if answer["dropped"]:
                gone = printable(", ".join(answer["dropped"]))
                progress.clear()
                complain(f"{printable(served.path)}: dropped, as nobody has these numbers: {gone}")

        def failed(path: str, why: AfsError | OSError) -> int:
            failures.append(path)
            progress.clear()
            return refuse(path, why)

        paths = (path for top in tops for path in below(top, failed)) if trees else tops
        each(paths, change, refused=failed)
    if given.json:
        as_json(lists=answers)
    return EXIT_FAILED if failures else 0


def _refuse_dfs(given: Given) -> None:
    if given.flag("id") or given.flag("if"):
        raise wrong(f"fs {given.command.name}: -id and -if are for DFS, which is not spoken here")
