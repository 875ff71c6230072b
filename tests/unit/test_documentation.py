"""The programs in the documentation run, and what is made from the source is fresh.

Commands, links and pictures have tests of their own: `tests/docs`.
"""

import random
import re
import textwrap
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from afsfuse.democell import DemoCell
from afsfuse.democell.acl import ALL_RIGHTS, AccessList
from afsfuse.democell.trees import MountPoint, plant
from afsfuse.errors import ViceCode
from afsfuse.interfaces import fileserver
from rxrpc import Endpoint, SecurityLevel
from rxrpc.programs import failures
from tests.interop.matrix import report
from tests.interop.matrix.faults import FAULTS
from tests.net import LossyNetwork
from tests.tools import guide, observing

DOCS = Path(__file__).parent.parent.parent / "docs"
GUIDE = (DOCS / "rxrpc.md").read_text()


async def test_the_programs_of_the_library_guide(capsys: pytest.CaptureFixture[str]) -> None:
    """They build on each other, so they are one program."""
    programs = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(programs) >= 5
    names: dict[str, object] = {"trio": trio}
    function = "async def program():\n" + textwrap.indent("\n".join(programs), "    ")
    exec(compile(function, str(DOCS / "rxrpc.md"), "exec"), names)
    with trio.fail_after(30):
        await names["program"]()  # type: ignore[operator]
    printed = capsys.readouterr().out
    assert "complete" in printed
    assert "connection opened" in printed


async def test_the_programs_of_the_page_on_the_cell(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As a test would have them: in a network in memory."""
    programs = re.findall(r"```python\n(.*?)```", (DOCS / "democell.md").read_text(), re.DOTALL)
    assert len(programs) == 2
    network = LossyNetwork(random.Random(1))
    endpoint = Endpoint()
    names: dict[str, object] = {
        **{"DemoCell": DemoCell, "plant": plant, "MountPoint": MountPoint, "fs": fileserver},
        **{"fileserver": fileserver, "ViceCode": ViceCode, "AccessList": AccessList, "time": time},
        **{"ALL_RIGHTS": ALL_RIGHTS, "SecurityLevel": SecurityLevel, "network": network},
        "endpoint": endpoint,
    }
    function = "async def program():\n" + textwrap.indent("\n".join(programs), "    ")
    exec(compile(function, str(DOCS / "democell.md"), "exec"), names)
    await names["program"]()  # type: ignore[operator]


def test_what_is_made_from_the_source_is_fresh() -> None:
    assert sorted(guide.marks(GUIDE)) == sorted(guide.MADE)
    assert guide.renew(GUIDE) == GUIDE, "write it anew: python -m tests.tools.guide"
    assert "SENDING --> AWAITING" in GUIDE
    assert "`dead_time` | 20 | s" in GUIDE


def test_the_tables_of_what_can_be_seen_are_fresh() -> None:
    page = observing.PAGE.read_text()
    assert observing.renew(page) == page, "write it anew: python -m tests.tools.observing"
    assert "| `afsfuse_read_bytes_total` | counter |" in page


def test_the_statuses_of_the_guide_are_those_of_the_programs() -> None:
    told = re.findall(r"^\| (\d+) \| (.*?)(?:;.*)? \|$", GUIDE, re.MULTILINE)
    known = re.findall(r"^  (\d+)  ([^;\n]*)", failures.STATUSES, re.MULTILINE)
    assert told == known


def test_the_tests_that_the_security_page_names_are_there() -> None:
    page = (DOCS / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 25
    for path, function in named:
        source = (DOCS.parent / path).read_text()
        assert not function or re.search(rf"^(async )?def {function}\(", source, re.MULTILINE), path
    lines = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [name for name in lines if re.fullmatch(r"[LH]\d+", name)] == [
        *(f"L{number}" for number in range(1, 9)), *(f"H{number}" for number in range(1, 11)),
    ]  # fmt: skip


def test_the_reliability_page_has_each_fault_of_the_matrix() -> None:
    page = (DOCS / "reliability.md").read_text()
    rows = report.rows_of(page)
    assert list(rows) == [fault.name for fault in FAULTS]
    assert report.renew(page, {}) == page
    lost = [row for row in rows.values() if not row.endswith("| 5 of 5 |")]
    assert not lost


def test_the_tests_that_the_operations_page_names_are_there() -> None:
    page = (DOCS / "operations.md").read_text()
    (table,) = re.findall(r"^\| fault \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    for row in table.strip().splitlines()[2:]:
        cell = row.removesuffix(" |").rpartition(" | ")[2]
        path = DOCS.parent / "tests"
        played = re.findall(r"matrix: `(\w+)`", cell)
        named = re.findall(r"`(?:([\w/]+\.py)(?:::(\w+))?|(test_\w+))`", cell)
        assert played or named, row
        assert set(played) <= {fault.name for fault in FAULTS}
        for file, first, other in named:
            if file:
                path = (DOCS.parent / "tests" if "/" in file else path.parent) / file
            assert f"def {first or other}" in path.read_text(), row
