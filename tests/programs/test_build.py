"""tar and make: a tree comes out of an archive, is built, and is built again by its times."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.conftest import Needs

pytestmark = pytest.mark.mount

MODULES = 24
SECONDS = 120
MAKEFILE = b"""\
objects = $(patsubst %.c,%.o,$(wildcard part/*.c)) main.o
program: libparts.a main.o
\t$(CC) -o $@ main.o libparts.a
libparts.a: $(filter part/%,$(objects))
\t$(AR) rcs $@ $^
$(objects): common.h
%.o: %.c
\t$(CC) -c -o $@ $<
"""


def sources() -> dict[str, bytes]:
    """A program that adds up what all its modules say."""
    files = {"Makefile": MAKEFILE, "common.h": b"#define BASE 1\n"}
    calls = "+".join(f"part{n}()" for n in range(MODULES))
    declarations = "".join(f"int part{n}(void);" for n in range(MODULES))
    main = (
        f'#include <stdio.h>\n{declarations}int main(void){{printf("%d\\n",{calls});return 0;}}\n'
    )
    files["main.c"] = main.encode()
    for n in range(MODULES):
        code = f'#include "../common.h"\nint part{n}(void){{return BASE*{n};}}\n'
        files[f"part/part{n}.c"] = code.encode()
    return files


def archive(path: Path, when: int) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in sources().items():
            member = tarfile.TarInfo(f"tree/{name}")
            member.size, member.mtime, member.mode = len(data), when, 0o640
            tar.addfile(member, io.BytesIO(data))
        script = tarfile.TarInfo("tree/run")
        script.mtime, script.mode = when, 0o755
        text = b"#!/bin/sh\nexec ./program\n"
        script.size = len(text)
        tar.addfile(script, io.BytesIO(text))
        link = tarfile.TarInfo("tree/link")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "part/part0.c", when
        tar.addfile(link)


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_a_program_is_unpacked_and_built(folder: Path, tmp_path: Path, needs: Needs) -> None:
    needs("tar", "make", "gcc", "ar")
    when = int(time.time()) - 1000
    archive(tmp_path / "source.tgz", when)
    # Owners are the cell's business: without this tar, as root, would want to give files away.
    run(folder, "tar", "--no-same-owner", "-xzf", tmp_path / "source.tgz")
    tree = folder / "tree"
    for name, data in sources().items():
        assert (tree / name).read_bytes() == data
        status = (tree / name).stat()
        assert (int(status.st_mtime), status.st_mode & 0o777) == (when, 0o640)
    assert os.readlink(tree / "link") == "part/part0.c"
    run(tree, "make", "--quiet", "-j4")
    expected = sum(range(MODULES))
    assert run(tree, tree / "run") == f"{expected}\n"
    # Times are whole seconds here: what is made within the next one must not look as old.
    products = [*tree.rglob("*.o"), tree / "libparts.a", tree / "program"]
    for number, product in enumerate(products):
        os.utime(product, (when + 10 + number, when + 10 + number))
    assert "up to date" in run(tree, "make", "program")
    part = tree / "part/part1.c"
    part.write_bytes(part.read_bytes().replace(b"BASE*1", b"BASE*1001"))
    said = run(tree, "make")
    assert said.count(" -c ") == 1
    assert run(tree, tree / "run") == f"{expected + 1000}\n"
    run(folder, "tar", "-czf", "again.tgz", "tree")
    assert (
        len(run(folder, "tar", "-tzf", "again.tgz").splitlines())
        == len([path for path in tree.rglob("*")]) + 1
    )
