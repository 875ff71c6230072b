"""What tests of the control socket share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    store = TokenStore(tmp_path / "run")
    store.load()
    yield store
    store.close()
