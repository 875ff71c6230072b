"""Settings of running daemons: @sys, protection, UUID, log; and what cannot be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.errors import printable
from afsfuse.tools.fs.doing import as_json, each, everywhere, tell
from afsfuse.tools.fs.syntax import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given

_LEVELS = {
    "clear": "clear.",
    "auth": "auth (data integrity).",
    "crypt": "crypt (data security).",
}
_ORDERS = {"on": "crypt", "off": "clear", "auth": "auth"}
_MESSAGES = ("user", "console", "all", "none")


def sysname(given: Given) -> int:
    """Show or set what @sys stands for."""
    names = given.many("newsys")
    answers, status = everywhere("sysname", **({"names": names} if names else {}))
    if given.json:
        as_json(mounts=answers)
        return status
    several = " list" if len(names) > 1 else ""

    def said(answer: Shown) -> Iterator[str]:
        if names:
            yield f"fs: new sysname{several} set."
            return
        shown = [f"'{printable(name)}'" for name in answer["names"]]
        yield f"Current sysname{' list' if len(shown) > 1 else ''} is {' '.join(shown)}"

    tell(answers, said)
    return status


def getcrypt(given: Given) -> int:
    """Show how calls with a token are protected."""
    answers, status = everywhere("crypt")
    if given.json:
        as_json(mounts=answers)
        return status
    tell(answers, lambda answer: [f"Security level is currently {_LEVELS[answer['level']]}"])
    return status


def setcrypt(given: Given) -> int:
    """Set how calls with a token are protected."""
    order = given.many("crypt")[0]
    if order not in _ORDERS:
        raise wrong(f"fs setcrypt: {order!r} is none of {', '.join(_ORDERS)}")
    answers, status = everywhere("crypt", level=_ORDERS[order])
    if given.json:
        as_json(mounts=answers)
    return status


def uuid(given: Given) -> int:
    """Show or renew the number by which servers know the client."""
    new = given.flag("generate")
    answers, status = everywhere("uuid", generate=new)
    if given.json:
        as_json(mounts=answers)
        return status
    tell(answers, lambda a: ["New uuid generated." if new else f"UUID: {a['uuid']}"])
    return status


def messages(given: Given) -> int:
    """Say what goes to the log."""
    show = given.one("show")
    if show is not None and show not in _MESSAGES:
        raise wrong(f"fs messages: {show!r} is none of {', '.join(_MESSAGES)}")
    answers, status = everywhere("messages", **({} if show is None else {"show": show}))
    if given.json:
        as_json(mounts=answers)
        return status
    if show is None:
        tell(answers, lambda answer: [f"Messages go to the log from level {answer['level']} on."])
    return status


def storebehind(given: Given) -> int:
    """Show how much may be stored after a close, which is nothing: it would have `close` lie."""
    for name in ("kbytes", "allfiles"):
        value = given.one(name)
        if value is not None and not (value.isdigit() and not int(value)):
            raise wrong(
                f"fs storebehind: -{name} can be 0 only: when a close returns, all is stored"
            )
    files = given.many("files")
    if given.one("kbytes") is not None and not files:
        raise wrong("fs storebehind: -kbytes needs -files")
    found: list[str] = []

    def look(served: object) -> None:
        found.append(getattr(served, "path", ""))

    status = each(files, look)
    quiet = (given.one("kbytes") or given.one("allfiles")) is not None
    if given.json:
        as_json(default=0, files=[{"path": path, "kbytes": 0} for path in found])
    elif not quiet or given.flag("verbose"):
        for path in found:
            print(f"Will store {printable(path)} according to default.")
        print("Default store asynchrony is 0 kbytes.")
    return status
