"""The configuration files of AFS clients: ThisCell, CellServDB and CellAlias.

They are looked for in several folders, and each file is taken from the first folder that has it:
the folder given with ``-o confdir``, ``/etc/afsfuse``, ``/etc/openafs``.

CellServDB, as OpenAFS reads it (auth/cellconfig.c)::

    >example.org  [linked.example.org]   #What people call the cell
    192.0.2.1            #db1.example.org
    [192.0.2.2]          #db2.example.org, a clone: it answers, but has no vote

Empty lines and lines that begin with ``#`` are skipped, and the host name may be missing. A line
that cannot be read is named in a warning, with file and line, and skipped.

ThisCell has the name of the local cell in its first line. CellAlias has lines of a cell's name
and an alias for it.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from types import MappingProxyType

from afsfuse.cell.addresses import MAX_SERVERS, refusal
from afsfuse.errors import UsageError

log = logging.getLogger(__name__)

STANDARD_FOLDERS = (Path("/etc/afsfuse"), Path("/etc/openafs"))
CELL_NAME_MAX = 253  # bytes, as long as a DNS name may be. Source: Linux fs/afs/afs.h
_CELL_LINE = re.compile(r">\s*([^\s#]+)(?:\s+([^\s#]+))?\s*(?:#\s*(.*))?")
_HOST_LINE = re.compile(r"(\[)?\s*([\d.]+)\s*(?(1)\])\s*(?:#\s*(.*))?")


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A line of CellServDB."""

    address: IPv4Address
    host: str  # may be empty
    clone: bool


@dataclass(frozen=True, slots=True)
class CellEntry:
    """A cell of CellServDB. Without servers it says that the DNS knows them."""

    name: str
    servers: tuple[DatabaseServer, ...]
    linked: str | None = None  # the cell to ask when this one does not have a volume
    description: str = ""


@dataclass(frozen=True, slots=True)
class CellFiles:
    """What the configuration files say."""

    this_cell: str | None = None
    cells: Mapping[str, CellEntry] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # alias -> cell


def is_cell_name(name: str) -> bool:
    """Whether a lower-case name could be a cell's, be it known or not."""
    return (
        0 < len(name) <= CELL_NAME_MAX
        and name.isascii()
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & set(" /@#>:%\\")
        and ".." not in name
    )


def search_folders(confdir: Path | None) -> tuple[Path, ...]:
    """The folders to look in; `UsageError` when the one that was asked for is not there."""
    if confdir is None:
        return STANDARD_FOLDERS
    if not confdir.is_dir():
        raise UsageError(f"{confdir}: the configuration folder does not exist")
    return (confdir, *STANDARD_FOLDERS)


def load(folders: Sequence[Path]) -> CellFiles:
    """Read the three files, each from the first folder that has it."""
    cells = _read(folders, "CellServDB")
    aliases = _read(folders, "CellAlias")
    this_cell = _read(folders, "ThisCell")
    entries = parse_cellservdb(cells[1], cells[0]) if cells else {}
    return CellFiles(
        this_cell=parse_this_cell(this_cell[1], this_cell[0]) if this_cell else None,
        cells=entries,
        aliases=parse_aliases(aliases[1], aliases[0], entries) if aliases else {},
    )


def parse_cellservdb(text: str, source: str) -> Mapping[str, CellEntry]:
    """The cells of a CellServDB, in its order; `source` is the file's name for warnings."""
    cells: dict[str, CellEntry] = {}
    current: list[DatabaseServer] | None = None
    outside = "an address outside of a cell"
    for number, line in _lines(text):
        where = f"{source}:{number}"
        if line.startswith(">"):
            current = None
            outside = ""  # the cell's own line was complained about
            match = _CELL_LINE.fullmatch(line)
            name = match[1].lower() if match else ""
            if match is None or not is_cell_name(name):
                _complain(where, "not a cell's name", line)
            elif name in cells:
                _complain(where, "this cell stands in the file already", line)
            else:
                current = []
                linked = match[2].strip("[]").lower() if match[2] else None
                cells[name] = CellEntry(name, (), linked, match[3] or "")
        elif current is None:
            if outside:
                _complain(where, outside, line)
        elif (server := _parse_host(line, where)) is not None:
            if len(current) == MAX_SERVERS:
                _complain(where, f"a cell may have {MAX_SERVERS} servers", line)
                continue
            current.append(server)
            entry = cells[name]
            cells[name] = CellEntry(name, tuple(current), entry.linked, entry.description)
    return MappingProxyType(cells)


def parse_this_cell(text: str, source: str) -> str | None:
    """The local cell's name, in lower case."""
    name = text.partition("\n")[0].strip().lower()
    if is_cell_name(name):
        return name
    _complain(f"{source}:1", "not a cell's name", name)
    return None


def parse_aliases(text: str, source: str, cells: Mapping[str, CellEntry]) -> Mapping[str, str]:
    """Alias -> cell. An alias must not hide a cell; the dotted form comes by itself."""
    aliases: dict[str, str] = {}
    for number, line in _lines(text):
        where = f"{source}:{number}"
        words = line.lower().split()
        if len(words) != 2 or not is_cell_name(words[0]):
            _complain(where, "not a cell and an alias", line)
        elif not is_cell_name(words[1]):
            _complain(where, "not a possible alias", line)
        elif words[1] in cells or words[1] in aliases:
            _complain(where, "this name is taken", line)
        else:
            aliases[words[1]] = words[0]
    return MappingProxyType(aliases)


def _parse_host(line: str, where: str) -> DatabaseServer | None:
    match = _HOST_LINE.fullmatch(line)
    if match is None:
        _complain(where, "neither a cell nor a server's address", line)
        return None
    try:
        address = IPv4Address(match[2])
    except AddressValueError:
        _complain(where, "not an IPv4 address", line)
        return None
    if reason := refusal(address, loopback_allowed=True):
        _complain(where, reason, line)
        return None
    return DatabaseServer(address, match[3] or "", bool(match[1]))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that say something."""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _read(folders: Sequence[Path], name: str) -> tuple[str, str] | None:
    """Path and text of a file in the first folder that has it."""
    for folder in folders:
        path = folder / name
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise UsageError(f"{path}: cannot be read: {exc.strerror}") from None
        return str(path), data.decode("utf-8", "replace")
    return None


def _complain(where: str, what: str, line: str) -> None:
    log.warning("%s: %s, skipped: %.80r", where, what, line)
