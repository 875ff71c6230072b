"""The Kerberos library through ctypes, as far as that goes without a KDC (see tests/interop)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from afsfuse.auth import acquire, kerberos
from afsfuse.auth.acquire import Wanted
from afsfuse.auth.complaints import Krb5
from afsfuse.auth.kerberos import Kerberos
from afsfuse.auth.token import Secret
from afsfuse.errors import TicketRefused

if TYPE_CHECKING:
    from pathlib import Path

WANTED = Wanted("example.org", host="db.example.org")


@pytest.fixture
def _no_kdc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "krb5.conf").write_text(
        "[libdefaults]\n default_realm = NO.KDC\n dns_lookup_kdc = false\n"
        " dns_lookup_realm = false\n[domain_realm]\n .example.org = EXAMPLE.ORG\n"
    )
    monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/none")


@pytest.mark.usefixtures("_no_kdc")
def test_names_and_realms() -> None:
    with Kerberos() as context:
        assert context.full_name("alice") == "alice@NO.KDC"
        assert context.full_name("alice/admin@OTHER") == "alice/admin@OTHER"
        assert context.realm_of_host("db1.example.org") == "EXAMPLE.ORG"
        assert context.realm_of_host("db1.nowhere.net") is None
        with pytest.raises(TicketRefused):
            context.full_name("a@b@c")


@pytest.mark.usefixtures("_no_kdc")
def test_no_credentials_and_no_kdc() -> None:
    with pytest.raises(TicketRefused, match="there are no Kerberos credentials: get some with"):
        acquire.from_cache(WANTED)
    with pytest.raises(TicketRefused, match="no KDC of this realm is known") as caught:
        acquire.by_password(WANTED, "alice@NO.KDC", Secret(b"secret"))
    assert caught.value.kerberos == Krb5.REALM_UNKNOWN


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    kerberos._library.cache_clear()
    monkeypatch.setattr(kerberos, "_LIBRARY", "libnone.so.3")
    with pytest.raises(TicketRefused, match="apt-get install libkrb5-3"):
        acquire.from_cache(WANTED)
