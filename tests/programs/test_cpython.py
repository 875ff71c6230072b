"""Python's own tests, let loose in a folder of the mount."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        importlib.util.find_spec("test.test_os") is None,
        reason="this Python came without its tests",
    ),
]

SECONDS, SOAK_SECONDS = 280, 3000
MODULES = ("test_os", "test_shutil", "test_mmap", "test_tempfile", "test_fileio", "test_posix")
SOAK_MODULES = (
    "test_zipfile", "test_largefile", "test_tarfile", "test_io", "test_pathlib", "test_fcntl",
    "test_mailbox", "test_glob", "test_sqlite3", "test_dbm", "test_file", "test_fileinput",
    "test_gzip", "test_bz2", "test_lzma", "test_posixpath", "test_genericpath", "test_py_compile",
)  # fmt: skip

LINKS = "hard links do not leave their directory (EXDEV)"
OWNERS = "files belong to numbers of the cell, and only its administrators give them away"
MODES = "mode bits of directories keep nobody from anything"
EXPECTED = {
    "test_os.UtimeTests.test_utime*": "there is no time of access; that of modification is shown",
    "test_shutil.TestMisc.test_chown": OWNERS,
    "test_posix.PosixTester.test_*chown": OWNERS,
    "test_posix.TestPosixDirFd.test_chown_dir_fd": OWNERS,
    "test_posix.TestPosixDirFd.test_link_dir_fd": LINKS,
    "test_shutil.TestRmTree.test_on_error": MODES,
}
SOAK_EXPECTED = {
    "test_pathlib.*.test_hardlink_to": LINKS,
    "test_pathlib.*.test_link_to": LINKS,
    "test_mailbox.MaildirTestCase.*": LINKS,
    "test_mailbox.TestMaildir.*": LINKS,
    "test_py_compile.*.test_exceptions_propagate": MODES,
    "test_tarfile.TestExtractionFilters.test_pipe": "there are no pipes, sockets or devices",
    "test_tarfile.TestExtractionFilters.test_modes": "the sticky and set-id bits are not shown",
}
KNOWN_PYTHON = (3, 11)  # whose tests were looked at one by one; others may have more or fewer

# Not as root: it would give files away, and is nobody here. It may read where this Python lies.
AS_DAEMON = (
    "setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


def is_possible() -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam("daemon")
    except KeyError:
        return "there is no user `daemon`"
    return None if shutil.which("setpriv") else "not installed: setpriv"


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (MODULES, EXPECTED),
        pytest.param(
            SOAK_MODULES, SOAK_EXPECTED, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]
        ),
    ],
    ids=["usual", "more"],
)
def test_the_tests_of_python(
    folder: Path, modules: tuple[str, ...], expected: dict[str, str]
) -> None:
    if (reason := is_possible()) is not None:
        pytest.skip(reason)
    folder.chmod(0o777)
    command = [sys.executable, "-m", "test", "-W", "--tempdir", str(folder), *modules]
    if os.geteuid() == 0:
        command = [*AS_DAEMON, *command]
    done = subprocess.run(
        command, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=SECONDS if modules is MODULES else SOAK_SECONDS,
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    failed = set(re.findall(r"^(?:FAIL|ERROR): .*\(test\.([\w.]+)\)", done.stdout, re.MULTILINE))
    surprising = {
        each for each in failed if not any(fnmatch.fnmatchcase(each, one) for one in expected)
    }
    assert not surprising, done.stdout[-20_000:]
    assert "Result: " in done.stdout, done.stdout
    crashed = set(re.findall(r"^test (\w+) (?:crashed|timed out)", done.stdout, re.MULTILINE))
    assert not crashed, done.stdout[-20_000:]
    if sys.version_info[:2] == KNOWN_PYTHON:
        passed = {one for one in expected if not fnmatch.filter(failed, one)}
        assert not passed, "these were to fail, each for its reason"
