"""Configuration files: which count, what they may say, and how a mistake is told."""

from __future__ import annotations

import contextlib
import os
import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afsfuse import configfile
from afsfuse.config import MOUNT_FLAGS, OPTIONS, Config
from afsfuse.configfile import effective, keys, load, paths, reread
from afsfuse.errors import UsageError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file that counts; it is not there yet."""
    path = tmp_path / "afsfuse.toml"
    monkeypatch.setenv(configfile.OVERRIDE, str(path))
    return path


def config(*options: str, directory: str = "/afs") -> Config:
    return effective("afs", directory, options).config


def test_defaults_then_file_then_options(file: Path) -> None:
    assert config() == Config(directory="/afs")
    file.write_text('crypt = "auth"\nmemory = "256M"\nretry = 5\n')
    picked = effective("afs", "/afs", ["memory=1G"])
    assert (picked.config.crypt, picked.config.memory, picked.config.retry) == ("auth", 1 << 30, 5)
    assert picked.origins["crypt"] == f"{file}:1"
    assert picked.origins["memory"] == "-o memory=1G"
    assert picked.origins["retry"] == f"{file}:3"
    assert "expire" not in picked.origins


def test_values_have_the_types_of_toml(file: Path, tmp_path: Path) -> None:
    file.write_text(
        "hard = true\nsubtype = false\nport = 7101\nmemory = 134217728\nnoexec = true\nsync=false\n"
        'sysname = ["a_sys", "b_sys"]\nserverprefs = ["192.0.2.0/24=10"]\n'
        f'logfile = "~/log"\ncachedir = "none"\nconfdir = "{tmp_path}"\n'
    )
    picked = config()
    assert (picked.hard, picked.subtype, picked.port) == (True, False, 7101)
    assert (picked.memory, picked.flags) == (128 << 20, ("noexec",))
    assert picked.sysname == ("a_sys", "b_sys")
    assert picked.serverprefs == ((IPv4Network("192.0.2.0/24"), 10),)
    assert picked.logfile == os.path.expanduser("~/log")
    assert (picked.cache_dir, picked.confdir) == ("none", str(tmp_path))


def test_a_section_counts_for_its_mount_and_more_than_what_is_above_it(file: Path) -> None:
    file.write_text(
        'expire = 60\n[mount."/home/alice/project/"]\nsource = "#example.org:project."\n'
        'expire = 0\n[mount."/afs"]\nro = true\n'
    )
    assert (config().expire, config().read_only) == (60, True)
    project = effective(None, "/home/alice/project")
    assert (project.config.source, project.config.expire) == ("#example.org:project.", 0)
    assert not project.config.read_only
    assert project.origins["source"] == f"{file}:3"
    assert effective("afs", "/home/alice/project").config.source == "afs"
    with pytest.raises(UsageError, match=r'^/mnt: which source\? .* \[mount\."/mnt"\]'):
        effective(None, "/mnt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1\n", ":1: prot: unknown key: did you mean port?"),
        ("# yes\n\ncachsize = 1\n", ":3: cachsize: unknown key: did you mean cachesize?"),
        ("qqq = 1\n", ":1: qqq: unknown key: see afsfuse.toml(5)"),
        ("soft = true\n", ":1: soft: not a key: write hard = false"),
        ("noallow_other = true\n", ":1: noallow_other: not a key: write allow_other = false"),
        ("port = 0\n", ":1: port = 0: a number from 1 to 65535 is expected"),
        ("port = true\n", ":1: port: a text or a number is expected: port = N"),
        ("port = 1.5\n", ":1: port: a text or a number is expected"),
        ("sysname = []\n", ":1: sysname: a text or a number is expected"),
        ("hard = 1\n", ":1: hard: true or false is expected"),
        ("noexec = 'yes'\n", ":1: noexec: true or false is expected"),
        ("logfile = 'log'\n", ":1: logfile = log: an absolute path is expected, or one after ~/"),
        ("source = 'afs'\n", ":1: source: unknown key"),
        ("debug = true\n[mount.'/a']\nsource = 1\n", ":3: source: a text is expected"),
        ("[mount.'/a']\nhrad = true\n", ":2: hrad: unknown key: did you mean hard?"),
        ("[mount.afs]\nhard = true\n", ':1: mount: sections are written [mount."/DIRECTORY"]'),
        ("mount = 1\n", ":1: mount: sections are written"),
        ("chunksize = 5000\n", ":1: a power of two is expected"),
        ("hard = true\nretry = 5\n", ":1 and "),
        ("hard\n", ": not in the form of TOML: "),
        ("port = 1\nport = 2\n", ": not in the form of TOML: "),
        (f"port = {'9' * 5000}\n", ": not in the form of TOML: "),
        (f"port = {'[' * 5000}\n", ": not in the form of TOML: "),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        config()
    assert str(caught.value).startswith(f"{file}{said}")
    assert caught.value.exit_code == 1


def test_what_cannot_be_read_is_told(file: Path) -> None:
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not a text in UTF-8"):
        config()
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        config()


def test_which_files_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(configfile.OVERRIDE, "none")
    assert paths() == ()
    monkeypatch.delenv(configfile.OVERRIDE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths() == (configfile.SYSTEM,)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert paths() == (configfile.SYSTEM, Path("/somewhere/afsfuse/afsfuse.toml"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setenv("HOME", "/home/alice")
    assert paths()[1] == Path("/home/alice/.config/afsfuse/afsfuse.toml")


def test_the_users_own_file_counts_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, own = tmp_path / "system", tmp_path / "own"
    system.write_text("port = 1\nvnodes = 1000\n")
    own.write_text("port = 2\n")
    monkeypatch.setattr(configfile, "paths", lambda: (system, own))
    assert (config().port, config().vnodes) == (2, 1000)


def test_files_are_read_anew_under_the_same_options(file: Path) -> None:
    first = config("port=7101", "ro")
    file.write_text("port = 7\nexpire = 1\n")
    again = reread(first)
    assert (again.port, again.read_only, again.expire) == (7101, True, 1)


def test_every_field_has_a_key_and_every_key_is_an_option() -> None:
    assert {one.field for one in keys().values()} == {one.field for one in OPTIONS.values()}
    for name, option in OPTIONS.items():
        assert option.value or isinstance(option.parse(name), bool)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.text(max_size=60), st.sampled_from([*OPTIONS, *MOUNT_FLAGS, "mount", "source"]))
def test_any_file_is_taken_or_refused(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "any.toml"
    for whole in (text, f"{key} = {text}", f"[mount.'/x']\n{key} = {text}"):
        path.write_text(whole, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(UsageError):  # and nothing else
            load(path)


def test_the_example_of_the_guide_is_taken(file: Path) -> None:
    guide = Path(__file__).parent.parent.parent.parent / "docs" / "installing.md"
    (example,) = re.findall(r"```toml\n(.*?)```", guide.read_text(), re.DOTALL)
    file.write_text(example)
    picked = effective(None, "/srv/project").config
    assert (picked.source, picked.read_only, picked.hard) == ("#example.org:project.", True, True)
