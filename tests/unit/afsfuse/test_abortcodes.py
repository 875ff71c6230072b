"""The table of abort codes: it is whole, every code means something, and the page shows it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from afsfuse import abortcodes
from afsfuse.abortcodes import ABORT_CODES, AbortCode, ViceCode, VlCode, unified
from afsfuse.errors import AfsError, from_abort
from afsfuse.interfaces.kauth import KaCode
from rxrpc.errors import RxCode
from rxrpc.rpc import RxgenCode
from rxrpc.security.rxkadcodes import RxkadCode
from tests.tools import abortpage

if TYPE_CHECKING:
    import enum

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"


def com_err_base(name: str) -> int:
    """The first code of a family. Source: hash_name in src/comerr/et_name.c."""
    number = 0
    for letter in name:
        number = (number << 6) + _ALPHABET.index(letter) + 1
    return number << 8


@pytest.mark.parametrize(
    ("name", "base", "count"),
    [
        ("U", abortcodes.U_BASE, 38),
        ("PT", abortcodes.PR_BASE, 19),
        ("VL", abortcodes.VL_BASE, 33),
        ("RXK", abortcodes.RXK_BASE, 13),
        ("RXGK", abortcodes.RXGK_BASE, 12),
        ("uae", abortcodes.UAE_BASE, 130),
    ],
)
def test_families_are_whole(name: str, base: int, count: int) -> None:
    assert base == com_err_base(name)
    assert {base + place for place in range(count)} <= ABORT_CODES.keys()
    assert not {base + place for place in range(count, 256)} & ABORT_CODES.keys()


@pytest.mark.parametrize("codes", [RxCode, RxgenCode, RxkadCode, ViceCode, VlCode])
def test_what_the_packages_call_by_name_is_there(codes: type[enum.IntEnum]) -> None:
    assert {code.value for code in codes} <= ABORT_CODES.keys()


def test_names_are_different() -> None:
    names = [entry.name for entry in ABORT_CODES.values()]
    assert len(set(names)) == len(names)
    assert not {code.value for code in KaCode} & ABORT_CODES.keys()  # a family of its own


@pytest.mark.parametrize("code", ABORT_CODES)
def test_every_code_means_something(code: int) -> None:
    entry = ABORT_CODES[code]
    assert entry.errno in errno.errorcode
    assert entry.errno != errno.ENOENT
    assert entry.meaning
    assert not entry.meaning.lower().startswith("unknown error")
    error = from_abort(code)
    assert isinstance(error, AfsError)
    assert error.errno == entry.errno
    assert entry.name in str(error)


@pytest.mark.parametrize("theirs", ["LINUX", "OPENAFS"])
def test_where_other_clients_say_something_else_there_is_a_reason(theirs: str) -> None:
    facts = getattr(abortpage, theirs)
    assert len(facts) > 70
    different = {ABORT_CODES[code].name for code in abortpage.differences(facts)}
    assert different <= abortpage.REASONS.keys()


def test_no_reason_is_left_over() -> None:
    different = abortpage.differences(abortpage.LINUX) | abortpage.differences(abortpage.OPENAFS)
    assert {ABORT_CODES[code].name for code in different} == abortpage.REASONS.keys()


@pytest.mark.parametrize("number", errno.errorcode)
def test_what_a_server_translates_comes_back_as_it_was(number: int) -> None:
    """As viced translates, so we translate back, but for what no program may see."""
    if number in set(ViceCode) - {ViceCode.VSALVAGING}:  # which servers never send to clients
        assert unified(number) == number
        return
    back = ABORT_CODES[unified(number)].errno
    changed = {errno.ENOENT: errno.ESTALE, 85: errno.EINTR}  # ERESTART
    assert back == changed.get(number, number)


def test_the_page_shows_the_table() -> None:
    text = abortpage.PAGE.read_text()
    assert abortpage.renewed(text) == text, "write it anew: python -m tests.tools.abortpage"
    for code, entry in ABORT_CODES.items():
        if entry.name not in errno.errorcode.values():
            assert f"| {code} | {entry.name} |" in text


def test_a_stranger_is_told_as_it_is() -> None:
    assert str(from_abort(99999)) == "the server refused (abort code 99999)"
    assert isinstance(ABORT_CODES[101], AbortCode)
