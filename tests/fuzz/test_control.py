"""Random and mutated requests over the control socket: answered, or refused, and that is all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import trio
from hypothesis import example, given
from hypothesis import strategies as st

from afsfuse.auth.store import TokenStore
from afsfuse.control.protocol import LINE_MAX, read_answer, request_line
from afsfuse.control.server import ControlServer
from afsfuse.control.verbs import Peer, Verbs
from afsfuse.errors import AfsError, ControlRefused
from tests.unit.afsfuse.auth.test_token import KEY, token

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
VERBS = ("hello", "set", "tokens", "drop", "begin-pag", "keep", "unkeep", "what")
ARGUMENTS = st.fixed_dictionaries(
    {}, optional={name: JSON for name in ("token", "cells", "all", "renewal", "cell")}
)
SOUND = request_line("set", token=token(end=4_000_000_000).encode())


class World:
    """A store that lasts for one example."""

    def __enter__(self) -> World:
        self._folder = tempfile.TemporaryDirectory()
        self.store = TokenStore(Path(self._folder.name) / "run")
        self.store.load()
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self._folder.cleanup()


@given(st.sampled_from(VERBS), ARGUMENTS)
def test_verbs_with_any_arguments(verb: str, arguments: dict[str, Any]) -> None:
    with World() as world:
        peer = Peer(1000, 1000, os.getpid())
        with contextlib.suppress(AfsError):  # and nothing else
            answer = Verbs(world.store).do({"v": 1, "do": verb, **arguments}, peer)
            assert KEY.decode() not in json.dumps(answer)


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: SOUND[:-1] + tail))
@example(b"\n" * 100)
@example(b"x" * (LINE_MAX + 2))
@example(b'{"v": 1, "do": "set", "token": ' + b"[" * 5000)
def test_whatever_is_sent_each_line_is_answered(data: bytes) -> None:
    with World() as world:
        server = ControlServer(world.store)
        for line in data.split(b"\n"):
            answer, _ = trio.run(server._answer, line, Peer(1000, 1000, os.getpid()))
            assert answer.endswith(b"\n")
            assert b"byte key" not in answer
            with contextlib.suppress(ControlRefused):
                assert isinstance(read_answer(answer), dict)


@given(st.integers(0, len(SOUND) - 2), st.integers(0, 255))
def test_a_sound_request_with_one_byte_changed(place: int, value: int) -> None:
    with World() as world:
        line = bytearray(SOUND[:-1])
        line[place] = value
        server = ControlServer(world.store)
        peer = Peer(1000, 1000, os.getpid())
        answer, _ = trio.run(server._answer, bytes(line), peer)
        assert answer.endswith(b"\n")
