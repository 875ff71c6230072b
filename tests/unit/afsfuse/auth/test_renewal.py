"""What tokens are renewed with: as text, and put to use."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.auth import renewal
from afsfuse.auth.acquire import Wanted
from afsfuse.auth.complaints import Krb5
from afsfuse.auth.kerberos import Ticket
from afsfuse.auth.renewal import Renewal, perform
from afsfuse.auth.token import Secret, Token
from afsfuse.errors import TicketRefused, TokenMalformed
from tests.unit.afsfuse.auth.test_token import token

WANTED = Wanted("example.org", None, "db.example.org")
GRANTING = Ticket(
    client="alice@EXAMPLE.ORG",
    server="krbtgt/EXAMPLE.ORG@EXAMPLE.ORG",
    enctype=18,
    key=Secret(b"key of the tgt"),
    data=b"tgt data",
    start=5,
    end=10,
    renew_till=20,
)
BY_TICKET = Renewal(WANTED, "alice@EXAMPLE.ORG", granting=GRANTING)
BY_KEYTAB = Renewal(Wanted("example.org", "R"), "alice@R", keytab=Secret(b"a keytab"))


@pytest.mark.parametrize("one", [BY_TICKET, BY_KEYTAB], ids=["ticket", "keytab"])
def test_a_renewal_and_its_text(one: Renewal) -> None:
    assert Renewal.decode(one.encode()) == one
    assert "key of the tgt" not in repr(one)
    assert "a keytab" not in repr(one)
    assert "tgt data" not in repr(one)


@pytest.mark.parametrize(
    "changes",
    [
        {"cell": ""},
        {"cell": 5},
        {"client": "a\nb"},
        {"client": None},
        {"realm": 7},
        {"granting": None},
        {"granting": {}},
        {"granting": {**json.loads(BY_TICKET.encode())["granting"], "times": [1, 2]}},
        {"granting": {**json.loads(BY_TICKET.encode())["granting"], "times": [1, 2, -3]}},
        {"granting": {**json.loads(BY_TICKET.encode())["granting"], "key": "!"}},
        {"keytab": ""},
        {"keytab": 5},
        {"keytab": "A" * 50_000},
    ],
)
def test_text_that_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenMalformed, match="cannot be read"):
        Renewal.decode(json.dumps({**json.loads(BY_TICKET.encode()), **changes}))


@given(st.binary(max_size=200))
def test_whatever_comes_only_the_one_error_is_raised(data: bytes) -> None:
    with pytest.raises(TokenMalformed):
        Renewal.decode(data)


def test_a_keytab_is_read_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def by_keytab(wanted: Wanted, client: str, keytab: str) -> Token:
        seen.append(Path(keytab.removeprefix("FILE:")).read_bytes())
        return token()

    monkeypatch.setattr(renewal, "by_keytab", by_keytab)
    assert perform(BY_KEYTAB) == (token(), BY_KEYTAB)
    assert seen == [b"a keytab"]


class FakeKerberos:
    """Renews, and has one service; or fails with a code."""

    code = 0

    def __enter__(self) -> FakeKerberos:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def realm_of_host(self, host: str) -> str | None:
        return "OTHER.NET"

    def renewed(self, ticket: Ticket, service: str) -> tuple[Ticket, Ticket]:
        if self.code:
            raise TicketRefused("refused", kerberos=self.code)
        if service != "afs/example.org@OTHER.NET":
            raise TicketRefused(service, kerberos=Krb5.SERVICE_UNKNOWN)
        fresh = Ticket(ticket.client, ticket.server, 18, Secret(b"2"), b"2", 9, 19, 20)
        return fresh, Ticket(ticket.client, service, 17, Secret(b"key"), b"ticket", 9, 19, 0)


def test_a_ticket_is_renewed_and_renews_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "Kerberos", FakeKerberos)
    fresh, again = perform(BY_TICKET)
    assert fresh == Token(
        "example.org", "alice@EXAMPLE.ORG", 17, Secret(b"key"), b"ticket", 9, 19,
        service="afs/example.org@OTHER.NET",
    )  # fmt: skip
    assert again.granting is not None
    assert (again.granting.data, again.granting.end) == (b"2", 19)
    assert again.wanted == WANTED


@pytest.mark.parametrize("code", [Krb5.KDC_UNREACHABLE, Krb5.SERVICE_UNKNOWN])
def test_a_ticket_that_is_not_renewed(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(renewal, "Kerberos", FakeKerberos)
    monkeypatch.setattr(FakeKerberos, "code", code)
    with pytest.raises(TicketRefused, match="refused"):
        perform(BY_TICKET)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The program that renews, run in this process; it returns what it said and whom it became."""
    became: list[tuple[str, Any]] = []
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: became.append((name, value)))
    monkeypatch.setattr(renewal, "harden", lambda: became.append(("harden", None)))
    monkeypatch.setattr(renewal, "Kerberos", FakeKerberos)

    def run(uid: int) -> tuple[dict[str, str], list[tuple[str, Any]]]:
        order = json.dumps({"uid": uid, "renewal": BY_TICKET.encode()})
        monkeypatch.setattr(sys, "stdin", io.StringIO(order))
        renewal.main()
        return json.loads(capsys.readouterr().out), became

    return run


def test_roots_daemon_does_it_under_the_users_uid(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    told, became = program(1000)
    assert Token.decode(told["token"]).cell == "example.org"
    assert Renewal.decode(told["renewal"]).client == "alice@EXAMPLE.ORG"
    closed = ("harden", None)
    assert became == [closed, ("setgroups", []), ("setgid", 65534), ("setuid", 1000), closed]


def test_a_users_daemon_does_it_as_it_is(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(FakeKerberos, "code", Krb5.KDC_UNREACHABLE)
    assert program(1000) == ({"error": "refused"}, [("harden", None)])


def test_its_memory_is_closed_to_its_user_before_it_has_a_key() -> None:
    """A new program begins open to its user, whatever the one before it was."""
    root = str(Path(renewal.__file__).parent.parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {root!r})\n"
        "import ctypes, resource, json; from afsfuse.auth import renewal\n"
        "def load(_):\n"
        "    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(4))\n"
        "    raise SystemExit\n"
        "renewal.json.load = load; renewal.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "0 (0, 0)\n", done.stderr
