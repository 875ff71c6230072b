"""Pieces of bytes against one bytearray."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afsfuse.democell.filedata import PIECE_BYTES, FileData

NEAR = st.one_of(
    st.integers(0, 300),
    st.integers(PIECE_BYTES - 20, PIECE_BYTES + 20),
    st.integers(3 * PIECE_BYTES - 20, 3 * PIECE_BYTES + 20),
)
STEPS = st.lists(st.tuples(st.sampled_from(["write", "resize", "copy"]), NEAR, st.binary()))


@given(STEPS)
def test_what_is_written_is_read(steps: list[tuple[str, int, bytes]]) -> None:
    data, model = FileData(), bytearray()
    earlier: list[tuple[FileData, bytes]] = []
    for what, position, part in steps:
        if what == "write":
            data.write(position, part)
            if part:
                model.extend(bytes(max(0, position - len(model))))
                model[position : position + len(part)] = part
        elif what == "resize":
            data.resize(position)
            del model[position:]
            model.extend(bytes(position - len(model)))
        else:
            earlier.append((data.copy(), bytes(model)))
        assert data.length == len(model)
        assert data.read(max(0, position - 7), 50) == model[max(0, position - 7) :][:50]
    for copy, contents in [*earlier, (data, bytes(model))]:
        assert copy.read(0, len(contents) + 10) == contents


def test_holes_take_no_memory() -> None:
    data = FileData()
    data.write(5 << 30, b"end")
    assert data.length == (5 << 30) + 3
    assert sum(map(len, data.pieces.values())) <= PIECE_BYTES
    assert data.read(1 << 30, 10) == bytes(10)
    data.resize(100)
    assert data.pieces == {}
