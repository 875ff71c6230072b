"""What is in the pages: fenced blocks, headings, links, and code within a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^ {0,3}```(.*)$")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    """Of its first line in the page, as editors count."""
    language: str
    words: str
    """What stands behind the language in the fence's line; a rendered page does not show it."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page. ValueError where one has no end."""
    name = str(page.relative_to(ROOT))
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    for number, line in lines:
        if (fence := _FENCE.match(line)) is None:
            continue
        language, _, words = fence[1].strip().partition(" ")
        inside = []
        for _, text in lines:
            if _FENCE.match(text):
                break
            inside.append(text)
        else:
            raise ValueError(f"{name}:{number}: a block without an end")
        yield Block(name, number + 1, language, words.strip(), "\n".join(inside))


def prose(page: Path) -> list[str]:
    """The lines of a page that are in no fenced block, those as empty ones."""
    lines: list[str] = []
    inside = False
    for line in page.read_text().splitlines():
        fence = bool(_FENCE.match(line))
        lines.append("" if inside or fence else line)
        inside ^= fence
    return lines


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be linked by.

    Source: the rule of GitHub's renderer: lower case, blanks become hyphens, letters, digits,
    hyphens and underscores stay; the second heading of a name has -1 behind it.
    """
    found: dict[str, int] = {}
    made = set()
    for line in prose(page):
        if (heading := _HEADING.match(line)) is None:
            continue
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        made.add(f"{slug}-{count}" if count else slug)
    return made


def links(page: Path) -> list[str]:
    """Where the links of a page lead to, as they are written."""
    text = "\n".join(re.sub(r"`[^`]*`", "", line) for line in prose(page))
    return _LINK.findall(text)


def spans(page: Path) -> list[tuple[int, str]]:
    """Code within a line, with the line's number."""
    return [
        (number, code)
        for number, line in enumerate(prose(page), start=1)
        for code in _SPAN.findall(line.replace(r"\|", "|"))
    ]
