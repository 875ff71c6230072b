"""What every test gets: a log that must stay quiet, printed seeds, tiers by what they need."""

import itertools
import logging
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import afsfuse.fuse  # noqa: F401 (its module in C must be there before pyfuse3, which tests import)
from afsfuse.auth.folders import OVERRIDE
from afsfuse.cache.disk.folder import OVERRIDE as CACHE_OVERRIDE
from afsfuse.configfile import OVERRIDE as CONFIG_OVERRIDE

pytest_plugins = ["tests.realcell.fixtures"]

hypothesis.settings.register_profile(
    "project",
    deadline=None,  # these machines are shared: a slow example says nothing
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("project")

# Where a shell has put the suite into the background, Ctrl-C is ignored, and would be so by all the
# programs that tests start in order to interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_runtimes = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def _own_folders() -> Iterator[Path]:
    """Daemons and commands of tests keep no tokens where those of the machine do, and data on disk
    only where a test says so. Nobody's configuration file counts.
    """
    with tempfile.TemporaryDirectory(prefix="afsfuse-test-") as folder:
        os.chmod(folder, 0o755)
        os.environ[OVERRIDE] = f"{folder}/run"
        os.environ[CACHE_OVERRIDE] = "none"
        os.environ[CONFIG_OVERRIDE] = "none"
        yield Path(folder)
        del os.environ[OVERRIDE]
        del os.environ[CACHE_OVERRIDE]
        del os.environ[CONFIG_OVERRIDE]


@pytest.fixture(autouse=True, scope="module")
def _own_runtime(_own_folders: Path) -> Iterator[None]:
    """Commands look at every daemon that they find: those of other modules are not among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, str(_own_folders / f"run{next(_runtimes)}"))
        yield


LONG_FIRST = ("cell", "programs", "interop", "mount", "installation", "docs", "demo")
"""Folders whose files take longest: the last one to be begun shall keep nobody waiting for long."""


def _place(item: pytest.Item) -> int:
    """When a test's turn comes; those of one folder stay in their order."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mounts need /dev/fuse. What has the marker `soak` takes minutes and is left out unless it is
    asked for (`-m soak`).
    """
    if "soak" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("soak")]
        if long:
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if not item.get_closest_marker("soak")]
    items.sort(key=_place)
    no_fuse = pytest.mark.skip(reason="/dev/fuse or fusermount3 is not there")
    for item in items:
        if item.get_closest_marker("realcell"):
            item.add_marker(pytest.mark.timeout(600))
        if item.get_closest_marker("mount") and not Path("/dev/fuse").exists():
            item.add_marker(no_fuse)


class ExpectedWarnings:
    """Patterns of log messages at WARNING or above which a test means to cause."""

    def __init__(self) -> None:
        self._patterns: list[re.Pattern[str]] = []

    def __call__(self, pattern: str) -> None:
        self._patterns.append(re.compile(pattern))

    def cover(self, message: str) -> bool:
        return any(pattern.search(message) for pattern in self._patterns)


@pytest.fixture
def expected_warnings() -> ExpectedWarnings:
    """Announce a warning that the test is about to cause: `expected_warnings("lost contact")`."""
    return ExpectedWarnings()


@pytest.fixture(autouse=True)
def _quiet_log(
    caplog: pytest.LogCaptureFixture, expected_warnings: ExpectedWarnings
) -> Iterator[None]:
    """Fail a test in which something warned without the test having announced it."""
    yield
    unannounced = [
        f"{record.name}: {record.getMessage()}"
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING
        and record.name.partition(".")[0] in ("rxrpc", "afsfuse")
        and not expected_warnings.cover(record.getMessage())
    ]
    if unannounced:
        pytest.fail("unannounced warnings in the log:\n" + "\n".join(unannounced))
