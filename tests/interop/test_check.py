"""`afsfuse check` at a real cell: all is well, and what is not is found."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.realcell.configuration import CELL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.cell import RealCell

pytestmark = pytest.mark.realcell

Found = dict[str, list[dict[str, Any]]]


def check(cell: RealCell, folder: Path, *before: str) -> tuple[int, Found]:
    """Exit status and findings, by what was looked at; of client1 with this configuration."""
    done = cell.clients["client1"].run(
        [*before, sys.executable, "-m", "afsfuse", "check", "--json", "--confdir", str(folder)],
        mounts=False,
        env={**os.environ, "KRB5_CONFIG": str(folder / "krb5.conf")},
        check=False,
        timeout=60.0,
    )
    assert not done.stderr, done.stderr
    found: Found = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["what"], []).append(one)
    return done.returncode, found


def wrong(found: Found) -> dict[str, list[dict[str, Any]]]:
    """What is not well."""
    return {
        what: bad
        for what, findings in found.items()
        if (bad := [one for one in findings if one["state"] == "wrong"])
    }


def test_all_is_well(real_cell: RealCell) -> None:
    status, found = check(real_cell, real_cell.confdir)
    assert (status, wrong(found)) == (0, {})
    assert f"this cell is {CELL}" in found["files"][0]["text"]
    assert "has the same time" in found["clock"][0]["text"]
    assert "2 listed, all answer" in found["file servers"][0]["text"]
    assert "has called back" in found["callbacks"][0]["text"]
    assert "clocks differ" in found["time"][0]["text"]


def test_a_location_server_that_is_down(real_cell: RealCell, tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    shutil.copytree(real_cell.confdir, folder)
    down = real_cell.clients["client2"].address  # nobody listens there
    database = folder / "CellServDB"
    here = f">{CELL}"
    lines = database.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(here))
    lines.insert(place + 1, f"{down} #down.{CELL}")
    database.write_text("\n".join(lines) + "\n")
    status, found = check(real_cell, folder)
    assert status == 32
    assert wrong(found).keys() == {"location"}
    assert [one["state"] for one in found["location"]] == ["wrong", "well"]
    (bad,) = wrong(found)["location"]
    assert f"{down}:7003 does not answer" in bad["text"]
    assert "UDP" in bad["advice"]
    assert found["callbacks"][0]["state"] == "well"


def test_clocks_that_differ(real_cell: RealCell) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")
    status, found = check(real_cell, real_cell.confdir, "faketime", "-f", "+1h")
    assert status == 32
    (clock,) = wrong(found)["clock"]
    assert "ahead of the KDC's" in clock["text"]
    assert 3590 <= int(clock["text"].split(" is ")[1].split(" s ")[0]) <= 3660
    assert "set the clock" in clock["advice"]
    assert wrong(found).keys() == {"clock", "time"}


def test_a_kdc_that_is_not_there(real_cell: RealCell, tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    shutil.copytree(real_cell.confdir, folder)
    config = folder / "krb5.conf"
    address = real_cell.fs1.address
    config.write_text(config.read_text().replace(f"kdc = {address}", f"kdc = {address}:9"))
    status, found = check(real_cell, folder)
    assert status == 32
    assert wrong(found).keys() == {"KDC"}
