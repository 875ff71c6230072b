"""The composition root: ports, causes of failures, and that the parts fit together."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio

import rxrpc
from afsfuse import config as settings
from afsfuse import daemon, memory
from afsfuse.auth import folders
from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.composition import compose
from afsfuse.config import Config
from afsfuse.control import places
from afsfuse.errors import AfsError, CellUnknown, UsageError
from afsfuse.fuse.mount import MountError
from tests.unit.afsfuse.auth.realm import Realm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import ExpectedWarnings


@pytest.fixture
def taken() -> Iterator[int]:
    """A UDP port of 127.0.0.1 that somebody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_the_port_that_was_asked_for(nursery: trio.Nursery, taken: int) -> None:
    with pytest.raises(UsageError, match=rf"^UDP port {taken} at 127.0.0.1: taken") as caught:
        await daemon.open_endpoint(nursery, Config(bind="127.0.0.1", port=taken))
    assert caught.value.exit_code == 2


async def test_any_port_when_the_usual_one_is_taken(
    nursery: trio.Nursery, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CALLBACK_PORT", taken)
    endpoint = await daemon.open_endpoint(nursery, Config(bind="127.0.0.1"))
    host, port = endpoint.local_address
    assert host == "127.0.0.1"
    assert port not in (0, taken)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRNOTAVAIL, "not an address of this machine: correct -o bind=ADDRESS"),
        (errno.EACCES, "choose a port above 1023"),
        (errno.ENOBUFS, "see that the network works"),
    ],
)
async def test_other_troubles_with_the_socket(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    async def fail(self: object, *, task_status: object) -> None:
        raise OSError(number, "trouble")

    monkeypatch.setattr(rxrpc.Endpoint, "run", fail)
    with pytest.raises(UsageError, match=said):
        await daemon.open_endpoint(nursery, Config())


def configured(folder: Path, **more: object) -> Config:
    (folder / "ThisCell").write_text("example.org\n")
    (folder / "CellServDB").write_text(">example.org\n192.0.2.1 #db\n")
    return Config(directory="/afs", confdir=str(folder), **more)  # type: ignore[arg-type]


async def test_the_parts_fit_together(tmp_path: Path) -> None:
    parts = compose(rxrpc.Endpoint(), configured(tmp_path, sysname=("a_sys", "b_sys")))
    assert parts.session.waiting == 0
    await parts.filesystem.prepare()  # the dynamic root needs nobody


async def test_the_local_cell_can_be_given(tmp_path: Path) -> None:
    parts = compose(rxrpc.Endpoint(), configured(tmp_path, cell="other.org", source="#root.cell."))
    assert parts.filesystem.statistics().open_files == 0


async def test_a_volume_needs_a_cell(tmp_path: Path, expected_warnings: ExpectedWarnings) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "ThisCell").write_text("")
    expected_warnings("ThisCell:1: not a cell's name")
    with pytest.raises(AfsError, match="cell"):
        compose(
            rxrpc.Endpoint(),
            Config(directory="/afs", confdir=str(folder), source="#root.cell."),
        )


async def test_tokens_are_held(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(folders.OVERRIDE, str(tmp_path / "run"))
    parts = compose(rxrpc.Endpoint(), configured(tmp_path))
    assert not (tmp_path / "run").exists()
    await daemon.hold_tokens(parts.tokens, nursery)
    (place,) = places.places()
    assert (await trio.to_thread.run_sync(place.ask, "hello"))["pid"] == os.getpid()
    parts.tokens.close()


async def test_an_identity_acts_with_its_own_token_and_nobody_with_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(folders.OVERRIDE, str(tmp_path / "run"))
    parts = compose(rxrpc.Endpoint(), configured(tmp_path, crypt="auth"))
    parts.tokens.load()
    parts.tokens.set(Identity(uid=1000), Realm().token(life=300_000_000))  # to 2036
    assert parts.credentials.of(NOBODY, "test.afs") is rxrpc.NULL
    assert parts.credentials.of(Identity(uid=1001), "test.afs") is rxrpc.NULL
    alices = parts.credentials.of(Identity(uid=1000), "test.afs")
    assert alices.level is rxrpc.SecurityLevel.AUTH
    assert parts.client.speaker(Identity(uid=1000), "test.afs") == Identity(uid=1000)
    assert parts.client.speaker(Identity(uid=1001), "test.afs") == NOBODY
    parts.tokens.close()


async def test_a_mount_works_without_tokens(
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    monkeypatch.setenv(folders.OVERRIDE, str(tmp_path / "ThisCell"))
    parts = compose(rxrpc.Endpoint(), configured(tmp_path))
    expected_warnings("no tokens can be kept: .*ThisCell: .*is no folder")
    await daemon.hold_tokens(parts.tokens, nursery)


def test_the_cause_is_found_in_nested_groups() -> None:
    cause = MountError("busy")
    nested = BaseExceptionGroup("outer", [ExceptionGroup("inner", [cause])])
    assert daemon.cause_of(nested) is cause
    several = BaseExceptionGroup("outer", [KeyError("a"), ExceptionGroup("inner", [cause])])
    assert daemon.cause_of(several) is cause
    bugs = ExceptionGroup("outer", [KeyError("a"), ValueError("b")])
    assert daemon.cause_of(bugs) is bugs


def test_exit_statuses() -> None:
    assert daemon.exit_status(MountError("x")) == 32
    assert daemon.exit_status(UsageError("x", exit_code=1)) == 1
    assert daemon.exit_status(CellUnknown("x")) == 32


def test_a_failed_start_raises_its_cause(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gc.set_threshold", lambda *_: None)
    monkeypatch.setattr(daemon, "harden", lambda: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    monkeypatch.setattr(memory, "use_c_library", lambda: None)
    with pytest.raises(UsageError, match="taken"):
        daemon.run(configured(tmp_path, bind="127.0.0.1", port=taken), lambda: None)
