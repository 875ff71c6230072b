"""Python's own tests, let loose in a folder of the mount."""

from __future__ import annotations

import importlib.util

import pytest

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        importlib.util.find_spec("test.test_os") is None,
        reason="this Python came without its tests",
    ),
]

SECONDS = 280

MODULES = ("test_os", "test_shutil", "test_mmap", "test_tempfile", "test_fileio", "test_zipfile")
SOAK_MODULES = (
    "test_largefile", "test_tarfile", "test_io", "test_pathlib", "test_fcntl", "test_mailbox",
    "test_glob", "test_posix", "test_sqlite3", "test_dbm", "test_file", "test_posixpath",
    "test_genericpath", "test_fileinput", "test_bz2", "test_gzip", "test_lzma", "test_py_compile",
)  # fmt: skip

NOT_IN_AFS: dict[str, str] = {}
