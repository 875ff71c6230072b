"""The index: what is committed stays, what is not is not there, what is damaged is not believed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from afsfuse.cache.disk.index import FileKey, Index, PartRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = FileKey(1, 4, 1, 7, 0, 100)
ROW = PartRow(12, KEY, 0, 5120, 3, b"\1\2\3\4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    made = Index(path, 32768)
    made.open_for_writing()
    yield made
    made.close_for_writing()
    made.close()


def test_what_is_put_is_seen_once_it_is_committed(index: Index, path: Path) -> None:
    index.add_volume(1, "test.afs", 5, 1000)
    index.put([ROW])
    assert index.part(12) is None
    index.commit()
    assert index.part(12) == ROW
    assert index.file(1, 4, 1) == [(12, KEY, 0)]
    assert index.file(1, 4, 2) == []
    again = Index(path, 32768)
    assert again.instance("test.afs", 5) == (1, 1000)
    assert again.instance("test.afs", 6) is None
    assert again.last_numbers == (1, 12, 3)
    again.close()


def test_what_is_rolled_back_is_not_there(index: Index) -> None:
    index.put([ROW])
    index.roll_back()
    index.commit()
    assert index.part(12) is None


def test_the_oldest_are_told_in_order(index: Index) -> None:
    index.put([ROW._replace(number=number, used=100 - number) for number in range(1, 6)])
    assert [row.number for row in index.oldest(3)] == [5, 4, 3]
    index.touch([(1000, 5)])
    assert [row.number for row in index.oldest(2)] == [4, 3]
    index.delete([4])
    assert [row.number for row in index.oldest(2)] == [3, 2]
    assert index.numbers().keys() == {1, 2, 3, 5}


def test_an_instance_takes_the_place_of_another(index: Index) -> None:
    index.add_volume(1, "test.afs", 5, 1000)
    index.add_volume(2, "test.afs", 5, 2000)
    index.put([ROW, ROW._replace(number=13, key=KEY._replace(instance=2))])
    assert [row.number for row in index.parts_of(1)] == [12]
    assert [row.number for row in index.rows_of([13, 14])] == [13]


def change(path: Path, order: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(order)


@pytest.mark.parametrize(
    "order",
    [
        "UPDATE parts SET version=8",
        "UPDATE parts SET place=1",
        "UPDATE parts SET uniq=2",
        "UPDATE parts SET sums=x'01020305'",
        "UPDATE parts SET sums='text'",
        "UPDATE parts SET own_sum=own_sum+1",
        "UPDATE parts SET number=13",
    ],
)
def test_a_row_that_was_changed_says_nothing(index: Index, path: Path, order: str) -> None:
    index.put([ROW])
    index.commit()
    change(path, order)
    found = index.part(12) or index.part(13)
    assert found is not None
    assert found.sums == b""


def test_a_volume_that_was_changed_is_not_known(index: Index, path: Path) -> None:
    index.add_volume(1, "test.afs", 5, 1000)
    index.commit()
    change(path, "UPDATE volumes SET volume=6")
    again = Index(path, 32768)
    assert again.instance("test.afs", 5) is None
    assert again.instance("test.afs", 6) is None
    again.close()


def test_an_index_of_another_kind_is_made_anew(path: Path) -> None:
    change(path, "CREATE TABLE settings (something TEXT)")
    change(path, "PRAGMA user_version=99")
    index = Index(path, 32768)
    assert index.last_numbers == (0, 0, 0)
    index.close()
    change(path, "INSERT INTO volumes VALUES (5, 'a', 1, 1, 1)")
    index = Index(path, 65536)
    assert index.last_numbers == (0, 0, 0), "chunks of another size"
    assert index.size() > 0
    index.close()
