"""Each line that refuses something is missed by a test when it is gone.

The long form takes them away one by one from a copy of the sources. The short one sees that they
still stand where the table says, so that who moves or changes one has to say what becomes of it.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.guards.trial import ROOT, Guard, copy_sources, noticed, run_tests

GUARDS = [
    Guard(**row)
    for row in tomllib.loads(Path(__file__).with_name("table.toml").read_text())["guard"]
]
ITEMS = {
    *(f"H{number}" for number in range(1, 11)),
    *(f"S{number}" for number in (1, 2, 3, 4, 5, 9, 10, 11)),
    *(f"L{number}" for number in (1, 2, 3, 5, 7)),
}
"""Those that are held by a line that can be taken away; the others are shown by tests alone."""


@pytest.mark.parametrize("file", sorted({guard.file for guard in GUARDS}))
def test_guards_stand_where_the_table_says(file: str) -> None:
    text = (ROOT / file).read_text()
    for guard in GUARDS:
        if guard.file == file:
            assert text.count(guard.line) == 1, guard
            compile(text.replace(guard.line, guard.without), file, "exec")


def test_the_table_has_all_items_and_tests_that_exist() -> None:
    assert {guard.item for guard in GUARDS} == ITEMS
    kinds = Counter(guard.item[0] for guard in GUARDS)
    print(f"{len(GUARDS)} guards: {dict(kinds)}")
    for guard in GUARDS:
        assert guard.line != guard.without
        for each in guard.tests.split():
            assert (ROOT / each.partition("::")[0]).exists(), each


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, whose tests pass."""
    folder = tmp_path_factory.mktemp("sources")
    copy_sources(folder)
    return folder


def test_the_copy_is_what_is_tested(place: Path) -> None:
    """Its own sources and not the checkout's; without a change its tests pass."""
    tests = "tests/unit/rxrpc/wire/test_control.py"
    guard = next(guard for guard in GUARDS if guard.file == "rxrpc/wire/control.py")
    gone, said = noticed(guard, place)
    assert gone, said
    assert run_tests(place, tests).returncode == 0, "it was put right"


@pytest.mark.soak
@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_without_it_a_test_fails(guard: Guard, place: Path) -> None:
    gone, said = noticed(guard, place)
    assert gone, f"nobody misses {guard}\n{said[-2000:]}"
