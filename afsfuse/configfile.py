"""The configuration files: `/etc/afsfuse/afsfuse.toml`, and a user's own one.

Their keys are the words of `-o` (`config.OPTIONS`), with values of TOML's own types::

    memory = "256M"             # sizes as text, or a number of bytes
    hard = true                 # also false: of pairs such as hard and soft only the first is a key
    sysname = ["amd64_linux26", "i386_linux26"]

    [mount."/home/alice/project"]
    source = "#example.org:project."
    crypt = "auth"

What stands in a section counts for the mount on that directory alone, and more than what stands
above it. A user's own file, `$XDG_CONFIG_HOME/afsfuse/afsfuse.toml`, counts more than the one in
/etc, and the options of the command line count more than both. Root's mounts are for everybody, and
are set in /etc alone. `AFSFUSE_CONFIG` names one file in place of both, or `none`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from afsfuse.config import (
    DYNAMIC_ROOT,
    EXIT_USAGE,
    MOUNT_FLAGS,
    NO_FOLDER,
    OPTIONS,
    Config,
    Option,
    Picked,
    Setting,
    meant,
    settle,
)
from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SYSTEM = Path("/etc/afsfuse/afsfuse.toml")
OVERRIDE = "AFSFUSE_CONFIG"
"""The variable that names one file in place of all others, or `none`."""
SECTION = "mount"
SOURCE = "source"


class File(NamedTuple):
    """A file as it was read."""

    path: Path
    text: str
    tables: dict[str, Any]


def paths() -> tuple[Path, ...]:
    """Where files are looked for, from the weakest to the strongest."""
    if override := os.environ.get(OVERRIDE):
        return () if override == "none" else (Path(override),)
    if os.geteuid() == 0:
        return (SYSTEM,)
    given = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~/.config"))
    return (SYSTEM, base / "afsfuse" / "afsfuse.toml")


def load(path: Path) -> File | None:
    """Read one file; None when there is none. Raises `UsageError` with file and line."""
    import tomllib

    try:
        text = path.read_text()
        tables = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _usage(f"{path}: cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise _usage(f"{path}: not a text in UTF-8") from None
    except (ValueError, RecursionError) as exc:  # numbers of Python's have a bound, too
        raise _usage(f"{path}: not in the form of TOML: {exc}") from None
    file = File(path, text, tables)
    for _ in _settings(file, None):  # each key is looked at, also those of other mounts
        pass
    for directory in tables.get(SECTION, {}):
        for _ in _settings(file, directory):
            pass
    return file


def effective(
    source: str | None,
    directory: str,
    options: Iterable[str] = (),
    *,
    foreground: bool = False,
    sloppy: bool = False,
) -> Picked:
    """The configuration of one mount: defaults, files, options. For errors see `settle`.

    Without a source it is what a file says for this directory.
    """
    absolute = os.path.abspath(directory)
    settings: list[Setting] = []
    for file in filter(None, map(load, paths())):
        settings += _settings(file, None)
        settings += _settings(file, absolute)
    named = [setting for setting in settings if setting.field == SOURCE]
    settings = [setting for setting in settings if setting.field != SOURCE]
    if source is None and not named:
        raise _usage(
            f"{directory}: which source? write afsfuse mount {DYNAMIC_ROOT} {directory},"
            f' or a section [{SECTION}."{absolute}"] with {SOURCE} = "..." in {_files_shown()}'
        )
    picked = settle(
        source if source is not None else named[-1].value,
        directory,
        options,
        foreground=foreground,
        settings=settings,
        sloppy=sloppy,
    )
    origin = named[-1].origin if source is None else "command line"
    return picked._replace(origins={**picked.origins, SOURCE: origin, "directory": "command line"})


def reread(config: Config) -> Config:
    """What a mount's configuration would be by the files as they are now. Raises `UsageError`."""
    return effective(
        config.source, config.directory, config.given, foreground=config.foreground, sloppy=True
    ).config


def keys() -> dict[str, Option]:
    """The options that files can set, by their keys."""
    return {name: option for name, option in OPTIONS.items() if option.positive}


def _files_shown() -> str:
    return " or ".join(map(str, paths())) or str(SYSTEM)


def _settings(file: File, directory: str | None) -> Iterator[Setting]:
    """What a file says for all mounts, or in the sections of one directory."""
    if directory is None:
        tables: list[tuple[str, Mapping[str, Any]]] = [("", file.tables)]
    else:
        tables = _sections(file, directory)
    for name, table in tables:
        flags = []
        for key, value in table.items():
            if not name and key == SECTION:
                _check_sections(file, value)
                continue
            where = f"{file.path}:{_line_of(file.text, name, key)}"
            if key == SOURCE and name:
                if not isinstance(value, str):
                    raise _usage(f"{where}: {key}: a text is expected")
                yield Setting(SOURCE, value, where)
            elif key in MOUNT_FLAGS:
                if _truth(where, key, value):
                    flags.append(key)
            else:
                option = _option(where, key, local=bool(name))
                yield Setting(option.field, _value(where, key, option, value), where)
        if flags:
            yield Setting("flags", tuple(flags), str(file.path))


def _sections(file: File, directory: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The sections that speak of a directory, however it is written."""
    return [
        (name, table)
        for name, table in file.tables.get(SECTION, {}).items()
        if os.path.normpath(name) == os.path.normpath(directory)
    ]


def _check_sections(file: File, found: object) -> None:
    """Sections of mounts are tables, named by absolute paths."""
    tables = found if isinstance(found, dict) else {"": None}
    for name, table in tables.items():
        if not (os.path.isabs(name) and isinstance(table, dict)):
            where = f"{file.path}:{_line_of(file.text, '', SECTION)}"
            raise _usage(f'{where}: {SECTION}: sections are written [{SECTION}."/DIRECTORY"]')


def _option(where: str, key: str, *, local: bool) -> Option:
    """The option of a key, or a complaint with the key that was probably meant."""
    option = OPTIONS.get(key)
    if option is None:
        near = meant(key, [*keys(), *MOUNT_FLAGS, *([SOURCE] if local else [SECTION])])
        raise _usage(f"{where}: {key}: unknown key: {near or 'see afsfuse.toml(5)'}")
    if not option.positive:
        first = next(name for name, one in keys().items() if one.field == option.field)
        opposite = str(option.parse("") is True).lower()
        raise _usage(f"{where}: {key}: not a key: write {first} = {opposite}")
    return option


def _value(where: str, key: str, option: Option, value: object) -> object:
    """A value of TOML as the field has it."""
    if not option.value:
        return _truth(where, key, value)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        text = ":".join(value)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
    else:
        raise _usage(f"{where}: {key}: a text or a number is expected: {key} = {option.value}")
    if option.value in ("DIR", "PATH") and text != NO_FOLDER:
        text = os.path.expanduser(text)
        if not os.path.isabs(text):
            raise _usage(f"{where}: {key} = {text}: an absolute path is expected, or one after ~/")
    try:
        return option.parse(text)
    except ValueError as exc:
        raise _usage(f"{where}: {key} = {text}: {exc}") from None


def _truth(where: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _usage(f"{where}: {key}: true or false is expected")
    return value


def _line_of(text: str, section: str, key: str) -> int:
    """The line that sets a key, for people: the first that looks like it, or where its section is.

    The library that reads TOML does not tell lines.
    """
    setting = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
    here = not section
    found = 1
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            here = bool(section) and f'"{section}"' in line.replace("'", '"')
            if here or (not section and key == SECTION and line.lstrip().startswith(f"[{key}")):
                found = number
        elif here and setting.match(line):
            return number
    return found


def _usage(message: str) -> UsageError:
    return UsageError(message, exit_code=EXIT_USAGE)
