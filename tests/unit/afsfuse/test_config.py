"""Options become one `Config`; what is wrong is named, with what was probably meant."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse import config
from afsfuse.config import Config, describe, pick, shown_size, split_options
from afsfuse.errors import UsageError


def options(*words: str) -> Config:
    return pick("afs", "/afs", words)


def test_the_defaults_are_those_of_the_dataclass() -> None:
    assert pick("afs", "/afs") == Config(directory="/afs")
    assert describe(pick("afs", "/afs")) == ["directory = '/afs'"]


def test_options_are_words_separated_by_commas_and_the_last_one_wins(tmp_path: Path) -> None:
    picked = options(
        f"confdir={tmp_path},port=7101,,cell=Example.ORG", "port=7102,nosubtype,norxdebug,debug"
    )
    assert picked.confdir == str(tmp_path)
    assert (picked.port, picked.cell) == (7102, "example.org")
    assert (picked.subtype, picked.debug, picked.rxdebug) == (False, True, False)
    assert options("nosubtype,subtype").subtype


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("crypt=clear", "crypt", "clear"),
        ("flock=strict", "flock", "strict"),
        ("memory=256M", "memory", 256 << 20),
        ("cachesize=256M", "cache_size", 256 << 20),
        ("cachesize=0", "cache_size", 0),
        ("cachedir=none", "cache_dir", "none"),
        ("cachedir=/var/cache/other", "cache_dir", "/var/cache/other"),
        ("cachesize=1GiB", "cache_size", 1 << 30),
        ("chunksize=65536", "chunk_size", 65536),
        ("readahead=512k", "read_ahead", 512 << 10),
        ("timeout=30", "timeout", 30),
        (
            "serverprefs=192.0.2.0/24=10:192.0.2.1=5",
            "serverprefs",
            ((IPv4Network("192.0.2.0/24"), 10), (IPv4Network("192.0.2.1"), 5)),
        ),
        ("hard", "hard", True),
        ("hard,soft", "hard", False),
        ("retry=5", "retry", 5),
        ("requests=100", "requests", 100),
        ("expire=90", "expire", 90),
        ("expire=0", "expire", 0),
        ("vnodes=1000", "vnodes", 1000),
        ("bind=127.0.0.1", "bind", "127.0.0.1"),
        ("sysname=amd64_linux26:i386_linux26", "sysname", ("amd64_linux26", "i386_linux26")),
        ("cells=used", "cells", "used"),
        ("allow_other", "allow_other", True),
        ("noallow_other", "allow_other", False),
        ("ro", "read_only", True),
        ("ro,rw", "read_only", False),
        ("noexec", "flags", ("noexec",)),
        ("sync,noexec,dirsync", "flags", ("sync", "noexec", "dirsync")),
        ("finish=5", "finish", 5),
        ("logfile=/var/log/afsfuse", "logfile", "/var/log/afsfuse"),
    ],
)
def test_each_option_sets_its_field(word: str, field: str, value: object) -> None:
    assert getattr(options(word), field) == value


def test_words_for_mount_and_fstab_mean_nothing() -> None:
    words = (
        "_netdev,noauto,user,nofail,defaults,nosuid,nodev,relatime,exec,comment=two words,"
        "x-systemd.automount,x-systemd.idle-timeout=60,X-mount.mkdir,uhelper=sm"
    )
    assert options(words) == options()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("flock=none", "-o flock=none: one of local, openafs, strict, write is expected"),
        ("crypt=none", "-o crypt=none: one of clear, auth, crypt is expected"),
        ("prot=7101", "-o prot: unknown option: did you mean port?"),
        ("cachsize=1M", "-o cachsize: unknown option: did you mean cachesize?"),
        ("allowother", "-o allowother: unknown option: did you mean allow_other?"),
        ("qqq", "-o qqq: unknown option: see afsfuse mount --help"),
        ("port", "-o port: needs a value: port=N"),
        ("port=", "-o port=: a number from 1 to 65535 is expected"),
        ("port=0", "-o port=0: a number from 1 to 65535 is expected"),
        ("port=seven", "-o port=seven: a number from 1 to 65535 is expected"),
        ("port=-1", "-o port=-1: a number from 1 to 65535 is expected"),
        ("port=\u0663", "-o port=\u0663: a number from 1 to 65535 is expected"),
        ("debug=1", "-o debug=1: takes no value: write debug"),
        ("cachesize=many", "-o cachesize=many: a size is expected, such as 64M"),
        ("cachesize=1M", "-o cachesize=1M: a size from 16M to 16384G is expected"),
        ("cachedir=", "-o cachedir=: a path is expected"),
        ("memory=1K", "-o memory=1K: a size from 1M to 1024G is expected"),
        ("memory=1M,chunksize=512K", "-o memory=1M: at least eight times the chunk size, 512K"),
        ("chunksize=5000", "-o chunksize=5000: a power of two is expected"),
        ("bind=localhost", "-o bind=localhost: an IPv4 address of this machine is expected"),
        ("cells=all", "-o cells=all: one of used, configured, auto is expected"),
        ("cell=a/b", "-o cell=a/b: the name of a cell is expected"),
        ("sysname=a::b", "-o sysname=a::b: names separated by colons are expected"),
        ("logfile=", "-o logfile=: a path is expected"),
        ("confdir=/nowhere", "-o confdir=/nowhere: no such folder: it is to hold ThisCell"),
        ("serverprefs=fs1=7", "-o serverprefs=fs1=7: an IPv4 address, or a network such as"),
        ("serverprefs=192.0.2.1", "-o serverprefs=192.0.2.1: a rank from 0 (the best) to 65534"),
        ("retry=0", "-o retry=0: a number from 1 to 86400 is expected"),
        ("hard,retry=5", "-o hard and -o retry=5: hard has no end: write soft,retry=SECONDS"),
        ("suid", "-o suid: mounts are always nosuid: leave it out"),
        ("dev", "-o dev: mounts are always nodev: leave it out"),
        ("remount", "-o remount: a mount cannot be changed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(word: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(word)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "source",
    ["afs", "#example.org:root.cell.", "%example.org:root.cell.", "#root.cell.", "%x.y:536870912"],
)
def test_sources(source: str) -> None:
    assert pick(source, "/afs").source == source


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("example.org", "write afs, or for its root #example.org:root.cell."),
        ("AFS", "unknown source: write afs, #cell:volume. or %cell:volume."),
        ("", "unknown source"),
        ("#", "not a volume"),
        ("#a,b:c.", "not a volume"),
        ("%cell:vol ume", "not a volume"),
        ("#a:b:c.", "not a volume"),
    ],
)
def test_other_sources_are_refused(source: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        pick(source, "/afs")
    assert caught.value.exit_code == 1


def test_the_directory_is_made_absolute() -> None:
    assert pick("afs", "mnt").directory == os.path.join(os.getcwd(), "mnt")


def test_root_lets_all_users_in_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert options().everybody
    assert not options("noallow_other").everybody
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not options().everybody
    assert options("allow_other").everybody


def test_every_field_is_set_by_an_option_or_the_command_line() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}
    assert {option.field for option in config.OPTIONS.values()} <= fields
    command_line = {"source", "directory", "foreground", "given", "flags"}
    assert fields - {option.field for option in config.OPTIONS.values()} == command_line


def test_every_field_has_its_docstring() -> None:
    text = Path(config.__file__).read_text()
    body = text[text.index("class Config:") : text.index("    @property")]
    docstrings = re.findall(r'^    """[^"]+"""$', body, re.MULTILINE)
    assert len(docstrings) == 1 + len(dataclasses.fields(Config))  # and the class's own


@given(st.integers(1, 1 << 50))
def test_sizes_read_as_they_are_shown(size: int) -> None:
    assert config._size(1, 1 << 50)(shown_size(size)) == size


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_option_is_taken_or_refused_in_one_line(words: list[str]) -> None:
    with contextlib.suppress(UsageError):  # and nothing else
        options(*words)
    assert all(split_options(words))
