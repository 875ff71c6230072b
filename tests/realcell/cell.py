"""The handle on a running real cell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.realcell import configuration, keeper, prompt
from tests.realcell.hosts import CommandFailed, Host
from tests.realcell.network import Direction, Network, free_network, machine_lock
from tests.realcell.prerequisites import missing
from tests.realcell.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FOLDER_PREFIX = "afsfuse-realcell-"
FACTS = "facts.json"
READY_SECONDS = 90.0
POLL_SECONDS = 0.2
PORT_POLL_SECONDS = 0.02
_ELECTION_SECONDS = 180.0  # a database server gives nobody its vote for its first 75 s
DOWN_SECONDS = 30.0
YOUNG_SECONDS = 600.0
_PROGRAMS = "/usr/lib/openafs"
_FILE_SERVER = (
    f"{_PROGRAMS}/dafileserver -L",
    configuration.VOLUME_SERVER,
    f"{_PROGRAMS}/salvageserver",
    f"{_PROGRAMS}/dasalvager",
)
_FILES, _PROTECTION, _LOCATIONS, _VOLUMES, _OVERSEER = 7000, 7002, 7003, 7005, 7007  # UDP ports
_SERVER_NUMBERS, _CLIENT_NUMBERS = range(11, 20), range(21, 100)
_DEAD, _CLOSED, _GONE = 250, 251, 252  # host numbers; two are addresses of the host `void`


class CellError(Exception):
    """The cell could not be brought up, or something in it did not happen in its time."""


class RealCell:
    """OpenAFS servers on one machine, in namespaces. Make one with `RealCell.start`.

    `servers` and `clients` map names to hosts; the first server, `fs1`, is also the KDC and the
    database server. The machine itself has an address too (`main_address`), so a client in no
    namespace works as well. `confdir` holds ThisCell and CellServDB for clients.
    """

    def __init__(self, folder: Path, keeper_process: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.name = configuration.CELL
        self.confdir = folder / "conf"
        self.servers: dict[str, Host] = {}
        self.clients: dict[str, Host] = {}
        self._databases: Sequence[str] = ("fs1",)
        self._network: Network | None = None
        self._keeper = keeper_process
        self._down = False

    @classmethod
    def start(
        cls,
        *,
        servers: Sequence[str] = ("fs1", "fs2"),
        clients: Sequence[str] = ("client1", "client2"),
        partitions: int = 1,
        databases: int = 1,
    ) -> RealCell:
        """Bring a cell up, ready for volumes; about 5 s. Raises CellError.

        With several `databases` so many of the first servers are database servers, too; until these
        have elected one among them, more than a minute passes.
        """
        if problems := missing():
            raise CellError("; ".join(problems))
        sweep()
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        process = subprocess.Popen(
            [sys.executable, keeper.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        cell = cls(folder, process)
        try:
            prompt.build(folder)
            cell._databases = servers[:databases]
            cell._make_hosts(servers, clients, partitions)
            cell._make_servers()
        except BaseException:
            cell.down()
            raise
        return cell

    @classmethod
    def attach(cls, folder: Path) -> RealCell:
        """The handle on a cell that another process started and will end; `down` only ends what
        this handle started. Raises CellError when no cell runs in `folder`."""
        try:
            facts = json.loads((folder / FACTS).read_text())
        except OSError as exc:
            raise CellError(f"no cell runs in {folder}: {exc}") from exc
        cell = cls(folder, None)
        cell._network = Network(facts["network"], facts["holders"]["lan"], facts["holders"])
        cell._name_hosts(facts["servers"], facts["clients"], facts["holders"])
        return cell

    def __enter__(self) -> RealCell:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def down(self) -> None:
        """End it all; returns when nothing is left. Idempotent."""
        if self._down:
            return
        self._down = True
        for host in self.clients.values():
            host.stop_started()
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(DOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()  # the holders die with it, the folder is left to `sweep`
            self._keeper.wait()
            raise CellError(f"the cell in {self.folder} did not go down") from None
        finally:
            self._keeper.stdout.close()
            for host in self.servers.values():
                host.stop_started()
        if self._network is not None and not self._network.wait_until_gone(DOWN_SECONDS):
            raise CellError(f"the network of the cell in {self.folder} did not go away")

    @property
    def fs1(self) -> Host:
        return self.servers["fs1"]

    @property
    def network(self) -> Network:
        """The wires, for faults that have no method here."""
        assert self._network is not None
        return self._network

    @property
    def main_address(self) -> str:
        """The machine's own address on the cell's network."""
        return self.network.address(1)

    @property
    def volumes(self) -> Volumes:
        return Volumes(self.fs1, self.servers, prompt.environment(self.folder))

    def host(self, name: str) -> Host:
        return {**self.servers, **self.clients}[name]

    def vos(self, arguments: Sequence[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """`vos` as the cell's administrator."""
        return self.fs1.run(["vos", *arguments, "-localauth"], **kwargs)

    def pts(self, arguments: Sequence[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """`pts` as the cell's administrator."""
        return self.fs1.run(["pts", *arguments, "-localauth"], **kwargs)

    def bos(
        self, server: str, arguments: Sequence[str], **kwargs: Any
    ) -> subprocess.CompletedProcess[str]:
        """`bos COMMAND -server SERVER …` as the cell's administrator."""
        command, *rest = arguments
        where = ["-server", self.servers[server].address]
        return self.fs1.run(["bos", command, *where, *rest, "-localauth"], **kwargs)

    @contextmanager
    def loss(
        self, host: str, percent: float, direction: Direction = Direction.BOTH
    ) -> Iterator[None]:
        """Lose a share of a host's UDP packets, by nftables, while the context lasts."""
        self.network.lose(host, percent, direction)
        try:
            yield
        finally:
            self.network.heal(host)

    @contextmanager
    def partition(self, host: str, direction: Direction = Direction.BOTH) -> Iterator[None]:
        """Cut a host off while the context lasts."""
        self.network.partition(host, direction)
        try:
            yield
        finally:
            self.network.heal(host)

    def restart_file_server(self, server: str) -> None:
        """Restart by bosserver, in order, and wait until it answers."""
        self.bos(server, ["restart", "-instance", "dafs"])
        self.wait_for_file_server(server)

    def kill_file_server(self, server: str) -> list[int]:
        """SIGKILL the file server process; bosserver starts a new one by itself (and a salvage
        first). -> the pids that were killed."""
        pids = self.servers[server].pids("dafileserver")
        for pid in pids:
            os.kill(pid, 9)
        return pids

    def wait_for_file_server(self, server: str, seconds: float = READY_SECONDS) -> None:
        """Until the volume server lists its partitions and port 7000 answers."""
        address = self.servers[server].address
        for port in (_FILES, _VOLUMES):
            self._wait_for_port(server, port, seconds)
        _poll(f"{server}: vos partinfo", seconds, lambda: self.vos(["partinfo", address]))
        probe = ["rxdebug", address, "7000", "-version"]
        _poll(f"{server}: port 7000", seconds, lambda: self.fs1.run(probe))

    def _make_hosts(self, servers: Sequence[str], clients: Sequence[str], partitions: int) -> None:
        """Start the keeper's holders and lay the cables."""
        with machine_lock():
            plan = [_host_plan("lan", self.folder), _host_plan("void", self.folder)]
            plan += [_host_plan(name, self.folder, partitions=partitions) for name in servers]
            plan += [_host_plan(name, self.folder, mounts=True) for name in clients]
            pids = self._ask_keeper(plan)
            self._network = Network(free_network(), pids["lan"], pids)
            self.network.connect_machine()
        self._name_hosts(servers, clients, pids)
        for host in (*self.servers.values(), *self.clients.values()):
            self.network.connect(host.name, host.address)
        self._make_broken_cells()
        for host in self.clients.values():
            shutil.copytree(self.confdir, host.root / "etc/openafs", dirs_exist_ok=True)
        facts = {"network": self.network.number, "holders": pids}
        facts |= {"servers": list(servers), "clients": list(clients)}
        (self.folder / FACTS).write_text(json.dumps(facts))

    def _name_hosts(
        self, servers: Sequence[str], clients: Sequence[str], holders: Mapping[str, int]
    ) -> None:
        """Fill `servers` and `clients`; addresses follow from the order."""
        environment = {"KRB5_CONFIG": str(self.confdir / "krb5.conf")}
        for names, numbers, hosts in (
            (servers, _SERVER_NUMBERS, self.servers),
            (clients, _CLIENT_NUMBERS, self.clients),
        ):
            for name, number in zip(names, numbers, strict=False):
                address = self.network.address(number)
                is_server = hosts is self.servers
                hosts[name] = Host(name, address, holders[name], is_server, environment)

    def _make_broken_cells(self) -> None:
        """The host `void` is the server of two cells: it ignores one and refuses the other."""
        dead, closed, gone = (self.network.address(number) for number in (_DEAD, _CLOSED, _GONE))
        self.network.connect("void", dead)
        self.network.add_address("void", closed)
        self.network.lose("void", 100, Direction.IN, match=f"ip daddr {dead}")
        broken = {
            configuration.DEAD_CELL: dead,
            configuration.CLOSED_CELL: closed,
            configuration.GONE_CELL: gone,
        }
        configuration.write_client_configuration(self.confdir, self._database_addresses, broken)

    @property
    def _database_addresses(self) -> list[str]:
        return [self.servers[name].address for name in self._databases]

    def _ask_keeper(self, plan: list[dict[str, object]]) -> dict[str, int]:
        assert self._keeper is not None
        identity = {
            "owner": _identity(os.getpid()),
            "keeper": _identity(self._keeper.pid),
        }
        (self.folder / "owner.json").write_text(json.dumps(identity))
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        request = json.dumps({"folder": str(self.folder), "hosts": plan})
        self._keeper.stdin.write(request.encode() + b"\n")
        self._keeper.stdin.flush()
        answer = self._keeper.stdout.readline()
        if not answer:
            raise CellError("the keeper of the namespaces did not start; see its error output")
        pids: dict[str, int] = json.loads(answer)
        return pids

    def _make_servers(self) -> None:
        """Configure and start: database servers first, for a file server that cannot reach them
        at its start waits half a minute before it tries again."""
        for host in self.servers.values():
            configuration.write_server_configuration(host, self._database_addresses)
        configuration.create_realm(self.fs1)
        for host in self.servers.values():
            if host is not self.fs1:
                configuration.copy_key(self.fs1, host)
        self._daemon(self.fs1, ["krb5kdc", "-n"], configuration.kdc_environment())
        for host in self.servers.values():
            self._daemon(host, ["bosserver", "-nofork"])
        for name in self.servers:
            self._wait_for_port(name, _OVERSEER)
        for program in ("vlserver", "ptserver"):
            for name in self._databases:
                self._create_instance(name, program, "simple", (f"{_PROGRAMS}/{program}",))
        for name in self._databases:
            for port in (_PROTECTION, _LOCATIONS):
                self._wait_for_port(name, port)
        _poll("pts createuser", _ELECTION_SECONDS, lambda: self.pts(["createuser", "admin"]))
        self.pts(["adduser", "admin", "system:administrators"])
        for user, number in configuration.USER_IDS.items():
            self.pts(["createuser", user, "-id", str(number)])
        _poll("vos listvldb", _ELECTION_SECONDS, lambda: self.vos(["listvldb"]))
        for name in self.servers:
            self._create_instance(name, "dafs", "dafs", _FILE_SERVER)
        for name in self.servers:
            self.wait_for_file_server(name)

    def _create_instance(
        self, server: str, instance: str, kind: str, commands: Sequence[str]
    ) -> None:
        arguments = ["create", "-instance", instance, "-type", kind]
        for command in commands:
            arguments += ["-cmd", command]
        _poll(f"{server}: bosserver", READY_SECONDS, lambda: self.bos(server, arguments))

    def _wait_for_port(self, server: str, port: int, seconds: float = READY_SECONDS) -> None:
        """Until somebody has it: OpenAFS's programs wait for seconds for one who comes a little
        later. Raises CellError."""
        host = self.servers[server]
        deadline = time.monotonic() + seconds
        while not host.has_port(port):
            if time.monotonic() > deadline:
                raise CellError(f"{server}: nobody at port {port} after {seconds:.0f} s")
            time.sleep(PORT_POLL_SECONDS)

    def _daemon(
        self, host: Host, command: Sequence[str], env: dict[str, str] | None = None
    ) -> None:
        """Start a server's program; what it prints goes to a file in the work folder."""
        with (self.folder / f"{host.name}-{command[0]}.log").open("wb") as output:
            host.popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _host_plan(
    name: str, folder: Path, *, mounts: bool = False, partitions: int = 0
) -> dict[str, object]:
    """What the keeper is told of a host; one with partitions is a server."""
    root = folder / f"root-{name}"
    root.mkdir()
    return {
        "name": name,
        "mounts": mounts or partitions > 0,
        "processes": partitions > 0,
        "root": str(root),
        "vice_folders": partitions,
    }


def _poll(what: str, seconds: float, attempt: Callable[[], object]) -> None:
    """Try until it does not fail; CellError with the last failure after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            attempt()
            return
        except CommandFailed as exc:
            if time.monotonic() > deadline:
                raise CellError(f"{what}: not ready after {seconds:.0f} s: {exc}") from exc
        time.sleep(POLL_SECONDS)


def _identity(pid: int) -> list[int]:
    """A process, so that another one with the same number is not taken for it: [pid, start].
    The start of one that has ended, or that only waits to be reaped, is 0."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return [pid, 0]
    fields = text.rpartition(")")[2].split()  # proc(5): from field 3, state; 22 is starttime
    return [pid, 0 if fields[0] in "ZX" else int(fields[19])]


def sweep() -> list[Path]:
    """Remove work folders whose cell is no more: its owner and its keeper are both dead (only a
    SIGKILL of the keeper itself does that). -> the folders that were removed."""
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        try:
            processes = json.loads((folder / "owner.json").read_text())
        except (OSError, ValueError):
            if not folder.exists() or time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue  # it is just being made
            processes = {}
        if any(_identity(pid) == [pid, start] for pid, start in processes.values()):
            continue
        keeper.remove_folder(folder)
        removed.append(folder)
    return removed
