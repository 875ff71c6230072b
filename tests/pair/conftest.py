"""Every call in these tests moves only along the arrows of the state table."""

from collections.abc import Iterator

import pytest

from rxrpc.core.call import Call
from rxrpc.core.states import TRANSITIONS, CallState


@pytest.fixture(autouse=True)
def only_listed_transitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = Call._become
    wrong: list[str] = []

    def become(self: Call, state: CallState) -> None:
        if state not in TRANSITIONS[self.state]:
            wrong.append(f"{self.state} -> {state}")
        plain(self, state)

    monkeypatch.setattr(Call, "_become", become)
    yield
    assert not wrong
