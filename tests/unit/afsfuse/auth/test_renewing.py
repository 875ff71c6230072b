"""Tokens that are kept: renewed in time, by one daemon, and what the log says when that ends."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth import renewing
from afsfuse.auth.identity import Identity
from afsfuse.auth.processes import kin
from afsfuse.auth.renewing import LOOK_SECONDS, Renewer, in_a_process
from afsfuse.errors import ControlRefused, TicketRefused, TokenMalformed
from tests.unit.afsfuse.auth.test_renewal import BY_KEYTAB, BY_TICKET
from tests.unit.afsfuse.auth.test_store import ALICE, BOB, NOW, Clock, child, clock, make, store
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.auth.renewal import Renewal
    from afsfuse.auth.store import TokenStore
    from afsfuse.auth.token import Token
    from tests.conftest import ExpectedWarnings

__all__ = ["Clock", "child", "clock", "make", "store"]


class Kdc:
    """Gives tokens of 100 s, on trio's clock, or complains."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.down = False

    def now(self) -> float:
        return NOW + trio.current_time()

    def token(self) -> Token:
        return token(start=int(self.now()), end=int(self.now()) + 100)

    async def __call__(self, renewal: Renewal, uid: int) -> tuple[Token, Renewal]:
        await trio.lowlevel.checkpoint()
        self.asked.append(uid)
        if self.down:
            raise TicketRefused("no KDC answers")
        return self.token(), replace(renewal, client=f"{len(self.asked)}@R")


@pytest.fixture
def kdc() -> Kdc:
    return Kdc()


def end_of(store: TokenStore) -> int:
    held = store.get(ALICE, "example.org")
    assert held is not None
    return held.end


async def test_a_token_is_renewed_for_ever_before_it_ends(
    store: TokenStore, kdc: Kdc, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await nursery.start(Renewer(store, kdc.now, kdc).run)
    store.set(ALICE, kdc.token())
    store.keep(ALICE, BY_KEYTAB)
    for _ in range(100):
        await trio.sleep(10)
        assert end_of(store) > kdc.now()
    assert 10 <= len(kdc.asked) <= 14
    assert set(kdc.asked) == {1000}
    ((_, renewal),) = store.renewals()
    assert renewal.client == f"{len(kdc.asked)}@R"  # what the last one brought


async def test_a_token_of_seconds_is_kept_too(
    store: TokenStore, kdc: Kdc, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Whoever keeps one is not made to wait for the next look."""
    await nursery.start(Renewer(store, kdc.now, kdc).run)
    await trio.sleep(1)
    store.set(ALICE, token(start=int(kdc.now()), end=int(kdc.now()) + 4))
    store.keep(ALICE, BY_KEYTAB)
    await trio.sleep(3.9)
    assert len(kdc.asked) == 1


async def test_other_tokens_end_as_they_do(
    store: TokenStore, kdc: Kdc, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await nursery.start(Renewer(store, kdc.now, kdc).run)
    for identity in (ALICE, BOB):
        store.set(identity, kdc.token())
    store.keep(BOB, BY_KEYTAB)
    store.unkeep(BOB, "example.org")
    await trio.sleep(1000)
    assert kdc.asked == []


async def test_a_failure_is_told_of_once_and_in_time(
    store: TokenStore,
    kdc: Kdc,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    expected_warnings: ExpectedWarnings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    expected_warnings(r"of uid-1000 for example.org cannot be renewed, it is good until .*: no KDC")
    await nursery.start(Renewer(store, kdc.now, kdc).run)
    store.set(ALICE, kdc.token())
    store.keep(ALICE, BY_KEYTAB)
    kdc.down = True
    await trio.sleep(80)
    assert len(caplog.records) == 1  # and it is good for 20 s more
    await trio.sleep(500)
    assert len(caplog.records) == 1
    assert len(kdc.asked) > 10
    kdc.down = False
    await trio.sleep(LOOK_SECONDS + 1)
    assert end_of(store) > kdc.now()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "is renewed again" in caplog.text


async def test_one_daemon_renews_and_another_takes_over(
    make: Callable[[], TokenStore], kdc: Kdc, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    one, other = make(), make()
    first, second = Renewer(one, kdc.now, kdc), Renewer(other, kdc.now, kdc)
    async with trio.open_nursery() as daemon:
        await daemon.start(first.run)
        await nursery.start(second.run)
        one.set(ALICE, kdc.token())
        one.keep(ALICE, BY_KEYTAB)
        await trio.sleep(80)
        assert len(kdc.asked) == 1
        daemon.cancel_scope.cancel()
    other.rescan()
    await trio.sleep(100)
    assert len(kdc.asked) >= 2
    assert end_of(other) > kdc.now()


async def test_what_was_dropped_meanwhile_stays_dropped(
    store: TokenStore, autojump_clock: MockClock, kdc: Kdc
) -> None:
    async def slow(renewal: Renewal, uid: int) -> tuple[Token, Renewal]:
        store.drop(ALICE)
        return kdc.token(), renewal

    store.set(ALICE, token(end=int(NOW)))
    store.keep(ALICE, BY_KEYTAB)
    await Renewer(store, kdc.now, slow).look()
    assert store.all() == []
    assert store.renewals() == []


async def test_a_token_in_a_pag_is_its_users(
    store: TokenStore, kdc: Kdc, child: subprocess.Popen[bytes], autojump_clock: MockClock
) -> None:
    pag = Identity(pag=store.begin_pag(kin(child.pid).process, 1234))
    store.set(pag, token(end=int(NOW)))
    store.keep(pag, BY_KEYTAB)
    await Renewer(store, kdc.now, kdc).look()
    assert kdc.asked == [1234]
    store.end_pag(pag.pag or "")
    assert store.renewals() == []


def test_renewals_outlive_the_daemon(make: Callable[[], TokenStore], clock: Clock) -> None:
    first = make()
    first.set(ALICE, token())
    first.keep(ALICE, BY_TICKET)
    second = make()
    assert second.renewals() == [(ALICE, BY_TICKET)]
    clock.now += 10**6
    second.sweep()
    assert second.of(ALICE)  # it has expired, but the KDC may come back
    first.unkeep(ALICE, "example.org")
    second.rescan()
    assert second.renewals() == []
    second.sweep()
    assert second.all() == []


def test_there_must_be_a_token(store: TokenStore) -> None:
    with pytest.raises(ControlRefused, match="there is no token to keep"):
        store.keep(ALICE, BY_KEYTAB)


async def test_a_process_does_it_and_brings_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "krb5.conf").write_text("[libdefaults]\n dns_lookup_kdc = false\n")
    monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
    with pytest.raises(TicketRefused, match="no KDC of this realm is known"):
        await in_a_process(BY_KEYTAB, 0)


async def test_a_process_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "KDC_SECONDS", 0.0)
    with pytest.raises(TicketRefused, match="no KDC has answered"):
        await in_a_process(BY_TICKET, 0)


def speak_in_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """A shell script in place of the process that asks the KDC."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


@pytest.mark.parametrize(
    "told",
    ["", "5", "[]", "{}", '{"token": 5}', '{"token": "x"}', '{"token": "x", "renewal": 5}',
     '{"token": "x", "renewal": "x"}', '{"error": 5}', "[" * 30_000, "\\0377"],
)  # fmt: skip
async def test_nonsense_of_a_process_is_a_failure_like_others(
    told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It parses what its user gave us, so it may say whatever he likes; the daemon goes on."""
    speak_in_its_place(monkeypatch, tmp_path, f"printf '%b' '{told}'")
    with pytest.raises((TicketRefused, TokenMalformed)):
        await in_a_process(BY_KEYTAB, 0)


async def test_a_process_that_talks_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    speak_in_its_place(monkeypatch, tmp_path, "exec cat /dev/zero")
    with pytest.raises(TicketRefused, match="the Kerberos library failed"):
        await in_a_process(BY_KEYTAB, 0)


async def test_what_it_complains_of_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    speak_in_its_place(monkeypatch, tmp_path, "printf '%s' '{\"error\": \"a\\nb\\u001b[31m\"}'")
    with pytest.raises(TicketRefused) as caught:
        await in_a_process(BY_KEYTAB, 0)
    assert caught.value.message == "a b [31m"


async def test_without_room_for_a_process_the_daemon_goes_on(
    store: TokenStore,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Any user can take all processes of a machine, or its memory, for a while."""
    expected_warnings("cannot be renewed, .*: no process can be begun for it: ")
    monkeypatch.setattr(sys, "executable", "/there/is/none")
    store.set(ALICE, token(end=int(NOW)))
    store.keep(ALICE, BY_KEYTAB)
    await Renewer(store, lambda: NOW).look()
    assert "no process can be begun" in caplog.text


async def test_nothing_is_done_for_a_pag_that_has_ended(
    store: TokenStore, kdc: Kdc, child: subprocess.Popen[bytes], autojump_clock: MockClock
) -> None:
    """What a user had handed over was used as root then."""
    pag = Identity(pag=store.begin_pag(kin(child.pid).process, 1000))
    for identity in (ALICE, pag):
        store.set(identity, token(end=int(NOW)))
        store.keep(identity, BY_KEYTAB)
    asked: list[int] = []

    async def slow(renewal: Renewal, uid: int) -> tuple[Token, Renewal]:
        asked.append(uid)
        await trio.sleep(1)
        store.end_pag(pag.pag or "")
        return kdc.token(), renewal

    await Renewer(store, kdc.now, slow).look()
    assert asked == [1000]


async def test_silent_kdcs_of_one_user_hold_up_nobody_else(
    store: TokenStore,
    kdc: Kdc,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("cannot be renewed")
    tried: list[str] = []

    async def perform(renewal: Renewal, uid: int) -> tuple[Token, Renewal]:
        if uid == ALICE.uid:
            tried.append(renewal.wanted.cell)
            await trio.sleep(20)
            raise TicketRefused("no KDC answers")
        return replace(kdc.token(), end=int(kdc.now()) + 400), renewal

    for number in range(20):
        cell = f"{number}.example.org"
        store.set(ALICE, token(cell=cell, end=int(NOW)))
        store.keep(ALICE, replace(BY_KEYTAB, wanted=replace(BY_KEYTAB.wanted, cell=cell)))
    await nursery.start(Renewer(store, kdc.now, perform).run)
    store.set(BOB, replace(kdc.token(), end=int(kdc.now()) + 400))
    store.keep(BOB, BY_KEYTAB)
    for _ in range(120):
        await trio.sleep(10)
        held = store.get(BOB, "example.org")
        assert held is not None
        assert held.end > kdc.now()
    assert len(set(tried)) == 20, "each of his own has its turn"
