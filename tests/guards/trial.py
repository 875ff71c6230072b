"""Takes a guard out of a copy of the sources, and sees whether a test notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = 250.0
COPIED = ("afsfuse", "rxrpc", "tests")


class Guard(NamedTuple):
    """A line that refuses something, and the test that fails without it."""

    item: str
    """Of the lists in `docs/security.md`."""
    file: str
    """Below the checkout."""
    line: str
    """What stands there, once in the file."""
    without: str
    """What stands there when the guard is taken away."""
    tests: str
    """What `pytest` is given, in words apart."""

    def __str__(self) -> str:
        return f"{self.item} {Path(self.file).stem}: {self.line.strip()[:60]}"

    def apply(self, root: Path) -> None:
        """Take it out of the sources at a place. Raises AssertionError when it is not there."""
        path = root / self.file
        text = path.read_text()
        assert text.count(self.line) == 1, f"{self.file} has this {text.count(self.line)} times"
        changed = text.replace(self.line, self.without)
        compile(changed, str(path), "exec")
        path.write_text(changed)


def copy_sources(target: Path) -> None:
    """The sources and tests, compiled modules with them, without what other runs left."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", target)


def run_tests(place: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """The outcome of these tests with the sources of a place."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header"]
    return subprocess.run(
        [*command, *tests.split()],
        cwd=place, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True,
        text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def noticed(guard: Guard, place: Path) -> tuple[bool, str]:
    """Whether a test fails without the guard, and what the tests said. The place is put right."""
    kept = (place / guard.file).read_text()
    try:
        guard.apply(place)
        done = run_tests(place, guard.tests)
    finally:
        (place / guard.file).write_text(kept)
    return done.returncode == 1, done.stdout + done.stderr
