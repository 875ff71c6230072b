"""Names: lengths, `@sys`, and what may be asked of DNS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.errors import NameTooLong
from afsfuse.vfs.names import (
    check_length,
    default_sysnames,
    may_name_a_cell,
    sys_candidates,
)

# What file managers, shells, version control and build tools look for wherever they are.
PROBED = (
    b".Trash .Trash-1000 .hidden .directory .git .hg .svn .bzr .DS_Store .localized .xdg-volume"
    b" autorun.inf Autorun.inf autorun.sh desktop.ini Desktop.ini Thumbs.db ehthumbs.db folder.jpg"
    b" Folder.jpg cover.png AlbumArtSmall.jpg .nomedia .metadata_never_index ._. .Spotlight-V100"
    b" .fseventsd HEAD .editorconfig .gitignore .envrc package.json tsconfig.json pyproject.toml"
    b" setup.py setup.cfg tox.ini Makefile makefile GNUmakefile CMakeLists.txt Cargo.toml pom.xml"
    b" build.gradle WORKSPACE WORKSPACE.bazel README.md index.html .htaccess core lost+found .cvs"
    b" a.out libc.so.6 file.tar.gz .bashrc.swp 2024.12.31 1.2.3.4 x..y foo. a_b foo~ #foo#"
).split()

CELLS = (
    b"example.org cs.cmu.edu ncbj.gov.pl physik.uni-bonn.de openafs.org grand.central.org kth.se"
    b" cern.ch ir.stanford.edu in2p3.fr infn.it stacken.kth.se EXAMPLE.ORG xn--bcher-kva.example"
    b" cell.xn--p1ai _msdcs.example.org a.zip demo.test my-cell.internal"
).split()


@pytest.mark.parametrize("name", PROBED)
def test_probed_names_are_no_cells(name: bytes) -> None:
    assert not may_name_a_cell(name)


@pytest.mark.parametrize("name", CELLS)
def test_cells_may_be_asked_for(name: bytes) -> None:
    assert may_name_a_cell(name)


def test_a_cell_name_has_at_most_253_bytes() -> None:
    labels = b".".join([b"x" * 49] * 5)
    assert may_name_a_cell(labels + b".org")
    assert len(labels + b".org") == 253
    assert not may_name_a_cell(b"x" + labels + b".org")


@given(st.binary(max_size=300))
def test_whatever_may_be_asked_for_is_a_host_name(name: bytes) -> None:
    if may_name_a_cell(name):
        assert name.isascii()
        assert b"." in name
        assert not set(name) & set(b"/@ \0%#:")
        assert not name.startswith((b".", b"-"))


def test_the_longest_name_has_255_bytes() -> None:
    check_length(b"\xff" * 255)
    with pytest.raises(NameTooLong, match="256 bytes"):
        check_length(b"n" * 256)


def test_sys_is_replaced_at_the_end_in_order() -> None:
    assert sys_candidates(b"bin.@sys", (b"amd64", b"x86")) == (
        b"bin.amd64",
        b"bin.x86",
        b"bin.@sys",
    )
    assert sys_candidates(b"@sys", (b"amd64",)) == (b"amd64", b"@sys")


def test_a_replacement_that_is_too_long_is_left_out() -> None:
    name = b"n" * 250 + b"@sys"
    assert sys_candidates(name, (b"a" * 6, b"a" * 5)) == (b"n" * 250 + b"a" * 5, name)


def test_system_names_of_machines() -> None:
    assert default_sysnames("x86_64") == (b"amd64_linux26", b"x86_64_linux26")
    assert default_sysnames("aarch64") == (b"arm64_linux26", b"aarch64_linux26")
    assert default_sysnames("riscv64") == (b"riscv64_linux26",)
    assert default_sysnames()
