"""What can be set: one frozen `Config`, made from the defaults, files' settings, and the options.

Options are those of `-o`, as mount(8) has them: words, separated by commas, some with a value.
`OPTIONS` declares each once: the help, the manual pages and the keys of the configuration files
(`configfile`) come from there. Kept free of heavy imports: the command line is read before anything
else is loaded.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from afsfuse.cell.ranks import parse_rule
from afsfuse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from ipaddress import IPv4Network

EXIT_USAGE = 1
"""Wrong command line, as mount(8) has it."""

DYNAMIC_ROOT = "afs"
NO_FOLDER = "none"
"""In place of the folder of the cache on disk: data is kept in memory only."""
CALLBACK_PORT = 7001
"""UDP port of cache managers. Source: AFSCONF_CALLBACKPORT in OpenAFS's cellconfig.h"""


LOCK_MODES = ("local", "openafs", "strict", "write")
"""As the kernel's own client has them: `afsfuse.cache.LockMode`."""


@dataclass(frozen=True)
class Config:
    """Everything that can be set for one mount."""

    source: str = DYNAMIC_ROOT
    """`afs` for the dynamic root, or `#cell:volume.` or `%cell:volume.` for one volume."""

    directory: str = ""
    """Where to mount: an absolute path."""

    foreground: bool = False
    """Stay attached to the terminal and log there."""

    given: tuple[str, ...] = field(default=(), compare=False)
    """The words of `-o` as they were given, to read the files anew with."""

    confdir: str | None = None
    """Folder with ThisCell and CellServDB, before /etc/afsfuse and /etc/openafs."""

    cell: str | None = None
    """The local cell, in place of what ThisCell says."""

    port: int | None = None
    """UDP port for calls and callbacks, that and no other; by default 7001, or any if taken."""

    bind: str = "0.0.0.0"
    """Address of this machine to send from and to be called back at."""

    memory: int = 64 << 20
    """Bytes of file data that are kept in memory."""

    cache_dir: str | None = None
    """Folder of the cache on disk, or `none`; by default /var/cache/afsfuse or the user's own."""

    cache_size: int | None = None
    """Bytes of disk that the cache may use, 0 for none; by default a quarter of what is free."""

    chunk_size: int = 32 << 10
    """Bytes of file data that are fetched, kept and dropped together."""

    vnodes: int = 32768
    """Vnodes that are kept although the kernel has forgotten them."""

    read_ahead: int = 1 << 20
    """Bytes that the kernel reads ahead of a sequential reader; only root can set it."""

    timeout: float = 80.0
    """Seconds after which a system call that waits for servers ends with ETIMEDOUT."""

    expire: int = 600
    """Seconds after which a volume that nobody uses is let go, between once and twice as many;
    0: never."""

    finish: int = 60
    """Seconds that the end of a mount may take for storing what is not stored yet."""

    hard: bool = False
    """Wait for servers that are silent, busy or off line until they are back or Ctrl-C comes."""

    retry: float | None = None
    """Seconds for which a system call goes on trying; by default longer for what takes longer."""

    serverprefs: tuple[tuple[IPv4Network, int], ...] = ()
    """Which servers are asked first: ranks of networks, the lower the better."""

    requests: int = 4000
    """Requests that may wait at a time; a further one ends with EAGAIN."""

    sysname: tuple[str, ...] = ()
    """What `@sys` stands for, tried in order; by default what suits this machine."""

    cells: str = "auto"
    """Which cells a listing of the dynamic root shows: `used`, `configured` or `auto`."""

    allow_other: bool | None = None
    """Let all users use the mount; by default when root mounts."""

    subtype: bool = True
    """Show the type `fuse.afs`; without it `fuse`."""

    read_only: bool = False
    """Let nobody change anything through this mount."""

    flock: str = "openafs"
    """Which locks other machines see: `local` (none), `openafs` (those on whole files), `strict`
    (also those on ranges, as the whole file) or `write` (ranges as write locks)."""

    flags: tuple[str, ...] = ()
    """Further flags of mount(2): those of `MOUNT_FLAGS`."""

    crypt: str = "crypt"
    """How calls with a token are protected: `clear` (who calls is proven, nothing is hidden),
    `auth` (and most changes are noticed) or `crypt` (everything is encrypted)."""

    rxdebug: bool = True
    """Answer OpenAFS's `rxdebug`; what strangers are told is bounded, see docs/rxrpc.md."""

    metrics: str | None = None
    """Where Prometheus may ask for figures: `unix:/path`, or a port of 127.0.0.1; by default
    nowhere."""

    logfile: str | None = None
    """File to append the log to, in place of syslog or standard error."""

    debug: bool = False
    """Log everything that is known."""

    @property
    def everybody(self) -> bool:
        """Whether all users may use the mount."""
        return os.geteuid() == 0 if self.allow_other is None else self.allow_other


@dataclass(frozen=True)
class Option:
    """A word of `-o`."""

    field: str
    """The field of `Config` that it sets."""
    value: str
    """What stands behind `=` in the help; empty for a word without a value."""
    parse: Callable[[str], Any]
    """Makes the field's value; ValueError with what is expected."""
    help: str

    @property
    def positive(self) -> bool:
        """Whether it can be a key of a file: of a pair such as `hard` and `soft`, the first."""
        return bool(self.value) or self.parse is bool


class Setting(NamedTuple):
    """What a configuration file says of one field."""

    field: str
    value: Any
    origin: str
    """File and line, for people."""


class Picked(NamedTuple):
    """A configuration, and how it came about."""

    config: Config
    origins: Mapping[str, str]
    """By field: the file and line, or the word of -o, that has set it; by default: nothing."""
    ignored: tuple[str, ...]
    """Words of -o that nobody knows, where that was allowed."""


_SIZE = re.compile(r"(\d+)\s*([kmg]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def _size(least: int, most: int) -> Callable[[str], int]:
    """A parser of sizes such as 64M, within bounds."""

    def parse(text: str) -> int:
        if (match := _SIZE.fullmatch(text.strip())) is None:
            raise ValueError("a size is expected, such as 64M")
        size = int(match[1]) << _UNITS[match[2].lower()]
        if not least <= size <= most:
            raise ValueError(f"a size from {shown_size(least)} to {shown_size(most)} is expected")
        return size

    return parse


def _number(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers within bounds."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise ValueError(f"a number from {least} to {most} is expected")
        return int(text)

    return parse


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("an IPv4 address of this machine is expected") from None


def _cell(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", text):
        raise ValueError("the name of a cell is expected")
    return text.lower()


def _words(text: str) -> tuple[str, ...]:
    words = tuple(text.split(":"))
    if not all(words):
        raise ValueError("names separated by colons are expected")
    return words


def _ranks(text: str) -> tuple[tuple[IPv4Network, int], ...]:
    return tuple(parse_rule(rule) for rule in text.split(":"))


def _path(text: str) -> str:
    if not text:
        raise ValueError("a path is expected")
    return os.path.abspath(text)


def _scraped(text: str) -> str:
    kind, colon, path = text.partition(":")
    if kind == "unix" and os.path.isabs(path):
        return f"unix:{os.path.normpath(path)}"
    if colon or not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError("unix:/PATH or the number of a port is expected")
    return text


def _folder(text: str) -> str:
    if not os.path.isdir(text):
        raise ValueError("no such folder: it is to hold ThisCell and CellServDB")
    return os.path.abspath(text)


def _cache_folder(text: str) -> str:
    return text if text == NO_FOLDER else _path(text)


def _cache_size(text: str) -> int:
    if text.strip() == "0":
        return 0
    return _size(16 << 20, 1 << 44)(text)


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} is expected")
        return text

    return parse


def shown_size(size: int) -> str:
    """A size as it would be written: 32K, 64M."""
    for unit in ("G", "M", "K"):
        shift = _UNITS[unit.lower()]
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


OPTIONS: dict[str, Option] = {
    "confdir": Option("confdir", "DIR", _folder, "look for ThisCell and CellServDB there first"),
    "cell": Option("cell", "NAME", _cell, "the local cell, in place of what ThisCell says"),
    "port": Option("port", "N", _number(1, 65535), "UDP port; else 7001, or any if that is taken"),
    "bind": Option("bind", "ADDRESS", _address, "address of this machine to send from"),
    "memory": Option("memory", "SIZE", _size(1 << 20, 1 << 40), "data kept in memory"),
    "cachedir": Option("cache_dir", "DIR", _cache_folder, "data kept on disk, or none"),
    "cachesize": Option("cache_size", "SIZE", _cache_size, "data kept on disk, at most; 0: none"),
    "chunksize": Option("chunk_size", "SIZE", _size(4096, 1 << 20), "unit of the data cache"),
    "vnodes": Option("vnodes", "N", _number(100, 10_000_000), "vnodes kept beyond the kernel's"),
    "readahead": Option("read_ahead", "SIZE", _size(4096, 64 << 20), "kernel's read-ahead (root)"),
    "timeout": Option("timeout", "SECONDS", _number(1, 3600), "bound of every wait for servers"),
    "expire": Option("expire", "SECONDS", _number(0, 30 * 86400), "let idle volumes go; 0: never"),
    "finish": Option("finish", "SECONDS", _number(1, 3600), "how long the end may store data"),
    "hard": Option("hard", "", bool, "wait for servers until they are back, or until Ctrl-C"),
    "soft": Option("hard", "", lambda _: False, "give servers up after a while (the default)"),
    "retry": Option("retry", "SECONDS", _number(1, 86400), "how long to go on trying; soft only"),
    "serverprefs": Option(
        "serverprefs", "A[/N]=RANK[:...]", _ranks, "servers to ask first; other ranks: 40000"
    ),
    "requests": Option("requests", "N", _number(64, 100_000), "requests that may wait at a time"),
    "sysname": Option("sysname", "NAME[:NAME]", _words, "what @sys stands for"),
    "cells": Option("cells", "WHICH", _choice("used", "configured", "auto"), "cells to list"),
    "allow_other": Option("allow_other", "", bool, "let all users in (root: the default)"),
    "noallow_other": Option("allow_other", "", lambda _: False, "let only the mounting user in"),
    "ro": Option("read_only", "", bool, "let nobody change anything"),
    "rw": Option("read_only", "", lambda _: False, "let changes through (the default)"),
    "subtype": Option("subtype", "", bool, "show the type fuse.afs (the default)"),
    "nosubtype": Option("subtype", "", lambda _: False, "show the type fuse"),
    "flock": Option(
        "flock", "MODE", _choice(*LOCK_MODES), "locks that others see; else those on whole files"
    ),
    "crypt": Option(
        "crypt", "LEVEL", _choice("clear", "auth", "crypt"), "protection with a token; else crypt"
    ),
    "rxdebug": Option("rxdebug", "", bool, "answer rxdebug (the default)"),
    "norxdebug": Option("rxdebug", "", lambda _: False, "do not answer rxdebug"),
    "metrics": Option(
        "metrics", "WHERE", _scraped, "figures for Prometheus: unix:/PATH, or a port of 127.0.0.1"
    ),
    "logfile": Option("logfile", "PATH", _path, "append the log to this file"),
    "debug": Option("debug", "", bool, "log everything"),
}

MOUNT_FLAGS = ("noexec", "noatime", "nodiratime", "nosymfollow", "sync", "dirsync")

# Words for mount(8), systemd and desktops, and what every mount of ours is anyway.
IGNORED = frozenset(
    [
        *("_netdev", "auto", "comment", "defaults", "fail", "group", "noauto", "nofail", "nogroup"),
        *("noowner", "nouser", "nousers", "owner", "uhelper", "user", "users"),
        *("async", "atime", "diratime", "exec", "iversion", "lazytime", "loud", "nodev"),
        *("noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid"),
        *("relatime", "silent", "strictatime", "symfollow"),
    ]
)

_REFUSED = {
    "suid": "mounts are always nosuid: leave it out",
    "dev": "mounts are always nodev: leave it out",
    "remount": "a mount cannot be changed: unmount it and mount it anew",
}

_SOURCE = re.compile(r"[#%](?:[A-Za-z0-9_][A-Za-z0-9_.-]*:)?[A-Za-z0-9_.-]+")


def pick(
    source: str, directory: str, options: Iterable[str] = (), *, foreground: bool = False
) -> Config:
    """The configuration of a command line alone: defaults, then options. See `settle`."""
    return settle(source, directory, options, foreground=foreground).config


def settle(
    source: str,
    directory: str,
    options: Iterable[str] = (),
    *,
    foreground: bool = False,
    settings: Iterable[Setting] = (),
    sloppy: bool = False,
) -> Picked:
    """The configuration: defaults, then settings of files, then options; the last one wins.

    `options` are the arguments of `-o`; those that are unknown are left out when `sloppy`. Raises
    `UsageError` naming the wrong word, and the one that was probably meant.
    """
    words = split_options(options)
    config = Config(
        source=_checked_source(source),
        directory=os.path.abspath(directory),
        foreground=foreground,
        given=tuple(words),
    )
    changes: dict[str, Any] = {}
    origins: dict[str, str] = {}
    ignored = []
    for setting in settings:
        changes[setting.field], origins[setting.field] = setting.value, setting.origin
    flags = dict.fromkeys(changes.pop("flags", ()))
    for word in words:
        name, equals, value = word.partition("=")
        if name in MOUNT_FLAGS and not equals:
            flags[name] = None
            origins["flags"] = f"-o {word}"
        elif name in OPTIONS:
            option = OPTIONS[name]
            changes[option.field] = _parsed(name, option, value if equals else None)
            origins[option.field] = f"-o {word}"
        elif not (name in IGNORED or name.startswith(("x-", "X-"))):
            if not sloppy or name in _REFUSED:
                raise _unknown(name)
            ignored.append(word)
    config = replace(config, **changes, flags=tuple(flags))
    _check(config, origins)
    return Picked(config, origins, tuple(ignored))


def _check(config: Config, origins: Mapping[str, str]) -> None:
    """What only several settings together can get wrong."""
    size = config.chunk_size
    if size & (size - 1):
        raise _usage(f"{origins['chunk_size']}: a power of two is expected")
    if size * 8 > config.memory:
        where = origins.get("memory") or origins["chunk_size"]
        raise _usage(
            f"{where}: at least eight times the chunk size, {shown_size(size)}, is expected"
            f" for memory, which is {shown_size(config.memory)}"
        )
    if config.hard and config.retry is not None:
        raise _usage(
            f"{origins['hard']} and {origins['retry']}: hard has no end: write soft,retry=SECONDS"
        )


def split_options(arguments: Iterable[str]) -> list[str]:
    """The words of several `-o` arguments, without empty ones."""
    return [word for argument in arguments for word in argument.split(",") if word]


def option_names() -> list[str]:
    """All words that mean something here."""
    return [*OPTIONS, *MOUNT_FLAGS]


def describe(config: Config) -> list[str]:
    """`field = value`, a line for each field that is not as it is by default."""
    default = Config()
    return [
        f"{one.name} = {getattr(config, one.name)!r}"
        for one in fields(Config)
        if getattr(config, one.name) != getattr(default, one.name)
    ]


def _parsed(name: str, option: Option, value: str | None) -> object:
    """The value of an option, or a complaint that names it."""
    if option.value and value is None:
        raise _usage(f"-o {name}: needs a value: {name}={option.value}")
    if not option.value and value is not None:
        raise _usage(f"-o {name}={value}: takes no value: write {name}")
    try:
        return option.parse(value if value is not None else name)
    except ValueError as exc:
        raise _usage(f"-o {name}={value}: {exc}") from None


def _unknown(name: str) -> UsageError:
    if name in _REFUSED:
        return _usage(f"-o {name}: {_REFUSED[name]}")
    hint = meant(name, option_names()) or "see afsfuse mount --help"
    return _usage(f"-o {name}: unknown option: {hint}")


def meant(name: str, names: Iterable[str]) -> str | None:
    """A question after the nearest of the right names, if one is near."""
    import difflib

    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else None


def _checked_source(source: str) -> str:
    if source == DYNAMIC_ROOT:
        return source
    if source.startswith(("#", "%")):
        if _SOURCE.fullmatch(source):
            return source
        raise _usage(f"{source}: not a volume: write #cell:volume. or %cell:volume.")
    if re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", source):
        raise _usage(f"{source}: for this cell write afs, or for its root #{source}:root.cell.")
    raise _usage(f"{source}: unknown source: write afs, #cell:volume. or %cell:volume.")


def _usage(message: str) -> UsageError:
    return UsageError(message, exit_code=EXIT_USAGE)
