"""Nothing that holds a key shows it: not printed, and not in a traceback with all its locals."""

from __future__ import annotations

import base64
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.acquire import Wanted
from afsfuse.auth.identity import Identity
from afsfuse.auth.kerberos import Ticket
from afsfuse.auth.renewal import Renewal
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Secret, Token
from afsfuse.democell.realm import Realm as DemoRealm
from afsfuse.interfaces import kauth
from rxrpc.security import tickets
from rxrpc.security.base import ConnectionIdentity
from rxrpc.security.handshake import Response
from tests.leaks import forms, found_in, named, pieces
from tests.pair.rxkad_world import NOW, SERVICE_KEY, SESSION_KEY, Realm

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = ConnectionIdentity(1, 4, 1, 2)
KEYTAB = b"contents of a keytab file"


def holders() -> tuple[list[object], dict[str, bytes]]:
    """All that has a key, a ticket or a keytab in it, and what these are."""
    realm = Realm()
    client = realm.client()
    ticket = client._ticket
    connection = client.connect(IDENTITY)
    server = realm.server().accept(IDENTITY)
    answer = connection.respond(server.challenge(), (1, 2, 3, 4))
    assert answer is not None
    server.accept_response(answer)
    granting = Ticket("a@B", "krbtgt/B@B", 18, Secret(SESSION_KEY), ticket, 1, 2, 3)
    wanted = Wanted("example.org", "B")
    token = Token(
        "example.org", "a@B", 1, Secret(SESSION_KEY), ticket, int(NOW), int(NOW) + 9, client.kvno
    )
    demo = DemoRealm("example.org", lambda: NOW, None)
    demo_ticket = demo.ticket_for("alice", 9)
    names = (b"a", b"", b"B", b"afs", b"")
    told = kauth.TicketAnswer(b"tgsT", 1, SESSION_KEY, 1, 2, 3, names, ticket)
    values = [
        realm.keys, client, connection, connection._session, server, server._session,
        Response.parse(answer), tickets.open_ticket(client.kvno, ticket, realm.keys, NOW),
        Secret(SESSION_KEY), token, granting, Renewal(wanted, "a@B", granting=granting),
        Renewal(wanted, "a@B", keytab=Secret(KEYTAB)), demo, demo_ticket, demo.keys, told,
    ]  # fmt: skip
    secrets = {"session key": SESSION_KEY, "service key": SERVICE_KEY, "keytab": KEYTAB}
    secrets |= {"demo session key": demo_ticket.session_key, "demo service key": demo.service_key}
    return values, secrets | pieces(ticket)


def test_what_is_printed_of_them() -> None:
    values, secrets = holders()
    assert not found_in(named(values), secrets)


def test_what_a_traceback_tells_of_them() -> None:
    """With the locals of each frame, as some tools for errors have it."""
    values, secrets = holders()

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    for value in values:
        try:
            fail(value)
        except RuntimeError as exc:
            lines = traceback.TracebackException.from_exception(exc, capture_locals=True)
            frames = [frame for frame in lines.stack if frame.name == "fail"]
            text = "".join(traceback.StackSummary.from_list(frames).format()).encode()
            text += repr([frame.locals for frame in frames]).encode()
            assert b"_arguments" in text
            assert not found_in({type(value).__name__: text}, secrets)


def test_the_parts_of_a_store(tmp_path: Path) -> None:
    values, secrets = holders()
    (token,) = [one for one in values if isinstance(one, Token)]
    store = TokenStore(tmp_path / "run", lambda: NOW)
    store.load()
    store.set(Identity(uid=1000), token)
    credentials = TokenCredentials(store, clock=lambda: NOW)
    inside = [store, store.all(), credentials, credentials.of(Identity(uid=1000), "example.org")]
    assert "RxkadClient" in repr(inside[-1])
    assert not found_in(named(inside), secrets)
    store.close()


@dataclass
class Careless:
    key: bytes
    ticket: bytes = field(default=b"")


@pytest.mark.parametrize("size", [8, 16, 31])
def test_a_careless_type_is_found(size: int) -> None:
    """The search itself: in whatever form, and in the middle of whatever."""
    secret = bytes(range(200, 200 + size))
    for text in (
        repr(Careless(secret)), secret.hex(), secret.hex().upper(), f"{int.from_bytes(secret):x}",
        *(base64.b64encode(bytes(before) + secret + b"more").decode() for before in range(5)),
        base64.urlsafe_b64encode(secret).decode(), repr(list(secret)), repr(repr(secret)),
    ):  # fmt: skip
        assert found_in({"it": text.encode()}, {"key": secret}), text
    assert found_in({"it": b"before" + secret + b"behind"}, {"key": secret})
    assert not found_in({"it": b"nothing of the kind"}, {"key": secret})
    assert all(len(form) >= 6 for form in forms(secret))
