"""Volumes: `listquota`, `quota`, `setquota`, `setvol`, `examine`, `diskfree`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.errors import printable
from afsfuse.tools.fs.doing import as_json, each, gather
from afsfuse.tools.fs.syntax import wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from afsfuse.tools.fs.doing import Shown
    from afsfuse.tools.fs.syntax import Given

_NEARLY_FULL = 90
"""Percent, above which it is pointed at."""
_FULL = 97
"""The same of a partition beside a quota."""
_UNITS = "KMGTPE"


def listquota(given: Given) -> int:
    """Show quota and use of the volumes of paths."""
    title = f"{'Volume Name':<25}{'Quota':>11}{'Used':>11}{' %Used':<7}{'Partition':>11}"
    return _table(given, title, lambda answer: quota_line(answer, human=given.flag("human")))


def quota_line(answer: Shown, *, human: bool) -> str:
    """A volume's line. The layout is that of OpenAFS, with room for longer numbers."""
    limit = _size(answer["quota"], human) if answer["quota"] else "no limit"
    line = f"{_name(answer)} {limit:>10} {_size(answer['used'], human):>10}"
    used, partition = _of_quota(answer), _of_partition(answer)
    line += f"{used:5.0f}%{'<<' if used > _NEARLY_FULL else '  '}"
    line += f"{partition:9.0f}%{'<<' if partition > _FULL else '  '}"
    return f"{line}  <<WARNING" if used > _NEARLY_FULL or partition > _FULL else line


def diskfree(given: Given) -> int:
    """Show the room on the partitions of paths."""
    title = f"{'Volume Name':<25}{'total' if given.flag('human') else 'kbytes':>10}"
    title += f"{'used':>10}{'avail':>10}{'%used':>6}"
    return _table(given, title, lambda answer: partition_line(answer, human=given.flag("human")))


def partition_line(answer: Shown, *, human: bool) -> str:
    """A partition's line."""
    total, available = answer["partition"], answer["available"]
    sizes = (total, total - available, available)
    line = _name(answer) + "".join(f"{_size(size, human):>10}" for size in sizes)
    percent = _of_partition(answer)
    return f"{line} {percent:4.0f}%{'<<' if percent > _NEARLY_FULL else '  '}" + (
        "  <<WARNING" if percent > _NEARLY_FULL else ""
    )


def quota(given: Given) -> int:
    """Show how much of the quota is used."""
    answers, status = gather(given.paths, lambda served: served.ask("volume"))
    if given.json:
        as_json(volumes=answers)
        return status
    for answer in answers:
        print(f"{_of_quota(answer):2.0f}% of quota used.")
    return status


def examine(given: Given) -> int:
    """Show a volume's state."""
    answers, status = gather(
        given.paths, lambda served: {**served.ask("what"), **served.ask("volume")}
    )
    if given.json:
        as_json(volumes=answers)
        return status
    for answer in answers:
        fid = ".".join(map(str, answer["fid"]))
        print(f"File {printable(answer['path'])} ({fid}) contained in volume {answer['number']}")
        print(f"Volume status for vid = {answer['number']} named {printable(answer['volume'])}")
        if answer["offline_message"]:
            print(f"Current offline message is {printable(answer['offline_message'])}")
        print(f"Current disk quota is {answer['quota'] or 'unlimited'}")
        print(f"Current blocks used are {answer['used']}")
        print(
            f"The partition has {answer['available']} blocks available out of "
            f"{answer['partition']}\n"
        )
    return status


def setquota(given: Given) -> int:
    """Set the quota of one volume."""
    return _set(given, [given.one("path") or "."])


def setvol(given: Given) -> int:
    """Set quota and message of volumes."""
    if given.one("max") is None and given.one("offlinemsg") is None:
        raise wrong("fs setvol: what is to be set? -max or -offlinemsg")
    return _set(given, given.paths)


def _set(given: Given, paths: list[str]) -> int:
    kib = given.one("max")
    size = None if kib is None else number(kib)
    message = given.one("offlinemsg")
    answers: list[Shown] = []
    status = each(
        paths,
        lambda served: answers.append(
            {
                "path": served.path,
                **served.ask("set-volume", quota=size, offline_message=message),
            }
        ),
    )
    if given.json:
        as_json(volumes=answers)
    return status


def number(text: str) -> int:
    """KiB, as people write them: a number, which may have a unit of `_UNITS`."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "K")
    if not (digits.isascii() and digits.isdigit() and unit in _UNITS):
        raise wrong(f"{text!r}: a number of KiB is expected, or one with a unit of {_UNITS}")
    return int(digits) << 10 * _UNITS.index(unit)


def _table(given: Given, title: str, line: Callable[[Shown], str]) -> int:
    answers, status = gather(given.paths, lambda served: served.ask("volume"))
    if given.json:
        as_json(volumes=answers)
        return status
    print(title.rstrip())
    for answer in answers:
        print(line(answer))
    return status


def _name(answer: Shown) -> str:
    return f"{printable(answer['volume'])[:25]:<25}"


def _size(kib: int, human: bool) -> str:
    """KiB, or with `human` the largest unit of which there is one."""
    if not human:
        return str(kib)
    amount, place = float(kib), 0
    while amount >= 1024 and place < len(_UNITS) - 1:
        amount, place = amount / 1024, place + 1
    return f"{amount:.1f}{_UNITS[place]}"


def _of_quota(answer: Shown) -> float:
    return 100 * answer["used"] / answer["quota"] if answer["quota"] else 0.0


def _of_partition(answer: Shown) -> float:
    total = answer["partition"]
    return 100 * (total - answer["available"]) / total if total else 0.0
