"""Links lead somewhere, and every page can be reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import PAGES, README, ROOT, anchors, links

if TYPE_CHECKING:
    from pathlib import Path

ALSO = ("https://", "http://", "mailto:")


def target(page: Path, link: str) -> tuple[Path, str]:
    """The file and the fragment that a relative link of a page names."""
    path, _, fragment = link.partition("#")
    return (page.parent / path).resolve() if path else page.resolve(), fragment


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere, each with what is wrong."""
    wrong = []
    for link in links(page):
        if link.startswith(ALSO):
            continue
        file, fragment = target(page, link)
        if not file.exists() or not file.is_relative_to(ROOT.resolve()):
            wrong.append(f"{link}: no such file")
        elif fragment and fragment not in anchors(file):
            wrong.append(f"{link}: no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_every_page_can_be_reached_from_the_first_one() -> None:
    reached: set[Path] = set()
    new = {README.resolve()}
    while new:
        reached |= new
        linked = {target(page, link)[0] for page in new for link in links(page)}
        new = {page for page in linked if page.suffix == ".md" and page.exists()} - reached
    assert {page.resolve() for page in PAGES} - reached == set()


def test_the_first_page_names_all_others() -> None:
    """Who looks for something should not have to walk."""
    named = {target(README, link)[0].name for link in links(README)}
    assert {page.name for page in PAGES} - named == {README.name}


def test_broken_links_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# One `thing`, twice\n[a](#one-thing-twice) [b](#two) [c](gone.md) `[d](e)`\n")
    assert [re.sub(":.*", "", line) for line in broken(page)] == ["#two", "gone.md"]
