"""Wheel, sdist, `make install` and `make uninstall`, from a clean copy of the sources.

The short form takes the libraries of this very environment; `make soak` installs all of them anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyfuse3
import pytest

from afsfuse.fuse.mount import find_mount
from tests.mount.harness import clear

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / ".ci" / "install.py"
LIBRARIES = Path(pyfuse3.__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".venv", ".git", ".*_cache", "build", "dist", "*.so", "*.egg-info"
)


def run(*words: str | Path, status: int = 0, more: dict[str, str] | None = None) -> str:
    """Run a command, with nothing of this environment but what is given; -> what it says."""
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "AFSFUSE_CONFIG": "none"}
    env |= more or {}
    done = subprocess.run(
        words, env=env, cwd="/", capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m build` makes of a clean checkout: the wheel by way of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, folder / "clean", ignore=LEFT_OUT)
    out = folder / "out"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, folder / "clean")
    return out


@pytest.fixture(scope="module")
def build(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheels man` leaves for the installation, but for the libraries."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "wheels").mkdir()
    (wheel,) = dist.glob("*.whl")
    shutil.copy(wheel, folder / "wheels")
    run(sys.executable, "-m", "afsfuse.manual", folder, more={"PYTHONPATH": str(ROOT)})
    return folder


def tree(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def install(build: Path, *words: str | Path, status: int = 0) -> str:
    return run(sys.executable, SCRIPT, "install", "--build", build, *words, status=status)


def test_the_wheel_is_whole(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for module in ("afsfuse/fuse/_libfuse", "rxrpc/security/_fcrypt"):
        assert any(re.fullmatch(rf"{module}\..*\.so", name) for name in names), module
        assert f"{module}.pyi" in names
    assert {"afsfuse/py.typed", "rxrpc/py.typed"} <= names
    for package in ("afsfuse", "rxrpc"):
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert sources <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_sdist_can_be_installed_from(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", ".ci/setup", ".ci/install.py", ".ci/wheels", ".ci/run.lock"}
    assert wanted <= names
    assert {"systemd/afsfuse.service", "rxrpc/security/_fcrypt.c", "docs/security.md"} <= names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.mount
def test_an_empty_prefix_is_run_from_and_empty_again(build: Path, tmp_path: Path) -> None:
    prefix = tmp_path.resolve() / "opt"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "theirs").write_text("of somebody else\n")
    before = tree(prefix)
    said = install(build, "--prefix", prefix, "--links")
    assert f"installed: {prefix}/bin/afsfuse" in said
    site = next(prefix.glob("lib/afsfuse/lib/python*/site-packages"))
    (site / "libraries.pth").write_text(f"{LIBRARIES}\n")
    for name in (
        "bin/afsfuse",
        "bin/tokens",
        "sbin/mount.fuse.afs",
        "share/man/man8/mount.fuse.afs.8",
    ):
        assert (prefix / name).exists()
    unit = (prefix / "lib/systemd/system/afsfuse.service").read_text()
    assert f"ExecStart={prefix}/bin/afsfuse mount -f afs /afs\n" in unit
    own = {"AFSFUSE_RUNTIME_DIR": str(tmp_path / "run"), "AFSFUSE_CACHE_DIR": "none"}
    assert re.fullmatch(r"afsfuse [\d.]+\n", run(prefix / "bin/afsfuse", "--version"))
    assert "--End of list--" in run(prefix / "bin/tokens", more=own)
    directory = tmp_path.resolve() / "mnt"
    directory.mkdir()
    try:
        run(prefix / "sbin/mount.fuse.afs", "afs", directory, "-o", "cell=example.org", more=own)
        daemon = Path("/proc", os.getxattr(directory, "afsfuse.pid").decode())
        assert str(site / "afsfuse" / "fuse" / "_libfuse") in (daemon / "maps").read_text()
        run(prefix / "sbin/umount.fuse.afs", directory, more=own)
        assert find_mount(str(directory)) is None
    finally:
        clear(directory)
    run(sys.executable, SCRIPT, "uninstall", "--prefix", prefix)
    assert tree(prefix) == before
    said = run(sys.executable, SCRIPT, "uninstall", "--prefix", prefix, status=1)
    assert said == f"nothing of ours is installed at {prefix}\n"


def test_destdir_stands_for_the_root(build: Path, tmp_path: Path) -> None:
    root = tmp_path.resolve() / "stage"
    (root / "usr" / "sbin").mkdir(parents=True)
    before = tree(root)
    install(build, "--prefix", "/usr", "--destdir", root)
    assert os.readlink(root / "usr/sbin/mount.fuse.afs") == "/usr/lib/afsfuse/bin/afsfuse"
    script = (root / "usr/lib/afsfuse/bin/afsfuse").read_text()
    assert script.startswith("#!/usr/lib/afsfuse/bin/python")
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert str(root).encode() not in path.read_bytes(), path
    assert not tree(root) & {"sbin", "usr/bin/aklog", "usr/bin/fs"}
    run(sys.executable, SCRIPT, "uninstall", "--prefix", "/usr", "--destdir", root)
    assert tree(root) == before


def test_nothing_of_others_is_written_over(build: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "opt"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "aklog").symlink_to("/usr/bin/true")
    before = tree(prefix)
    said = install(build, "--prefix", prefix, "--links", status=1)
    assert (
        said
        == f"{prefix}/bin/aklog is there and is not ours: remove it, or choose another PREFIX\n"
    )
    assert tree(prefix) == before


def test_the_debian_packages_that_the_readme_names_are_those_that_are_checked() -> None:
    (line,) = re.findall(r"sudo apt-get install (.*)", (ROOT / "README.md").read_text())
    (checked,) = re.findall(r"^build=\((.*?)\)", (ROOT / ".ci/setup").read_text(), re.MULTILINE)
    assert set(line.split()) == {*checked.split(), "make", "python3-dev", "python3-venv"}
    assert {"fuse3", "libkrb5-3"} <= set(checked.split())
    for package in re.findall(r'\("([\w-]+)", lambda', SCRIPT.read_text()):
        assert package in checked.split()


@pytest.mark.soak
@pytest.mark.mount
def test_make_install_with_everything(tmp_path: Path) -> None:
    """As people do it, and then with nothing but what was installed."""
    prefix = tmp_path.resolve() / "opt"
    more = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    more["HOME"] = os.environ.get("HOME", "/")
    run("make", "-C", ROOT, "install", f"PREFIX={prefix}", "LINKS=yes", more=more)
    assert (prefix / "bin/tokens").is_symlink()
    said = run(prefix / "bin/afsfuse", "demo", "--tour", tmp_path / "afs")
    assert "what the file server holds" in said
    run("make", "-C", ROOT, "install", f"PREFIX={prefix}", more=more)  # over what is there
    assert not (prefix / "bin/tokens").is_symlink()
    run("make", "-C", ROOT, "uninstall", f"PREFIX={prefix}")
    assert not prefix.exists()
