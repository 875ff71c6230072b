"""What `.ci/setup` installs is pinned by hash, and is what `pyproject.toml` asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMES = ("build.lock", "requirements.lock", "run.lock")
LOCKS = {name: (ROOT / ".ci" / name).read_text() for name in NAMES}
RENEW = "write it anew: .ci/lock"


def pins(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes, by name."""
    found = {}
    for entry in re.split(r"\n(?=\S)", LOCKS[lock].strip()):
        first, *hashes = [line.strip() for line in entry.split(" \\\n")]
        name, version = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; .+)?", first).groups()  # type: ignore[union-attr]
        found[name] = (version, hashes)
    return found


def build_tools() -> list[str]:
    lines = (ROOT / ".ci" / "build.in").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements.lock", PROJECT["project"]["optional-dependencies"]["dev"]),
        ("run.lock", PROJECT["project"]["dependencies"]),
        ("run.lock", PROJECT["project"]["optional-dependencies"]["top"]),
        ("run.lock", PROJECT["project"]["optional-dependencies"]["metrics"]),
        ("build.lock", PROJECT["build-system"]["requires"]),
        ("build.lock", build_tools()),
    ],
    ids=["run", "develop", "install", "top", "metrics", "build", "build others"],
)
def test_all_that_is_asked_for_is_pinned(lock: str, asked: list[str]) -> None:
    known = pins(lock)
    for line in asked:
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        assert name in known, f"{name}: {RENEW}"
        version, _ = known[name]
        assert wanted.specifier.contains(version), f"{line} is not {version}: {RENEW}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_its_hashes_and_no_place_is_named(lock: str) -> None:
    for name, (_, hashes) in pins(lock).items():
        assert hashes, f"{name}: {RENEW}"
        for word in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word), word
    assert "://" not in LOCKS[lock], "mirrors differ"
    assert "-url" not in LOCKS[lock]


@pytest.mark.parametrize("lock", ["build.lock", "run.lock"])
def test_what_two_locks_have_is_the_same(lock: str) -> None:
    """What is installed is what was tested."""
    one, other = pins(lock), pins("requirements.lock")
    assert one.keys() <= other.keys() or lock == "build.lock"
    for name in one.keys() & other.keys():
        assert one[name] == other[name], f"{name}: {RENEW}"


def test_setup_takes_nothing_else() -> None:
    script = (ROOT / ".ci" / "setup").read_text()
    installs = [
        line for line in script.replace("\\\n", " ").splitlines() if line.strip().startswith("inst")
    ]
    unpinned, *pinned = [line.split() for line in installs if "apt" not in line][-4:]
    assert unpinned[1:] == ["--editable", "'.[dev]'"], "for PINNED=no"
    for words in pinned:
        assert "--no-deps" in words or "--require-hashes" in words
        assert "--no-build-isolation" in words or "--no-binary" not in words
