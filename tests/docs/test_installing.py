"""What the pages say of units and of the configuration file, held against these."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from afsfuse import cli, configfile
from tests.docs.pages import PAGES, ROOT, blocks
from tests.docs.vocabulary import COMMANDS, commands

if TYPE_CHECKING:
    from pathlib import Path

INSTALLING = ROOT / "docs" / "installing.md"
LINES = [
    command.text.removeprefix("sudo ")
    for page in PAGES
    for block in blocks(page)
    if block.language in COMMANDS
    for command in commands(block)
]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("systemctl ")])
def test_units_of_which_the_pages_speak(line: str) -> None:
    """As in `systemctl enable --now afsfuse.service`, where no systemd runs: the unit is there, and
    can be enabled, reloaded and stopped."""
    words = shlex.split(line.replace("$(systemd-escape --path ", "$("), comments=True)
    assert {"enable", "reload", "stop"} & set(words)
    unit = re.sub(r"@.*\.service", "@.service", words[-1])
    text = (ROOT / "systemd" / ("user" if "--user" in words else ".") / unit).read_text()
    assert ("[Install]" in text) >= ("enable" in words)
    assert ("ExecReload=" in text) >= ("reload" in words)


def test_the_configuration_file_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [block.text for block in blocks(INSTALLING) if block.language == "toml"]
    (tmp_path / "afsfuse.toml").write_text(example)
    monkeypatch.setenv("AFSFUSE_CONFIG", str(tmp_path / "afsfuse.toml"))
    told = [shlex.split(line, True) for line in LINES if line.startswith("afsfuse config")]
    assert len(told) >= 3
    for _, *words in told:
        assert cli.main(words) == 0
        assert "auth" in capsys.readouterr().out
    config = configfile.effective(None, "/srv/project").config
    assert (config.source, config.read_only, config.hard) == ("#example.org:project.", True, True)
