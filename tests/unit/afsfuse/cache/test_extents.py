"""Extents against a list of bytes of which some are not there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afsfuse.auth.identity import Identity
from afsfuse.cache.extents import GATHERED, SMALL, Extent, Extents
from afsfuse.cache.journal import NullJournal

ALICE, BOB = Identity(uid=1), Identity(uid=2)
JOURNAL = NullJournal()
_LONGEST = 400

_writes = st.tuples(
    st.just("write"),
    st.integers(0, _LONGEST),
    st.binary(min_size=1, max_size=60),
    st.sampled_from([ALICE, BOB]),
)
_cuts = st.tuples(st.just("cut"), st.integers(0, _LONGEST))
_flights = st.tuples(st.just("fly"), st.integers(0, 20))


class Model:
    """What each byte is, and whose."""

    def __init__(self) -> None:
        self.bytes: dict[int, tuple[int, Identity]] = {}

    def write(self, start: int, data: bytes, who: Identity) -> None:
        self.bytes.update({start + i: (byte, who) for i, byte in enumerate(data)})

    def cut(self, length: int) -> None:
        self.bytes = {at: byte for at, byte in self.bytes.items() if at < length}


def shown(extents: Extents) -> dict[int, tuple[int, Identity]]:
    found = {}
    for extent in extents:
        view = extent.view(JOURNAL)
        assert len(view) == extent.end - extent.start
        found.update({extent.start + i: (byte, extent.who) for i, byte in enumerate(view)})
    return found


def check(extents: Extents) -> None:
    last = 0
    for extent in extents:
        assert last <= extent.start < extent.end
        last = extent.end
    assert extents.end == last
    sizes = sum(extent.end - extent.start for extent in extents)
    assert extents.size == extents.memory == sizes


@given(st.lists(st.one_of(_writes, _writes, _cuts, _flights), max_size=40))
def test_extents_hold_what_was_written_last(steps: list[tuple[object, ...]]) -> None:
    extents, model = Extents(), Model()
    flying: list[tuple[Extent, bytes]] = []
    for number, step in enumerate(steps):
        match step:
            case ("write", int(start), bytes(data), Identity() as who):
                extents.write(start, data, who, number, None)
                model.write(start, data, who)
            case ("cut", int(length)):
                extents.cut(length)
                model.cut(length)
            case ("fly", int(place)) if len(extents):
                extent = list(extents)[place % len(extents)]
                extent.flight = extent
                flying.append((extent, bytes(extent.view(JOURNAL))))
        check(extents)
        assert shown(extents) == model.bytes
        for extent, before in flying:
            assert bytes(extent.view(JOURNAL)) == before, "it changed while it was on its way"
    for start in range(0, _LONGEST, 37):
        between = extents.between(start, start + 37)
        expected = [one for one in extents if one.start < start + 37 and one.end > start]
        assert between == expected
        assert sorted(map(id, extents.after(start))) == sorted(map(id, extents))


def test_lines_become_one_extent() -> None:
    extents = Extents()
    for number in range(1000):
        extents.write(number * 10, b"%09d\n" % number, ALICE, number, None)
    assert len(extents) == 1
    extents.write(10_000, b"bob's", BOB, 1000, None)
    assert len(extents) == 2


def test_gathering_ends_at_a_size_and_takes_no_large_writes() -> None:
    extents = Extents()
    large = bytes(SMALL)
    extents.write(0, large, ALICE, 1, None)
    extents.write(SMALL, b"small", ALICE, 2, None)
    extents.write(SMALL + 5, large, ALICE, 3, None)
    first, _, third = extents
    assert first.data is large  # kept as it came
    assert third.data is large
    extents = Extents()
    for number in range(GATHERED // 1000 + 10):
        extents.write(number * 1000, bytes(1000), ALICE, number, None)
    assert [one.end - one.start for one in extents] == [GATHERED // 1000 * 1000, 10_000]


def test_a_small_rest_does_not_keep_a_large_buffer() -> None:
    extents = Extents()
    extents.write(0, bytes(1 << 20), ALICE, 1, None)
    extents.write(100, bytes(1 << 20), ALICE, 2, None)
    rest = next(iter(extents))
    assert isinstance(rest.data, bytes)
    assert len(rest.data) == 100


def test_runs_end_at_gaps_owners_and_a_size() -> None:
    extents = Extents()
    for start, who in ((0, ALICE), (100, ALICE), (200, BOB), (300, BOB), (500, BOB)):
        extents.write(start, bytes(100), who, start, None)
    # Those of one owner were gathered.
    assert [(one.start, one.end) for one in extents] == [(0, 200), (200, 400), (500, 600)]
    first, second, third = extents
    assert extents.run_from(first, 1000) == [first]
    assert extents.run_from(second, 1000) == [second]
    assert extents.run_from(third, 1000) == [third]
    large = Extents()
    for number in range(4):
        large.write(number * SMALL, bytes(SMALL), ALICE, number, None)
    assert len(large.run_from(next(iter(large)), 3 * SMALL)) == 3


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def keep(self, data: bytes) -> int:
        self.records.append(data)
        return len(self.records) - 1

    def read(self, token: int, start: int, size: int) -> bytes:
        return self.records[token][start : start + size]


def test_bytes_come_back_from_the_journal_also_of_parts() -> None:
    extents, memory = Extents(), Memory()
    extents.write(10, b"0123456789", ALICE, 1, memory.keep(b"0123456789"))
    (whole,) = extents
    assert extents.forget_bytes(whole) == 10
    assert extents.forget_bytes(whole) == 0
    assert (extents.size, extents.memory) == (10, 0)
    extents.write(13, b"ab", BOB, 2, None)
    data = b"".join(bytes(one.view(memory)) for one in extents)  # type: ignore[arg-type]
    assert data == b"012ab56789"
    assert (extents.size, extents.memory) == (10, 2)
