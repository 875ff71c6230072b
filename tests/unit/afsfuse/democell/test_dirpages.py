"""Directory pages against a plain dictionary, and against the client's parser."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.cache.directories import Directory
from afsfuse.democell.dirpages import MAX_PAGES, PAGE_BYTES, DirectoryPages, build
from afsfuse.democell.refusal import Refused
from tests.realcell import dirpages as judge

NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not {0, 0x2F} & set(name))
STEPS = st.lists(st.tuples(st.booleans(), NAMES), max_size=150)


@given(STEPS)
def test_names_come_and_go(steps: list[tuple[bool, bytes]]) -> None:
    directory = DirectoryPages.make((1, 1), (1, 1))
    model = {b".": (1, 1), b"..": (1, 1)}
    for number, (add, name) in enumerate(steps, 2):
        if add:
            if name in model:
                with pytest.raises(Refused) as caught:
                    directory.add(name, 2, 2)
                assert caught.value.code == errno.EEXIST
            else:
                directory.add(name, 2 * number, number)
                model[name] = (2 * number, number)
        elif name in model and name not in (b".", b".."):
            directory.remove(name)
            del model[name]
    assert {name: (vnode, unique) for name, vnode, unique in directory} == model
    pages = directory.data()
    assert judge.parse(pages) == model
    found = Directory.parse(pages)
    assert {entry.name: (entry.vnode, entry.unique) for entry in found} == model
    again = DirectoryPages.load(pages)
    assert sorted(again) == sorted(directory)
    again.add(b"one/more".replace(b"/", b"-") + b"x" * 60, 8, 8)
    assert directory.data() == pages


def test_a_copy_goes_its_own_way() -> None:
    first = DirectoryPages.make((1, 1), (1, 1))
    first.add(b"a", 2, 2)
    second = first.copy()
    second.remove(b"a")
    second.add(b"b", 4, 4)
    assert b"a" in first
    assert b"b" not in first
    assert second.find(b"b") == (4, 4)
    assert second.find(b"a") is None
    assert not second.is_empty
    second.remove(b"b")
    assert second.is_empty


def test_gaps_are_filled_first() -> None:
    directory = DirectoryPages.make((1, 1), (1, 1))
    for number in range(200):
        directory.add(b"name-%03d" % number, 2, number + 2)
    length = directory.length
    for number in range(0, 200, 2):
        directory.remove(b"name-%03d" % number)
    for number in range(100):
        directory.add(b"other%03d" % number, 2, number + 300)
    assert directory.length == length
    with pytest.raises(Refused):
        directory.remove(b"name-000")


@pytest.mark.parametrize(
    ("name", "code"),
    [(b"", errno.EINVAL), (b"a/b", errno.EINVAL), (b"a\0b", errno.EINVAL),
     (b"x" * 256, errno.ENAMETOOLONG)],
)  # fmt: skip
def test_names_that_cannot_be(name: bytes, code: int) -> None:
    directory = DirectoryPages.make((1, 1), (1, 1))
    with pytest.raises(Refused) as caught:
        directory.add(name, 2, 2)
    assert caught.value.code == code


def test_the_last_page() -> None:
    names = [(b"n%06d" % number, 2, number + 1) for number in range(64_435 + 2)]
    pages = build(names)
    assert len(pages) == MAX_PAGES * PAGE_BYTES
    directory = DirectoryPages.load(pages)
    with pytest.raises(Refused) as caught:
        directory.add(b"one too many", 2, 2)
    assert caught.value.code == errno.EFBIG
    directory.remove(b"n000100")
    directory.add(b"it fits", 2, 2)
    assert directory.read(0, 16) == pages[:16]
