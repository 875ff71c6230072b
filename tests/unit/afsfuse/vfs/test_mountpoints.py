"""Bodies of mount points."""

import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.errors import AfsError
from afsfuse.vfs.inodes import ROOT_INODE
from afsfuse.vfs.mountpoints import MountTarget, parse_mountpoint, volume_root


@pytest.mark.parametrize(
    ("body", "target"),
    [
        (b"#root.cell.", MountTarget("#", None, "root.cell", "")),
        (b"%root.cell.", MountTarget("%", None, "root.cell", "")),
        (b"#other.org:root.cell.", MountTarget("#", "other.org", "root.cell", "")),
        (b"%Other.ORG:user.anna.", MountTarget("%", "other.org", "user.anna", "")),
        (b"#user.readonly.", MountTarget("#", None, "user", "readonly")),
        (b"#user.backup.", MountTarget("#", None, "user", "backup")),
        (b"#c.org:user.x.backup.", MountTarget("#", "c.org", "user.x", "backup")),
        (b"#536870915.", MountTarget("#", None, "536870915", "")),
        (b"#vol", MountTarget("#", None, "vol", "")),
        (b"#vol\n", MountTarget("#", None, "vol", "")),
        (b"#vol.\n", MountTarget("#", None, "vol", "")),
        (b"#vol.\0", MountTarget("#", None, "vol", "")),
        (b"#vol.readonly", MountTarget("#", None, "vol", "readonly")),
        (b"#a_b-c.", MountTarget("#", None, "a_b-c", "")),
    ],
)
def test_bodies(body: bytes, target: MountTarget) -> None:
    assert parse_mountpoint(body) == target


@pytest.mark.parametrize(
    "body",
    [
        b"", b"#", b"#.", b"%", b"vol.", b"@vol.", b"#cell:", b"#:vol.", b"#cell:vol:3:1.",
        b"#a b.", b"#a/b.", b"##vol.", b"#vol\xff.", b"#" + b"v" * 80 + b".", b"# vol.",
        b"#.cell:vol.", b"../x", b"#vol.\nmore",
    ],
)  # fmt: skip
def test_what_is_no_body(body: bytes) -> None:
    with pytest.raises(AfsError, match="not a mount point's body") as caught:
        parse_mountpoint(body)
    assert caught.value.errno == errno.EINVAL


@given(st.binary(max_size=1100))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(AfsError):  # and nothing else
        target = parse_mountpoint(body)
        assert parse_mountpoint(str(target).encode() + b".") == target


def test_a_target_prints_as_the_kernel_client_prints_it() -> None:
    assert str(MountTarget("#", "c.org", "v", "readonly")) == "#c.org:v.readonly"
    assert str(MountTarget("%", None, "v", "")) == "%v"


def test_the_root_of_a_mount_of_one_volume() -> None:
    root = volume_root(parse_mountpoint(b"#v."), "home.org")
    assert root.inode == ROOT_INODE
    assert str(root.spec) == "#home.org:v"
    assert root.is_directory
    with pytest.raises(AfsError, match="no local cell"):
        volume_root(parse_mountpoint(b"#v."), None)
