"""The directory of cells: configured ones first, the DNS for the rest."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from weakref import WeakValueDictionary

import trio

from afsfuse.cell.cellservdb import CellEntry, CellFiles, is_cell_name, load
from afsfuse.cell.resolver import CellResolver, SystemDns
from afsfuse.cell.sharing import Shared
from afsfuse.errors import AfsError, CellUnknown
from afsfuse.interfaces import vldb
from rxrpc import Address

_RETRY_AFTER = 10.0  # seconds before the DNS is asked again after a failure or for an unknown cell
_FAILURES_MAX = 4096  # names without a cell that are remembered
_DISCOVERED_MAX = 1024  # cells found in the DNS that are remembered


@dataclass(slots=True, eq=False, weakref_slot=True)
class Cell:
    """A cell. There is one object for each; what the DNS says of it may change.

    `vl_servers` are its volume location servers in the order in which to try them.
    """

    name: str
    vl_servers: tuple[Address, ...]
    linked: str | None = None
    """The cell that is asked when this one does not have a volume."""
    description: str = ""
    expires: float = inf
    """When the DNS is to be asked again, on trio's clock."""
    asked: float = -inf
    """When somebody last asked for it, on trio's clock."""

    def __str__(self) -> str:
        return self.name


def _cell_of(entry: CellEntry) -> Cell:
    """A cell as CellServDB has it; the DNS is asked when no servers stand there."""
    return Cell(
        entry.name,
        tuple((str(server.address), vldb.PORT) for server in entry.servers),
        entry.linked,
        entry.description,
        expires=inf if entry.servers else 0.0,
    )


class CellDirectory:
    """Finds cells by name."""

    def __init__(self, files: CellFiles, resolver: CellResolver | None = None) -> None:
        """Without a resolver the DNS is asked as `/etc/resolv.conf` says."""
        self._resolver = resolver or SystemDns()
        self.this_cell = files.this_cell
        self.aliases = dict(files.aliases)
        self._configured = {entry.name: _cell_of(entry) for entry in files.cells.values()}
        self._discovered: OrderedDict[str, Cell] = OrderedDict()
        self._rested: WeakValueDictionary[str, Cell] = WeakValueDictionary()
        """Cells that made room for others while somebody used them."""
        self._used: dict[str, None] = {}
        self._failures: OrderedDict[str, tuple[AfsError, float]] = OrderedDict()
        self._lookups: Shared[str, Cell] = Shared()

    @classmethod
    def from_folders(
        cls, folders: Sequence[Path], resolver: CellResolver | None = None
    ) -> "CellDirectory":
        """Read the configuration files; `UsageError` when one of them cannot be read."""
        return cls(load(folders), resolver)

    def reload(self, files: CellFiles) -> list[str]:
        """Take over what the files say now; returns what has changed, for people.

        A cell that is in use stays the object that it is. One that the files do not name any more
        is looked for in the DNS when it is used next.
        """
        changes = [] if files.this_cell == self.this_cell else ["the local cell"]
        changes += [] if files.aliases == self.aliases else ["aliases"]
        configured: dict[str, Cell] = {}
        for entry in files.cells.values():
            fresh = _cell_of(entry)
            known = self._configured.pop(entry.name, None)
            cell = known or self._found(entry.name) or fresh
            if known is None or (cell.vl_servers, cell.linked) != (fresh.vl_servers, fresh.linked):
                changes.append(f"cell {entry.name}")
            if entry.servers:  # else the DNS knows better than the file
                cell.vl_servers, cell.expires = fresh.vl_servers, fresh.expires
            elif known is None:
                cell.expires = 0.0
            cell.linked, cell.description = fresh.linked, fresh.description
            configured[entry.name] = cell
        for gone in self._configured.values():
            changes.append(f"cell {gone.name}")
            gone.expires = 0.0
            self._discovered[gone.name] = gone
        self._configured = configured
        self._failures.clear()
        self.this_cell, self.aliases = files.this_cell, dict(files.aliases)
        return changes

    def configure(self, name: str, servers: Sequence[Address], linked: str | None) -> Cell:
        """Make a cell known, or say where the servers of one are, as CellServDB would.

        Raises `CellUnknown` for what cannot be a cell's name.
        """
        folded = name.lower()
        if not is_cell_name(folded) or folded in self.aliases:
            raise CellUnknown("this cannot be the name of a cell", cell=name)
        cell = self._configured.get(folded) or self._found(folded)
        cell = self._configured[folded] = cell or Cell(folded, ())
        cell.vl_servers, cell.linked, cell.expires = tuple(servers), linked, inf
        self._failures.pop(folded, None)
        return cell

    async def name_alias(self, alias: str, name: str) -> Cell:
        """Give a cell another name. Raises as `find`, and `CellUnknown` for a name that is taken or
        cannot be one.
        """
        folded = alias.lower()
        if not is_cell_name(folded) or folded in self._configured or folded in self._discovered:
            raise CellUnknown("this name is taken, or cannot be one", cell=alias)
        cell = await self.find(name)
        self.aliases[folded] = cell.name
        return cell

    def known_cells(self) -> tuple[str, ...]:
        """Names of the configured cells, then of those that were found in the DNS."""
        return (*self._configured, *self._discovered)

    def used_cells(self) -> tuple[str, ...]:
        """Names of the local cell and of those that somebody asked for, oldest first."""
        local = (self.this_cell,) if self.this_cell is not None else ()
        return tuple(dict.fromkeys((*local, *self._used)))

    def configured(self, name: str) -> bool:
        """Whether the files know this name, as a cell's or an alias."""
        folded = name.lower()
        return folded in self._configured or folded in self.aliases

    def cells(self) -> tuple[Cell, ...]:
        """The cells of `known_cells`. Until files are read anew, or a thousand cells were
        found in the DNS, a cell keeps its place, so its index is a number for it.
        """
        return (*self._configured.values(), *self._discovered.values())

    async def find(self, name: str) -> Cell:
        """The cell of a name or alias, in whatever case.

        Raises `CellUnknown` or, when the DNS fails, `CellUnreachable`. Names that cannot be
        cells are refused without asking the DNS. A cell that was found stays found: when the DNS
        fails later, its last answer is used.
        """
        folded = name.lower()
        folded = self.aliases.get(folded, folded)
        cell = self._configured.get(folded) or self._discovered.get(folded)
        now = trio.current_time()
        if cell is None or cell.expires <= now:
            failure = self._failures.get(folded)
            if failure is None or failure[1] <= now:
                cell = await self._lookups.run(folded, lambda: self._ask(folded, cell))
            elif cell is None or not cell.vl_servers:
                raise failure[0].again()
        cell.asked = now
        self._used[cell.name] = None
        return cell

    async def _ask(self, name: str, known: Cell | None) -> Cell:
        if known is None and not (is_cell_name(name) and "." in name):
            raise CellUnknown("this cannot be the name of a cell", cell=name)
        try:
            answer = await self._resolver.lookup(name)
        except AfsError as exc:
            self._remember_failure(name, exc)
            if known is None or not known.vl_servers:
                raise
            return known
        self._failures.pop(name, None)
        cell = known or self._discover(name)
        cell.vl_servers = answer.servers
        cell.expires = trio.current_time() + answer.ttl
        return cell

    def _discover(self, name: str) -> Cell:
        """A cell that the DNS knows. The one asked for longest ago makes room, as whoever has a
        domain of his own can ask for any number.
        """
        while len(self._discovered) >= _DISCOVERED_MAX:
            oldest = min(self._discovered.values(), key=lambda cell: cell.asked)
            del self._discovered[oldest.name]
            self._used.pop(oldest.name, None)
            self._rested[oldest.name] = oldest
        cell = self._discovered[name] = self._rested.get(name) or Cell(name, ())
        return cell

    def _found(self, name: str) -> Cell | None:
        """A cell that was found in the DNS, which the caller takes over."""
        return self._discovered.pop(name, None) or self._rested.get(name)

    def _remember_failure(self, name: str, error: AfsError) -> None:
        self._failures[name] = (error, trio.current_time() + _RETRY_AFTER)
        self._failures.move_to_end(name)
        if len(self._failures) > _FAILURES_MAX:
            self._failures.popitem(last=False)
