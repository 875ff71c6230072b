"""What the commands share: going over paths or daemons, and telling of failures one by one."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from afsfuse.control.places import places
from afsfuse.errors import AfsError, ControlRefused, NoDaemon, printable
from afsfuse.tools import complain
from afsfuse.tools.daemons import of
from afsfuse.tools.fs import EXIT_FAILED
from afsfuse.tools.progress import following

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from afsfuse.tools.daemons import Served

    Shown = dict[str, Any]


def refuse(about: str, why: AfsError | OSError | str) -> int:
    """Tell of a failure; the exit status for it. `about` is a path."""
    said = why.strerror if isinstance(why, OSError) else str(why)
    if not (said or "").startswith(f"{about}: "):
        said = f"{about}: {said}"
    complain(printable(said or about))
    return EXIT_FAILED


def each(
    paths: Iterable[str],
    work: Callable[[Served], object],
    *,
    follow: bool = True,
    refused: Callable[[str, AfsError | OSError], int] = refuse,
) -> int:
    """Do something with each path, be it that it fails with others; the exit status."""
    status = 0
    for path in paths:
        try:
            with of(path, follow=follow) as served:
                work(served)
        except (AfsError, OSError) as exc:
            status = refused(path, exc)
    return status


def gather(
    paths: Iterable[str], ask: Callable[[Served], Shown], *, follow: bool = True
) -> tuple[list[Shown], int]:
    """The answers about paths, each with its `path`; and the exit status, as `each` gives it."""
    answers: list[Shown] = []
    status = each(
        paths, lambda served: answers.append({"path": served.path, **ask(served)}), follow=follow
    )
    return answers, status


def everywhere(
    verb: str, showing: Callable[[], str] | None = None, /, **arguments: object
) -> tuple[list[Shown], int]:
    """The answers of all daemons that can be asked, each with its `mount`; and the exit status.

    `showing` says how far it is, for a terminal. Raises `NoDaemon` if there is none, and what the
    only one refuses.
    """
    answers: list[Shown] = []
    refused: list[AfsError] = []
    with contextlib.nullcontext() if showing is None else following(showing):
        for daemon in (daemon for place in places() for daemon in place.daemons()):
            try:
                where = daemon.ask("serves")["directory"]
                answers.append({"mount": where, **daemon.ask(verb, **arguments)})
            except NoDaemon:
                continue
            except ControlRefused as exc:
                refused.append(exc)
    if not answers:
        raise refused[0] if refused else NoDaemon("no mount is running here")
    for refusal in refused:
        complain(str(refusal))
    return answers, EXIT_FAILED if refused else 0


def tell(answers: list[Shown], lines: Callable[[Shown], Iterable[str]]) -> None:
    """Print what daemons said; behind the mount's directory, if there are several."""
    for answer in answers:
        if len(answers) > 1:
            print(f"{printable(answer['mount'])}:")
        for line in lines(answer):
            print(line)


def as_json(**values: object) -> None:
    """Print for programs."""
    print(json.dumps(values, indent=2))
