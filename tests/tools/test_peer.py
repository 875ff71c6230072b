"""afsd.fuse as a peer; that it reads what is stored is tested in realcell/test_volumes.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.realcell.keeper import mounts_under
from tests.tools.peer import Peer, PeerError

if TYPE_CHECKING:
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]


def test_a_volume_as_the_root(real_cell: RealCell) -> None:
    with Peer(real_cell, dynroot=False, rootvol="names") as peer:
        assert "A" in os.listdir(peer.cell_path)


def test_a_cache_in_memory(real_cell: RealCell) -> None:
    with Peer(real_cell, options=["-memcache"], cache_kib=50_000) as peer:
        assert (peer.cell_path / "README").read_bytes() == b"The root of the test cell.\n"


def test_nothing_is_left_of_it(real_cell: RealCell) -> None:
    peer = Peer(real_cell)
    assert peer.start() > 0
    pid = peer.pid
    folder = peer.mount_point.parent
    peer.stop()
    assert not os.path.exists(f"/proc/{pid}")
    assert not mounts_under(folder)
    assert not folder.exists()
    peer.stop()


def test_a_start_that_fails_says_why(real_cell: RealCell) -> None:
    peer = Peer(real_cell, options=["-no-such-option"])
    with pytest.raises(PeerError, match="no-such-option"):
        peer.start()
    assert not peer.mount_point.parent.exists()
