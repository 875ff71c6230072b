"""Which service is asked for, and that a KDC which hangs holds nobody up."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from afsfuse.auth import acquire
from afsfuse.auth.acquire import Wanted, outcome, read_outcome, services, within
from afsfuse.auth.complaints import Krb5
from afsfuse.auth.kerberos import Ticket
from afsfuse.auth.token import KERBEROS_V5, Secret, Token
from afsfuse.errors import TicketRefused
from tests.unit.afsfuse.auth.test_token import token


@pytest.mark.parametrize(
    ("cell", "given", "user", "its", "expected"),
    [
        ("example.org", None, "EXAMPLE.ORG", "EXAMPLE.ORG",
         ["afs/example.org@EXAMPLE.ORG", "afs@EXAMPLE.ORG"]),
        ("example.org", None, "HOME.NET", "EXAMPLE.ORG",
         ["afs/example.org@HOME.NET", "afs/example.org@EXAMPLE.ORG", "afs@EXAMPLE.ORG"]),
        ("example.org", None, "HOME.NET", "OTHER.NET",
         ["afs/example.org@HOME.NET", "afs/example.org@OTHER.NET"]),
        ("example.org", "GIVEN.NET", "HOME.NET", "OTHER.NET", ["afs/example.org@GIVEN.NET"]),
        ("example.org", "EXAMPLE.ORG", "HOME.NET", "OTHER.NET",
         ["afs/example.org@EXAMPLE.ORG", "afs@EXAMPLE.ORG"]),
    ],
)  # fmt: skip
def test_the_order_of_principals(
    cell: str, given: str | None, user: str, its: str, expected: list[str]
) -> None:
    assert list(services(Wanted(cell, given), user, its)) == expected


class FakeKerberos:
    """A realm with some services, and a user of another realm."""

    there: ClassVar[dict[str, int]] = {}
    """Service -> 0, or the code with which it is refused; others are unknown."""

    def __enter__(self) -> FakeKerberos:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def user(self) -> str:
        return "alice@HOME.NET"

    def realm_of_host(self, host: str) -> str | None:
        return {"db.example.org": "EXAMPLE.ORG"}.get(host)

    def full_name(self, name: str) -> str:
        return name

    def service_ticket(self, service: str) -> Ticket:
        if code := self.there.get(service, Krb5.SERVICE_UNKNOWN):
            raise TicketRefused(f"{service}: {code}", kerberos=code)
        return Ticket(self.user(), service, 18, Secret(b"key"), b"ticket", 5, 2**31 + 5, 0)

    def fresh_ticket(self, service: str) -> Ticket:
        return replace(self.service_ticket(service), data=b"fresh")

    def by_password(self, client: str, password: Secret, service: str) -> Ticket:
        assert password.reveal() == b"secret"
        return self.service_ticket(f"{service}@{client.rpartition('@')[2]}")

    def by_keytab(self, client: str, keytab: str, service: str) -> Ticket:
        assert keytab == "FILE:/key"
        return self.service_ticket(f"{service}@{client.rpartition('@')[2]}")


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    there: dict[str, int] = {}
    monkeypatch.setattr(FakeKerberos, "there", there)
    monkeypatch.setattr(acquire, "Kerberos", FakeKerberos)
    return there


WANTED = Wanted("example.org", host="db.example.org")


def test_a_ticket_becomes_a_token(realm: dict[str, int]) -> None:
    realm["afs/example.org@EXAMPLE.ORG"] = 0
    said: list[str] = []
    assert acquire.from_cache(WANTED, said.append) == Token(
        "example.org", "alice@HOME.NET", 18, Secret(b"key"), b"ticket", 5, 2**31 + 5, KERBEROS_V5,
        "afs/example.org@EXAMPLE.ORG",
    )  # fmt: skip
    assert said[-1] == "asking for afs/example.org@EXAMPLE.ORG"
    assert "asking for afs/example.org@HOME.NET" in said


def test_a_fresh_ticket_is_none_of_the_cache(realm: dict[str, int]) -> None:
    realm["afs/example.org@EXAMPLE.ORG"] = 0
    assert acquire.fresh(WANTED).ticket == b"fresh"


def test_a_cell_without_a_service(realm: dict[str, int]) -> None:
    with pytest.raises(TicketRefused, match=r"no service afs/example.org@HOME.NET and no afs/"):
        acquire.from_cache(WANTED)


def test_what_another_service_would_not_cure_ends_the_search(realm: dict[str, int]) -> None:
    realm |= {"afs/example.org@HOME.NET": Krb5.CLOCK_SKEW, "afs/example.org@EXAMPLE.ORG": 0}
    with pytest.raises(TicketRefused) as caught:
        acquire.from_cache(WANTED)
    assert caught.value.kerberos == Krb5.CLOCK_SKEW


@pytest.mark.parametrize("user", ["alice", "alice@EXAMPLE.ORG"])
def test_users_with_a_password_or_a_keytab(realm: dict[str, int], user: str) -> None:
    realm["afs@EXAMPLE.ORG"] = 0
    assert acquire.by_password(WANTED, user, Secret(b"secret")).ticket == b"ticket"
    assert acquire.by_keytab(WANTED, user, "FILE:/key").ticket == b"ticket"


def test_a_user_of_a_realm_that_is_given(realm: dict[str, int]) -> None:
    realm["afs/example.org@GIVEN.NET"] = 0
    wanted = Wanted("example.org", realm="GIVEN.NET")
    assert acquire.by_password(wanted, "alice", Secret(b"secret")).ticket == b"ticket"


def test_a_cell_whose_realm_nobody_knows_has_its_name(realm: dict[str, int]) -> None:
    realm["afs@OTHER.ORG"] = 0
    assert acquire.from_cache(Wanted("other.org")).cell == "other.org"


def fail() -> Token:
    raise TicketRefused("so it is", kerberos=7)


def test_a_child_brings_the_token_or_the_reason() -> None:
    assert within(60, token) == token()
    with pytest.raises(TicketRefused, match=r"^so it is$") as caught:
        within(60, fail)
    assert caught.value.kerberos == 7


def children() -> set[str]:
    """The processes that this one has to wait for; tests before may have left some running."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_kdc_that_hangs_is_left_behind() -> None:
    def hang() -> Token:
        signal.pause()
        raise AssertionError

    before = children()
    with pytest.raises(TicketRefused, match="no KDC has answered within 0 s"):
        within(0.05, hang)
    assert children() <= before, "no child is left"


def test_a_library_that_crashes() -> None:
    def crash() -> Token:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with pytest.raises(TicketRefused, match="the Kerberos library failed"):
        within(60, crash)


def test_outcomes_are_text() -> None:
    assert read_outcome(outcome(token)) == token()
    with pytest.raises(TicketRefused, match="so it is"):
        read_outcome(outcome(fail))
