"""`afsfuse config`: what a mount would be made with, and where each value comes from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from afsfuse import configfile
from afsfuse.config import DYNAMIC_ROOT, MOUNT_FLAGS, Config, Option, shown_size
from afsfuse.errors import UsageError
from afsfuse.tools.common import EXIT_OK, Parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT = "default"
_STATUSES = """\
exit status:
  0   done
  1   wrong command line or configuration
  4   a bug of afsfuse
"""


class Line(NamedTuple):
    """One setting."""

    key: str
    value: object
    """As a file would have it; None: not set, and it depends on the machine."""
    origin: str
    help: str


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "config",
        "Show the configuration of a mount on DIR, as it would be made now, in the form of a "
        "configuration file; behind each value is where it comes from.",
        _STATUSES,
    )
    known.add_argument("directory", metavar="DIR", nargs="?", default="/afs", help="else /afs")
    known.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[],
        help="with these options of mount",
    )  # fmt: skip
    known.add_argument("--json", action="store_true", help="for programs")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status. Raises `UsageError` for what is wrong in a file."""
    given = parser().parse_args(arguments)
    try:
        picked = configfile.effective(None, given.directory, given.options)
    except UsageError as exc:
        if "which source?" not in str(exc):
            raise
        picked = configfile.effective(DYNAMIC_ROOT, given.directory, given.options)
        picked = picked._replace(origins={**picked.origins, configfile.SOURCE: DEFAULT})
    lines = list(settings(picked.config, picked.origins))
    files = [{"path": str(path), "there": path.exists()} for path in configfile.paths()]
    if given.json:
        shown = [{"key": key, "value": value, "origin": origin} for key, value, origin, _ in lines]
        mount = {"source": picked.config.source, "directory": picked.config.directory}
        print(json.dumps({"files": files, "mount": mount, "settings": shown}, indent=2))
        return EXIT_OK
    print(f"# {picked.config.source} on {picked.config.directory}")
    for file in files:
        print(f"# {file['path']}: {'read' if file['there'] else 'not there'}")
    for line in lines:
        print(text(line))
    return EXIT_OK


def settings(config: Config, origins: Mapping[str, str]) -> Iterator[Line]:
    """Each key that a file may have, by the order of the help."""
    origin = origins[configfile.SOURCE]
    yield Line(configfile.SOURCE, config.source, origin, "what is mounted")
    for key, option in configfile.keys().items():
        value = written(option, getattr(config, option.field))
        yield Line(key, value, origins.get(option.field, DEFAULT), option.help)
    for flag in MOUNT_FLAGS:
        there = flag in config.flags
        yield Line(flag, there, origins.get("flags", DEFAULT) if there else DEFAULT, "mount(8)")


def text(line: Line) -> str:
    """A line of a configuration file, with a comment."""
    if line.value is None:
        return f"# {line.key}: not set: {line.help}"
    value = json.dumps(line.value, ensure_ascii=False)  # which is also TOML
    if line.key == configfile.SOURCE:
        return f"# {line.key} = {value}  # {line.origin}"
    return f"{f'{line.key} = {value}':<32}# {line.origin}"


def written(option: Option, value: object) -> object:
    """A field's value as it stands in a file."""
    if option.value == "SIZE" and isinstance(value, int):
        return shown_size(value)
    if value == ():
        return None
    if option.field == "serverprefs":
        return [f"{network}={rank}" for network, rank in value]  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return list(value)
    if option.field == "allow_other" and value is None:
        return os.geteuid() == 0
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
