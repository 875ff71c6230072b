"""SQLite: journals, locks, pages that are overwritten in place; several processes write at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mount

WRITERS = 3
ROUNDS = 15
SOAK_ROUNDS = 200
SECONDS = 240

WRITER = """\
import sqlite3, sys
path, who, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connection = sqlite3.connect(path, timeout=200, isolation_level=None)
for number in range(rounds):
    connection.execute("BEGIN IMMEDIATE")
    (total,) = connection.execute("SELECT total FROM counter").fetchone()
    connection.execute("UPDATE counter SET total = ?", (total + 1,))
    connection.execute("INSERT INTO log VALUES (?, ?, ?)", (who, number, bytes(700 + 300 * who)))
    connection.execute("ROLLBACK" if number % 5 == 4 else "COMMIT")
"""


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(SOAK_ROUNDS, marks=pytest.mark.soak)])
def test_several_processes_write_one_database(folder: Path, rounds: int) -> None:
    path = folder / "data.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE counter (total INTEGER)")
    connection.execute("INSERT INTO counter VALUES (0)")
    connection.execute("CREATE TABLE log (who INTEGER, number INTEGER, data BLOB)")
    connection.execute("CREATE INDEX by_who ON log (who, number)")
    connection.commit()
    connection.close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(who), str(rounds)], stderr=subprocess.PIPE
        )
        for who in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stderr is not None
        _, said = writer.communicate(timeout=SECONDS)
        assert writer.returncode == 0, said.decode()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    kept = rounds - rounds // 5
    assert connection.execute("SELECT total FROM counter").fetchone() == (WRITERS * kept,)
    counts = connection.execute("SELECT who, count(*) FROM log GROUP BY who ORDER BY who")
    assert counts.fetchall() == [(who, kept) for who in range(WRITERS)]
    connection.execute("VACUUM")
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    connection.close()
    assert [each.name for each in folder.iterdir()] == ["data.db"]
