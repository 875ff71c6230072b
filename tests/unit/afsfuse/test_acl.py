"""Access lists and their text."""

from __future__ import annotations

import errno

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afsfuse.acl import NAME_MAX, AccessList, from_letters, letters
from afsfuse.errors import AfsError, DataCorrupt
from afsfuse.interfaces.common import OPAQUE_MAX

NAMES = st.binary(min_size=1, max_size=NAME_MAX).filter(
    lambda name: not any(byte in b" \t\n\r\v\f\0" for byte in name)
)
RIGHTS = st.integers(0, 2**32 - 1)
ENTRIES = st.lists(st.tuples(NAMES, RIGHTS), max_size=8).map(tuple)
LISTS = st.builds(AccessList, ENTRIES, ENTRIES)

SERVERS = b"2\n1\nsystem:administrators\t127\nsystem:anyuser\t9\nbob\t16\n"


def refusal(text: bytes) -> AfsError:
    with pytest.raises(AfsError) as caught:
        AccessList.from_user(text)
    return caught.value


@given(LISTS)
def test_the_text_is_the_inverse(acl: AccessList) -> None:
    assert AccessList.from_server(acl.text()) == acl
    assert AccessList.from_server(acl.text() + b"\0") == acl


@given(LISTS)
def test_what_is_read_can_be_set(acl: AccessList) -> None:
    text = acl.text()
    names = [dict(entries) for entries in (acl.positive, acl.negative)]
    if len(text) >= OPAQUE_MAX or sum(map(len, names)) < len(acl.positive) + len(acl.negative):
        assert refusal(text).errno in (errno.E2BIG, errno.EINVAL)
    else:
        assert AccessList.from_user(text) == acl


def test_a_list_of_a_server() -> None:
    acl = AccessList.from_server(SERVERS + b"\0")
    assert acl.positive == ((b"system:administrators", 127), (b"system:anyuser", 9))
    assert acl.negative == ((b"bob", 16),)
    assert acl.text() == SERVERS
    assert str(acl) == "system:administrators rlidwka, system:anyuser rl, not bob d"
    assert str(AccessList.from_server(b"0\n0\n")) == "nobody"


def test_rights_of_ones_own_are_printed_with_a_sign() -> None:
    """Servers print them with %d."""
    acl = AccessList.from_server(b"1\n0\nalice\t-2147483639\n")
    assert acl.positive == ((b"alice", 0x80000009),)
    assert str(acl) == "alice rlH"
    assert acl.text() == b"1\n0\nalice\t-2147483639\n"
    assert AccessList.from_user(b"1\n0\nalice 2147483657") == acl


@pytest.mark.parametrize(
    ("text", "rights"),
    [
        ("rlidwka", 127), ("rl", 9), ("", 0), ("A", 1 << 24), ("H", 1 << 31),
        ("none", 0), ("read", 9), ("write", 63), ("all", 127), ("llr", 9),
    ],
)  # fmt: skip
def test_letters(text: str, rights: int) -> None:
    assert from_letters(text) == rights


@given(RIGHTS)
@example(0)
@example(2**32 - 1)
def test_letters_name_every_bit(rights: int) -> None:
    known, _, rest = letters(rights).partition("+")
    assert from_letters(known) + int(rest or "0", 16) == rights


def test_users_may_write_letters_and_blanks() -> None:
    acl = AccessList.from_user(b" 2\n1\n alice rlidwka \nsystem:anyuser\t l\nbob write")
    assert acl.text() == b"2\n1\nalice\t127\nsystem:anyuser\t8\nbob\t63\n"
    with pytest.raises(DataCorrupt):
        AccessList.from_server(b"1\n0\nalice\trl\n")


MALFORMED = [
    b"", b"\0", b"nonsense", b"1", b"1\n", b"1 0\nalice 1\n", b"-1\n0\n", b"1\n0\n",
    b"1\n0\nalice\n", b"1\n0\nalice one two\n", b"0\n0\nalice\t1\n", b"2\n0\nalice\t1\n",
    b"1\n0\nalice\t99999999999\n", b"1\n0\nalice\t4294967296\n", b"1\n0\nalice\t-2147483649\n",
    b"1\n0\n" + b"x" * 64 + b"\t1\n", b"1\n0\nali\0ce\t1\n", b"999999999\n999999999\n",
    b"1\n0\nalice\t1\n\0more",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_nonsense(text: bytes) -> None:
    assert refusal(text).errno == errno.EINVAL
    with pytest.raises(DataCorrupt):
        AccessList.from_server(text)


def test_lists_of_dfs_are_refused() -> None:
    """Their header is another one, and their rights mean other things."""
    text = b"1 dfs:4 example.org\n0\nuser:alice\t9\n"
    assert "DFS" in str(refusal(text))
    with pytest.raises(DataCorrupt, match="DFS"):
        AccessList.from_server(text)


def test_a_name_twice_and_letters_that_are_none() -> None:
    assert refusal(b"2\n0\nalice\t1\nalice\t2\n").errno == errno.EINVAL
    assert AccessList.from_user(b"1\n1\nalice\t127\nalice\t2\n").negative == ((b"alice", 2),)
    assert "'z'" in str(refusal(b"1\n0\nalice rlz\n"))


def test_the_longest_list() -> None:
    """The limit of the wire counts the NUL."""
    acl = AccessList.from_user(b"1\n0\nalice 1\n")
    filler = OPAQUE_MAX - 1 - len(acl.text())
    names = [b"%02d" % number + b"x" * 57 for number in range(filler // 62)]
    last = filler - 62 * len(names)
    many = (*((name, 1) for name in names), (b"y" * (last - 3), 1), (b"alice", 1))
    full = AccessList(many).text()
    assert len(full) == OPAQUE_MAX, "a digit more for the count"
    assert refusal(full).errno == errno.E2BIG
    fits = full.replace(b"yy", b"y", 1)
    assert len(AccessList.from_user(fits).text()) == OPAQUE_MAX - 1


@given(st.binary(max_size=200) | st.builds(lambda a, b: a + b, st.just(b"1\n1\n"), st.binary()))
@example(SERVERS)
def test_any_bytes_are_a_list_or_an_error(text: bytes) -> None:
    for parse, error in ((AccessList.from_server, DataCorrupt), (AccessList.from_user, AfsError)):
        try:
            acl = parse(text)
        except error:
            continue
        assert AccessList.from_server(acl.text()) == acl


@given(st.data())
def test_a_damaged_list_is_a_list_or_an_error(data: st.DataObject) -> None:
    text = bytearray(data.draw(LISTS).text())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    text = text[: data.draw(st.integers(0, len(text)))]
    for parse, error in ((AccessList.from_server, DataCorrupt), (AccessList.from_user, AfsError)):
        try:
            acl = parse(bytes(text))
        except error:
            continue
        assert AccessList.from_server(acl.text()) == acl
