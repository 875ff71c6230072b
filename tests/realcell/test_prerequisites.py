"""Naming what is missing."""

import pytest

from tests.realcell import prerequisites


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"openafs-nothing": "/usr/lib/openafs/no-such-server", "coreutils": "ls"}
    monkeypatch.setattr(prerequisites, "PACKAGES", packages)
    assert prerequisites.missing_packages() == ["openafs-nothing"]
    assert "Debian package openafs-nothing is missing" in prerequisites.missing()


def test_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert any("needs root" in problem for problem in prerequisites.missing())
