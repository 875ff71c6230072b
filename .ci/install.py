#!/usr/bin/env python3
"""Put the program into its places, or take it away: `make install`, `make uninstall`.

The program has a virtual environment of its own, PREFIX/lib/afsfuse. Everything outside of it is
listed in PREFIX/lib/afsfuse/installed, and folders that had to be made for it; so that all of it,
and nothing else, can be taken away. What is there already and is not ours is never written over.

mount(8) looks for helpers in /sbin alone: for the prefixes /usr and /usr/local that is where they
go, for others to PREFIX/sbin. DESTDIR is a folder that stands for / while a package is made.
"""

from __future__ import annotations

import argparse
import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = "installed"
UNITS = {
    "lib/systemd/system": ("afsfuse.service", "afsfuse@.service"),
    "lib/systemd/user": ("user/afsfuse.service",),
    "share/doc/afsfuse/examples": ("examples/afs.mount", "examples/afs.automount"),
}
COMPLETIONS = {
    "bash/afsfuse": "share/bash-completion/completions/afsfuse",
    "zsh/_afsfuse": "share/zsh/site-functions/_afsfuse",
    "fish/afsfuse.fish": "share/fish/vendor_completions.d/afsfuse.fish",
}
LINKS = "from afsfuse import cli; print(*(n for n in cli.LINKS if n in cli.COMMANDS))"
NEEDED = {
    "fusermount3": ("fuse3", lambda: shutil.which("fusermount3")),
    "libkrb5": ("libkrb5-3", lambda: ctypes.util.find_library("krb5")),
}


class Refused(Exception):
    """What the user is told."""


class Places:
    """Where everything goes; paths are those of the running system."""

    def __init__(self, prefix: str, destdir: str, build: Path) -> None:
        self.build = build
        self.prefix = Path(os.path.abspath(prefix))
        self._destdir = os.path.abspath(destdir) if destdir else ""
        self.home = self.prefix / "lib" / "afsfuse"
        usual = {"/usr": "/usr/sbin", "/usr/local": "/sbin"}
        self.sbin = Path(usual.get(str(self.prefix), str(self.prefix / "sbin")))
        self.files: list[Path] = []
        self.folders: list[Path] = []

    def real(self, path: Path) -> Path:
        """Where a path is while we install."""
        return Path(self._destdir + str(path)) if self._destdir else path

    def known(self) -> list[tuple[str, Path]]:
        """What an earlier installation has listed: `file` or `folder`, and which."""
        try:
            lines = self.real(self.home / LIST).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(kind, Path(path)) for kind, _, path in (line.partition(" ") for line in lines)]

    def folder(self, path: Path) -> None:
        """Make a folder with all above it, and remember which had to be made."""
        if not self.real(path).is_dir():
            self.folder(path.parent)
            self.real(path).mkdir()
            self.folders.append(path)

    def file(self, path: Path, text: str) -> None:
        """Write a file."""
        self.folder(path.parent)
        self.files.append(path)
        self.real(path).write_text(text)
        self.real(path).chmod(0o644)

    def link(self, path: Path, target: Path) -> None:
        """Make a symbolic link."""
        self.folder(path.parent)
        self.files.append(path)
        self.real(path).symlink_to(target)

    def write_list(self) -> None:
        """Remember what is there for the day when it is taken away."""
        lines = [*(f"file {path}" for path in self.files)]
        lines += [f"folder {path}" for path in reversed(self.folders)]
        self.real(self.home / LIST).write_text("\n".join(lines) + "\n")


def install(places: Places, links: bool) -> None:
    """All of it; an earlier installation at the same place goes first."""
    contents, programs = planned(places, links)
    ours = {path for kind, path in places.known() if kind == "file"}
    for path in [*contents, *programs]:
        if os.path.lexists(places.real(path)) and path not in ours:
            raise Refused(f"{path} is there and is not ours: remove it, or choose another PREFIX")
    if places.real(places.home).exists() and not places.known():
        raise Refused(f"{places.home} is there and is not ours: remove it")
    before = [path for kind, path in places.known() if kind == "folder"]
    uninstall(places, silent=True)
    places.folders += [path for path in reversed(before) if places.real(path).is_dir()]
    places.folder(places.home.parent)
    make_environment(places)
    for path, text in contents.items():
        places.file(path, text)
    for path, target in programs.items():
        places.link(path, target)
    places.write_list()
    print(f"installed: {places.prefix}/bin/afsfuse, {places.sbin}/mount.fuse.afs")
    base = Path(sys.base_prefix).resolve()
    if any(not folder.stat().st_mode & 0o001 for folder in (base, *base.parents)):
        print(
            f"only root can run it: its Python is in {base}: make clean, then PYTHON=/usr/bin/..."
        )
    for what, (package, there) in NEEDED.items():
        if not there():
            print(f"still needed: {what} (Debian: apt-get install {package})")
    if shutil.which("systemctl") and not places._destdir:
        print("units: systemctl daemon-reload; systemctl enable --now afsfuse")


def planned(places: Places, links: bool) -> tuple[dict[Path, str], dict[Path, Path]]:
    """Files with their texts, and links with their targets."""
    prefix, program = places.prefix, places.home / "bin" / "afsfuse"
    contents: dict[Path, str] = {}
    for folder, units in UNITS.items():
        for unit in units:
            text = (ROOT / "systemd" / unit).read_text()
            text = text.replace("/usr/bin/afsfuse", str(prefix / "bin" / "afsfuse"))
            contents[prefix / folder / Path(unit).name] = text
    for page in sorted((places.build / "man").iterdir()):
        section = page.suffix.removeprefix(".")
        contents[prefix / "share" / "man" / f"man{section}" / page.name] = page.read_text()
    for script, place in COMPLETIONS.items():
        contents[prefix / place] = (places.build / "completions" / script).read_text()
    programs = {prefix / "bin" / "afsfuse": program}
    for helper in ("mount.fuse.afs", "umount.fuse.afs"):
        programs[places.sbin / helper] = program
    if links:
        command = [sys.executable, "-c", LINKS]
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        programs |= {prefix / "bin" / name: program for name in names.stdout.split()}
    return contents, programs


def make_environment(places: Places) -> None:
    """The virtual environment with the program and what it needs, from build/wheels alone."""
    home = places.real(places.home)
    base = os.path.join(
        sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    subprocess.run([base, "-m", "venv", "--without-pip", "--symlinks", home], check=True)
    python = home / "bin" / "python"
    wheels = [path.name.split("-") for path in sorted((places.build / "wheels").glob("*.whl"))]
    words = ["--no-index", "--find-links", places.build / "wheels", "--no-deps", "--no-compile"]
    names = [f"{name}=={version}" for name, version, *_ in wheels]  # not the files: pip notes where
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--quiet", *words, *names], check=True)
    for name in ("activate", "activate.csh", "activate.fish", "Activate.ps1"):
        (home / "bin" / name).unlink(missing_ok=True)
    for path in [home / "pyvenv.cfg", *(home / "bin").iterdir()]:
        if not path.is_symlink():  # they name the folder in which they were made
            path.write_text(path.read_text().replace(str(home), str(places.home)))
    words = ["-m", "compileall", "-q", home / "lib", "-s", str(home), "-p", str(places.home)]
    subprocess.run([python, *words], check=True)


def uninstall(places: Places, *, silent: bool = False) -> None:
    """All that was installed, and folders that were made for it, if nobody else uses them."""
    known = places.known()
    if not known and not silent:
        raise Refused(f"nothing of ours is installed at {places.prefix}")
    for kind, path in known:
        real = places.real(path)
        if kind == "file" and os.path.lexists(real):
            real.unlink()
    if known:
        shutil.rmtree(places.real(places.home))
    for kind, path in known:
        if kind == "folder":
            try:
                places.real(path).rmdir()
            except OSError:  # somebody has put something there, or removed it
                continue


def main() -> int:
    """Run it; returns the exit status."""
    known = argparse.ArgumentParser(description=__doc__)
    known.add_argument("what", choices=("install", "uninstall"))
    known.add_argument("--prefix", default="/usr/local")
    known.add_argument("--destdir", default="")
    known.add_argument("--build", type=Path, default=ROOT / "build", help="what was made before")
    known.add_argument("--links", action="store_true", help="also aklog, fs, klog, tokens ...")
    given = known.parse_args()
    places = Places(given.prefix, given.destdir, given.build)
    try:
        if given.what == "install":
            install(places, given.links)
        else:
            uninstall(places)
    except Refused as exc:
        print(exc, file=sys.stderr)
        return 1
    except PermissionError as exc:
        print(f"{exc.filename}: {exc.strerror}: as root, or with another PREFIX", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
