"""The real cell from the command line.

    python -m tests.realcell up [--no-seed]      bring a cell up, print the facts, stay
    python -m tests.realcell run -- COMMAND …    a cell for the time of one command
    python -m tests.realcell --needs             what this machine lacks, one line each

`run` gives its command these variables: REALCELL_CONFDIR, REALCELL_NAME, REALCELL_FOLDER,
REALCELL_MAIN_ADDRESS, and for each host REALCELL_FS1 (address) and REALCELL_CLIENT1_ENTER (a
command prefix). Exit status: that of the command; 1 when the cell did not come up; 2 for a usage
error; 3 when `--needs` has something to say.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from tests.realcell import seed
from tests.realcell.cell import CellError, RealCell
from tests.realcell.prerequisites import missing, missing_packages

if TYPE_CHECKING:
    from types import FrameType


def _environment(cell: RealCell) -> dict[str, str]:
    """The facts of a cell as variables."""
    facts = {
        "REALCELL_CONFDIR": str(cell.confdir),
        "REALCELL_NAME": cell.name,
        "REALCELL_FOLDER": str(cell.folder),
        "REALCELL_MAIN_ADDRESS": cell.main_address,
    }
    for host in (*cell.servers.values(), *cell.clients.values()):
        facts[f"REALCELL_{host.name.upper()}"] = host.address
        facts[f"REALCELL_{host.name.upper()}_ENTER"] = shlex.join(host.enter)
    return facts


def _print_facts(cell: RealCell) -> None:
    """What a person needs in order to use the cell."""
    lines = [f"cell         {cell.name}", f"confdir      {cell.confdir}"]
    for host in cell.servers.values():
        prefix = shlex.join(host.argv([]))
        lines.append(f"{host.name:12} {host.address:14} {prefix} COMMAND")
    for host in cell.clients.values():
        lines.append(f"{host.name:12} {host.address:14} {shlex.join(host.enter)} COMMAND")
        tools = shlex.join(host.argv([]))
        lines.append(f"{'':27} {tools} vos|afsio|cmdebug …   (finds /etc/openafs)")
    lines.append(
        f"this machine {cell.main_address:14} mount it here with -o confdir={cell.confdir}"
    )
    print("\n".join(lines), flush=True)


def _start(*, seeded: bool) -> RealCell:
    started = time.monotonic()
    cell = RealCell.start()
    try:
        if seeded:
            seed.populate(cell)
    except BaseException:
        cell.down()
        raise
    print(f"the cell is up after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return cell


def _up(*, seeded: bool) -> int:
    with _start(seeded=seeded) as cell:
        _print_facts(cell)
        print("ends at Ctrl-C or SIGTERM", flush=True)
        while True:
            signal.pause()


def _run(command: list[str], *, seeded: bool) -> int:
    with _start(seeded=seeded) as cell:
        return subprocess.run(
            command, env={**os.environ, **_environment(cell)}, check=False
        ).returncode


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.realcell", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--needs", action="store_true", help="print what is missing")
    parser.add_argument("--packages", action="store_true", help="print missing Debian packages")
    commands = parser.add_subparsers(dest="action")
    up = commands.add_parser("up", help="bring a cell up and stay")
    run = commands.add_parser("run", help="a cell for one command")
    for command in (up, run):
        command.add_argument("--no-seed", action="store_true", help="leave the cell empty")
    run.add_argument("command", nargs="+")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point; see the head of the file for exit statuses."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.needs or options.packages:
        problems = missing_packages() if options.packages else missing()
        print("\n".join(problems), end="\n" if problems else "")
        return 3 if problems else 0
    if options.action is None:
        parser.error("say `up`, `run -- COMMAND` or --needs")
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    try:
        if options.action == "up":
            return _up(seeded=not options.no_seed)
        return _run(options.command, seeded=not options.no_seed)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except CellError as exc:
        print(f"no cell: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
