"""Which security a caller's calls get, what becomes of a refused token, and what the log says."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.auth.security import LEVELS, Credentials, TokenCredentials, is_about_token
from afsfuse.auth.store import TokenStore
from afsfuse.auth.token import Secret, Token
from afsfuse.errors import TokenMalformed
from rxrpc import NULL, CallAborted, SecurityLevel
from rxrpc.security.base import ConnectionIdentity, SecurityIndex
from rxrpc.security.handshake import Challenge
from rxrpc.security.rxkad import RxkadClient, RxkadCode
from tests.unit.afsfuse.auth.realm import CELL, Clock, Realm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rxrpc import ClientSecurity
    from tests.conftest import ExpectedWarnings

ALICE, BOB = Identity(uid=1000), Identity(uid=1001)
USERS = 200


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[TokenStore]:
    store = TokenStore(tmp_path / "run", clock)
    store.load()
    yield store
    store.close()


@pytest.fixture
def realm() -> Realm:
    return Realm()


@pytest.fixture
def credentials(store: TokenStore, clock: Clock) -> TokenCredentials:
    return TokenCredentials(store, clock=clock)


def refused(code: int, *, remote: bool = True) -> CallAborted:
    return CallAborted(code, remote=remote)


def test_without_tokens_everybody_is_anonymous(credentials: TokenCredentials) -> None:
    for known in (Credentials(), credentials):
        for who in (NOBODY, ALICE):
            assert known.of(who, CELL) is NULL
            assert not known.has_expired(who, CELL)
            error = refused(RxkadCode.EXPIRED)
            assert known.instead(who, CELL, NULL, error) is None


def test_a_token_is_for_its_identity_and_cell(
    store: TokenStore, credentials: TokenCredentials, realm: Realm
) -> None:
    store.set(ALICE, realm.token())
    client = credentials.of(ALICE, CELL)
    assert isinstance(client, RxkadClient)
    assert client.level is SecurityLevel.CRYPT
    assert credentials.of(ALICE, CELL) is client
    for other, cell in ((BOB, CELL), (ALICE, "other.org"), (NOBODY, CELL)):
        assert credentials.of(other, cell) is NULL


def test_two_identities_with_one_token_share_no_connection(
    store: TokenStore, credentials: TokenCredentials, realm: Realm
) -> None:
    token = realm.token()
    store.set(ALICE, token)
    store.set(BOB, replace(token, key=Secret(token.key.reveal())))
    assert credentials.of(ALICE, CELL) != credentials.of(BOB, CELL)
    assert len({credentials.of(ALICE, CELL), credentials.of(BOB, CELL)}) == 2


def test_an_equal_token_changes_nothing_and_another_one_all(
    store: TokenStore, credentials: TokenCredentials, realm: Realm
) -> None:
    token = realm.token()
    again = replace(token, key=Secret(token.key.reveal()))
    store.set(ALICE, token)
    first = credentials.of(ALICE, CELL)
    store.set(ALICE, again)
    assert credentials.of(ALICE, CELL) is first
    store.set(ALICE, realm.token())
    second = credentials.of(ALICE, CELL)
    assert second != first
    store.drop(ALICE)
    assert credentials.of(ALICE, CELL) is NULL
    # The same ticket once more is another client: the old one's key is wiped, and connections
    # that still remember it could not be multiplied.
    store.set(ALICE, replace(token, key=Secret(again.key.reveal())))
    assert credentials.of(ALICE, CELL) not in (first, second)
    connection = ConnectionIdentity(1, 4, 1, SecurityIndex.RXKAD)
    for old in (first, second):
        with pytest.raises(Exception, match="discarded"):
            old.connect(connection)


def test_tokens_that_were_there_before(store: TokenStore, clock: Clock, realm: Realm) -> None:
    store.set(ALICE, realm.token())
    assert TokenCredentials(store, clock=clock).of(ALICE, CELL) is not NULL


def test_the_level_is_that_which_was_asked_for(
    store: TokenStore, clock: Clock, realm: Realm
) -> None:
    store.set(ALICE, realm.token())
    assert list(LEVELS) == ["clear", "auth", "crypt"]
    for level in LEVELS.values():
        client = TokenCredentials(store, level, clock=clock).of(ALICE, CELL)
        assert client.level is level


def test_an_expired_token_is_none_and_that_is_told_once(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "afsfuse.auth.security")
    store.set(ALICE, realm.token(life=100))
    clock.now += 100
    assert credentials.of(ALICE, CELL) is NULL
    assert credentials.of(ALICE, CELL) is NULL
    assert credentials.has_expired(ALICE, CELL)
    assert not credentials.has_expired(BOB, CELL)
    store.set(ALICE, realm.token(life=500))
    assert not credentials.has_expired(ALICE, CELL)
    store.drop(ALICE)
    came, end, renewed, gone = caplog.messages
    assert came.startswith(f"uid-1000 has a token for {CELL}: alice@TEST.AFS, until 20")
    assert end.startswith(f"the token of uid-1000 for {CELL} has expired")
    assert renewed.startswith(f"uid-1000 has a token for {CELL}")
    assert gone == f"the token of uid-1000 for {CELL} is gone"


def test_a_clock_that_was_wrong_for_a_while_ends_no_token(
    store: TokenStore, credentials: TokenCredentials, realm: Realm, clock: Clock
) -> None:
    store.set(ALICE, realm.token())
    client = credentials.of(ALICE, CELL)
    clock.now += 7200
    assert credentials.of(ALICE, CELL) is NULL
    clock.now -= 7200
    assert credentials.of(ALICE, CELL) is client
    assert not credentials.has_expired(ALICE, CELL)


async def test_expiry_is_told_when_it_happens(
    store: TokenStore,
    realm: Realm,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.abc.Clock,
) -> None:
    caplog.set_level(logging.INFO, "afsfuse.auth.security")
    began = trio.current_time()
    start = clock.now
    credentials = TokenCredentials(store, clock=lambda: start + trio.current_time() - began)
    store.set(ALICE, realm.token(life=300))
    async with trio.open_nursery() as nursery:
        await nursery.start(credentials.run)
        await trio.sleep(299)
        assert "has expired" not in caplog.text
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert caplog.text.count("has expired") == 1


def test_what_is_tried_in_place_of_an_expired_token(
    store: TokenStore, credentials: TokenCredentials, realm: Realm
) -> None:
    """By the server's clock: ours is late."""
    store.set(ALICE, realm.token(life=200))
    tried = credentials.of(ALICE, CELL)
    assert credentials.instead(ALICE, CELL, tried, refused(RxkadCode.EXPIRED)) is NULL
    assert credentials.of(ALICE, CELL) is NULL
    assert credentials.has_expired(ALICE, CELL)
    assert credentials.instead(ALICE, CELL, tried, refused(RxkadCode.EXPIRED)) is NULL


def test_a_token_does_not_expire_long_before_its_time(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    expected_warnings: ExpectedWarnings,
) -> None:
    """Whoever can forge an abort must not be able to have us read without protection."""
    expected_warnings("refuses the token of uid-1000: 19270409 RXKADEXPIRED")
    store.set(ALICE, realm.token())
    tried = credentials.of(ALICE, CELL)
    assert credentials.instead(ALICE, CELL, tried, refused(RxkadCode.EXPIRED)) is None
    assert credentials.of(ALICE, CELL) is tried


def test_what_is_tried_in_place_of_a_token_that_has_changed(
    store: TokenStore, credentials: TokenCredentials, realm: Realm
) -> None:
    store.set(ALICE, realm.token())
    tried = credentials.of(ALICE, CELL)
    store.set(ALICE, realm.token())
    error = refused(RxkadCode.NO_AUTH, remote=False)
    assert credentials.instead(ALICE, CELL, tried, error) is credentials.of(ALICE, CELL)


def test_a_higher_level_is_tried_once(
    store: TokenStore, clock: Clock, realm: Realm, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings(f"fs9 of {CELL} demands level crypt, not auth: the token of uid-1000 is used")
    expected_warnings(f"fs9 of {CELL} refuses the token of uid-1000: 19270402 RXKADLEVELFAIL")
    store.set(ALICE, realm.token())
    credentials = TokenCredentials(store, SecurityLevel.AUTH, clock=clock)
    error = refused(RxkadCode.LEVEL_FAIL, remote=False)
    higher = credentials.instead(ALICE, CELL, credentials.of(ALICE, CELL), error, "fs9")
    assert higher is not None
    assert higher.level is SecurityLevel.CRYPT
    assert credentials.of(ALICE, CELL) is higher
    assert credentials.instead(ALICE, CELL, higher, error, "fs9") is None


def test_a_token_that_no_server_takes_is_told_of_once(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    expected_warnings: ExpectedWarnings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected_warnings("refuses the token of uid-1000: 19270408 RXKADUNKNOWNKEY; get a new one")
    for expected in (1, 2):
        store.set(ALICE, realm.token())
        tried = credentials.of(ALICE, CELL)
        for _ in range(3):
            error = refused(RxkadCode.UNKNOWN_KEY)
            assert credentials.instead(ALICE, CELL, tried, error) is None
        assert caplog.text.count("refuses the token") == expected


def test_what_is_no_fault_of_the_token() -> None:
    """A packet that we find wrong, and everything that is not rxkad's."""
    assert not is_about_token(refused(RxkadCode.SEALED_INCONSISTENT, remote=False))
    assert is_about_token(refused(RxkadCode.SEALED_INCONSISTENT))
    assert is_about_token(refused(RxkadCode.EXPIRED, remote=False))
    assert not is_about_token(refused(RxkadCode.DATA_LENGTH))
    assert not is_about_token(refused(errno.EACCES))


def test_a_token_that_is_of_no_use_with_rxkad(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("the token of uid-1000 for test.afs is of no use")
    store.set(ALICE, replace(realm.token(), key=Secret(b"short"), enctype=18))
    assert credentials.of(ALICE, CELL) is NULL


@pytest.mark.parametrize("name", ["kvno", "enctype", "start", "end", "viceid"])
@pytest.mark.parametrize("number", [sign * (1 << bits) + more for bits in (0, 31, 32, 39, 40, 64)
                                    for sign in (-1, 1) for more in (-1, 0)])  # fmt: skip
def test_no_number_in_a_token_harms_more_than_its_owner(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    name: str,
    number: int,
    expected_warnings: ExpectedWarnings,
) -> None:
    """A user hands it over as he likes. It is refused, or a server that challenges is answered."""
    expected_warnings("the token of uid-1000 for test.afs is of no use: no session keys are of")
    text = json.dumps({**json.loads(realm.token().encode()), name: number})
    with contextlib.suppress(TokenMalformed):
        store.set(ALICE, Token.decode(text))
        client = credentials.of(ALICE, CELL)
        if client is not NULL:
            connection = client.connect(ConnectionIdentity(1 << 31, 4, 1, SecurityIndex.RXKAD))
            assert connection.respond(Challenge(7, 0).build(), (1, 0, 0, 0))


async def test_public_answers_do_not_hang_on_a_bad_token(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    expected_warnings: ExpectedWarnings,
) -> None:
    expected_warnings("refuses the token")
    store.set(ALICE, realm.token())
    tried: list[ClientSecurity] = []

    async def attempt(security: ClientSecurity) -> str:
        tried.append(security)
        if security is not NULL:
            raise refused(RxkadCode.BAD_TICKET)
        return "told"

    assert await credentials.run_as(ALICE, CELL, attempt, public=True) == "told"
    assert [each is NULL for each in tried] == [False, True]
    with pytest.raises(CallAborted):
        await credentials.run_as(ALICE, CELL, attempt)
    assert len(tried) == 3


async def test_an_attempt_fails_twice_at_most(
    store: TokenStore, credentials: TokenCredentials, realm: Realm
) -> None:
    store.set(ALICE, realm.token(life=200))
    tried: list[ClientSecurity] = []

    async def attempt(security: ClientSecurity) -> None:
        tried.append(security)
        raise refused(RxkadCode.EXPIRED)

    with pytest.raises(CallAborted):
        await credentials.run_as(ALICE, CELL, attempt)
    assert len(tried) == 2


def test_many_identities(store: TokenStore, credentials: TokenCredentials, realm: Realm) -> None:
    for number in range(USERS):
        store.set(Identity(uid=2000 + number), realm.token(f"user{number}"))
    clients = {credentials.of(Identity(uid=2000 + n), CELL) for n in range(USERS)}
    assert len(clients) == USERS
    assert NULL not in clients


def test_no_log_line_has_a_key(
    store: TokenStore,
    credentials: TokenCredentials,
    realm: Realm,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = realm.token()
    key = token.key.reveal()
    store.set(ALICE, token)
    logging.getLogger("test").info("%s %r", credentials.of(ALICE, CELL), credentials._held)
    store.drop(ALICE)
    assert "uid-1000" in caplog.text
    for secret in (key.hex(), repr(key), str(list(key)), token.ticket[:20].hex()):
        assert secret not in caplog.text
