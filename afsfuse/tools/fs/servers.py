"""Servers: `checkservers`, `checkvolumes`, `getserverprefs`, `setserverprefs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from afsfuse.control.hostnames import address_of, names_of
from afsfuse.errors import printable
from afsfuse.tools.fs import EXIT_FAILED
from afsfuse.tools.fs.doing import as_json, everywhere, tell
from afsfuse.tools.fs.syntax import wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given


def checkservers(given: Given) -> int:
    """See which servers do not answer; the status is 1 if there are any."""
    if given.one("interval") is not None:
        return _interval(given)
    answers, status = everywhere(
        "check-servers", cell=given.one("cell"), all=given.flag("all"), fast=given.flag("fast")
    )
    if any(answer["down"] for answer in answers):
        status = EXIT_FAILED
    if given.json:
        as_json(mounts=answers)
        return status
    tell(answers, _unavailable)
    return status


def _unavailable(answer: Shown) -> Iterator[str]:
    down = list(dict.fromkeys(server["address"] for server in answer["down"]))
    if not down:
        yield "All servers are running."
        return
    names = names_of(down)
    hosts = " ".join(printable(names[address]) for address in down)
    yield f"These servers unavailable due to network or server problems:  {hosts}."


def _interval(given: Given) -> int:
    """How often servers that are down are asked."""
    text = given.one("interval") or ""
    if not text.isdigit():
        raise wrong(f"fs checkservers: {text!r} is no number of seconds")
    answers, status = everywhere("probe-interval", seconds=int(text))
    if given.json:
        as_json(mounts=answers)
        return status

    def said(answer: Shown) -> Iterator[str]:
        now, before = round(answer["seconds"]), round(answer["before"])
        if int(text):
            yield (
                f"The new down server probe interval ({now} secs) is now in effect "
                f"(old interval was {before} secs)"
            )
        else:
            yield f"The current down server probe interval is {now} secs"

    tell(answers, said)
    return status


def checkvolumes(given: Given) -> int:
    """Ask anew where volumes are."""
    answers, status = everywhere("check-volumes")
    if given.json:
        as_json(checked=not status)
        return status
    tell(answers, lambda answer: ["All volumeID/name mappings checked."])
    return status


def getserverprefs(given: Given) -> int:
    """Show the ranks of servers."""
    _refuse_location_servers(given.flag("vlservers"))
    answers, status = everywhere("serverprefs")
    if given.json:
        as_json(mounts=answers)
        return status
    addresses = [
        one["address"]
        for answer in answers
        for server in answer["servers"]
        for one in server["addresses"]
    ]
    names = {} if given.flag("numeric") else names_of(addresses)

    def lines(answer: Shown) -> Iterator[str]:
        for server in answer["servers"]:
            for one in server["addresses"]:
                host = printable(names.get(one["address"], one["address"]))
                yield f"{host:<50} {one['rank']:>5}"

    path = given.one("file")
    if path is None:
        tell(answers, lines)
        return status
    with _opened(path, "w") as file:
        file.writelines(f"{line}\n" for answer in answers for line in lines(answer))
    return status


def setserverprefs(given: Given) -> int:
    """Set the ranks of servers."""
    _refuse_location_servers(given.many("vlservers"))
    words = given.many("servers")
    path = given.one("file")
    if path is not None:
        with _opened(path, "r") as file:
            words += file.read().split()
    if given.flag("stdin"):
        words += sys.stdin.read().split()
    if not words:
        raise wrong("fs setserverprefs: whose rank? pairs of a server and a rank are expected")
    if len(words) % 2:
        raise wrong(f"fs setserverprefs: {words[-1]!r} is without a rank")
    status = 0
    answers: list[Shown] = []
    for address, rank in _resolved(zip(words[::2], words[1::2], strict=True)):
        answers, failed = everywhere("serverprefs", network=address, rank=rank)
        status = status or failed
    if given.json:
        as_json(mounts=answers)
    return status


def _resolved(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Servers as addresses; all are looked up before the first rank is set."""
    found = []
    for host, rank in pairs:
        address = host if set(host) <= set("0123456789./") else address_of(host)
        if address is None:
            raise wrong(f"{host}: nobody knows the address of this host")
        found.append((address, rank))
    return found


def _refuse_location_servers(asked: object) -> None:
    if asked:
        raise wrong(
            "volume location servers have no ranks here: whoever answered last is asked first, and "
            "another one as well when it is slow"
        )


def _opened(path: str, mode: str) -> TextIO:
    try:
        return open(path, mode, encoding="utf-8")  # type: ignore[return-value]  # it is text
    except OSError as exc:
        raise wrong(f"{path}: {exc.strerror}") from None
