"""Who may see what: rights by identity, and fetches that are nobody else's."""

import errno

import pytest
import trio
from trio.testing import MockClock

from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.cache import ReadState
from afsfuse.cache.doors import LOOK, READ
from afsfuse.cache.vnodes import PERMITS_MAX
from afsfuse.errors import AfsError, DataCorrupt, NotPermitted, TokenExpired
from afsfuse.model import FileKind, Rights
from tests.unit.afsfuse.cache.fakes import (
    ADDRESS,
    HOME,
    PROMISED,
    FakeClient,
    Line,
    Listener,
    fid,
    make_cache,
    make_volume,
)

VOLUME = make_volume()
FILE, TOP = fid(2), HOME
ALICE, BOB, OTHER = Identity(1001), Identity(1002), Identity(1003)
ALL = Rights.READ | Rights.LOOKUP


def closed() -> FakeClient:
    """Alice may read, Bob only look, both with tokens; nobody else may do anything."""
    client = FakeClient(Line(rtt=0.01))
    client.put_directory(TOP, [(b"f", FILE.vnode, FILE.unique)])
    client.put(FILE, b"secret")
    client.tokens = {ALICE, BOB}
    client.rights = {ALICE: ALL, BOB: Rights.LOOKUP}
    return client


async def test_data_is_shared_with_those_who_may_read(autojump_clock: MockClock) -> None:
    client = closed()
    client.rights[BOB] = ALL
    cache = make_cache(client)
    for who in (ALICE, BOB, ALICE):
        assert await cache.read(VOLUME, FILE, 0, 99, ReadState(who)) == b"secret"
    assert client.count("data") == 1
    for who in (OTHER, NOBODY):
        with pytest.raises(NotPermitted):
            await cache.read(VOLUME, FILE, 0, 99, ReadState(who))
        with pytest.raises(NotPermitted):
            await cache.directory(VOLUME, TOP, who)
    assert client.count("data") == 1


async def test_each_identity_is_asked_about_once(autojump_clock: MockClock) -> None:
    client = closed()
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP, ALICE)
    doors = cache.doors
    for _ in range(3):
        assert await doors.allows(top, READ, ALICE)
        assert await doors.allows(top, LOOK, BOB)
        assert not await doors.allows(top, READ, BOB)
        for who in (OTHER, NOBODY, Identity(0)):  # all of them are nobody
            assert not await doors.allows(top, LOOK, who)
    assert client.callers == [ALICE, BOB, NOBODY]
    assert doors.lets_in(top, READ, ALICE)
    assert not doors.lets_in(top, READ, BOB)


async def test_what_is_public_costs_no_question(autojump_clock: MockClock) -> None:
    client = closed()
    client.rights = {NOBODY: ALL}
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP, ALICE)
    for who in (ALICE, BOB, OTHER):
        assert await cache.doors.allows(top, READ, who)
    assert client.callers == [ALICE]
    assert cache.doors.open_until(top, READ) == pytest.approx(PROMISED - 10)


async def test_rights_end_with_the_promise(autojump_clock: MockClock) -> None:
    client = closed()
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP, ALICE)
    client.set_rights({BOB: ALL}, silent=True)
    assert await cache.doors.allows(top, READ, ALICE), "nobody has told"
    cache.break_callback(ADDRESS, [TOP])
    assert not await cache.doors.allows(top, READ, ALICE)
    client.set_rights({ALICE: ALL}, silent=True)
    await trio.sleep(PROMISED)
    assert await cache.doors.allows(top, READ, ALICE)


async def test_a_change_that_nobody_told_of_ends_what_is_known_of_others(
    autojump_clock: MockClock,
) -> None:
    client = closed()
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP, ALICE)
    assert await cache.doors.allows(top, LOOK, BOB)
    client.set_rights({ALICE: Rights.LOOKUP}, silent=True)
    await cache.refetch(VOLUME, TOP, ALICE)
    assert not await cache.doors.allows(top, LOOK, BOB)


async def test_a_changed_token_ends_what_was_learnt_with_it(autojump_clock: MockClock) -> None:
    client = closed()
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP, ALICE)
    client.rights = {}
    client.rights = {BOB: Rights.LOOKUP}  # the new token names somebody without rights
    cache.token_changed(ALICE, "elsewhere.org")
    assert cache.doors.lets_in(top, READ, ALICE)
    cache.token_changed(ALICE, "test.afs")
    assert not await cache.doors.allows(top, READ, ALICE)


async def test_an_answer_to_the_old_token_leaves_no_right(autojump_clock: MockClock) -> None:
    client = closed()
    cache = make_cache(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.status, VOLUME, TOP, ALICE)
        await trio.sleep(0.007)  # the server has answered
        client.rights = {BOB: ALL}
        cache.token_changed(ALICE, "test.afs")
        with pytest.raises(NotPermitted):  # and who asks now does not wait for that answer
            await cache.directory(VOLUME, TOP, ALICE)
    top = cache.peek(VOLUME, TOP)
    assert top is not None
    assert not cache.doors.lets_in(top, LOOK, ALICE)


async def test_a_refusal_is_for_whom_it_was_said(autojump_clock: MockClock) -> None:
    client = closed()
    cache = make_cache(client)
    outcomes: dict[Identity, object] = {}

    async def ask(who: Identity) -> None:
        try:
            outcomes[who] = (await cache.status(VOLUME, FILE, who)).status.length
        except AfsError as exc:
            outcomes[who] = exc.errno

    async with trio.open_nursery() as nursery:
        for who in (BOB, OTHER, ALICE):
            nursery.start_soon(ask, who)
    assert outcomes == {BOB: errno.EACCES, OTHER: errno.EACCES, ALICE: 6}


async def test_whose_token_has_expired_is_told_so_and_nobody_else(
    autojump_clock: MockClock,
) -> None:
    """Both are nobody to the servers, and share each question."""
    client = closed()
    client.expired = {OTHER}
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP, ALICE)
    told: dict[Identity, list[type]] = {NOBODY: [], OTHER: []}

    async def ask(who: Identity) -> None:
        kinds = told[who]
        for refused in (
            lambda: cache.refetch(VOLUME, FILE, who),
            lambda: cache.directory(VOLUME, TOP, who),
            lambda: cache.read(VOLUME, FILE, 0, 99, ReadState(who)),
            lambda: cache.doors.require(top, LOOK, who),
        ):
            with pytest.raises(NotPermitted) as caught:
                await refused()
            kinds.append(type(caught.value))
        (entry,) = await cache.statuses(VOLUME, TOP, [FILE], who)
        kinds.append(type(entry))

    async with trio.open_nursery() as nursery:
        for who in told:
            nursery.start_soon(ask, who)
    assert told == {NOBODY: [NotPermitted] * 5, OTHER: [TokenExpired] * 5}


async def test_who_waited_for_a_fetch_that_was_refused_fetches_itself(
    autojump_clock: MockClock,
) -> None:
    client = closed()
    client.rights[BOB] = ALL
    cache = make_cache(client)
    for who in (ALICE, BOB):
        assert await cache.doors.allows(await cache.status(VOLUME, FILE, who), READ, who)
    outcomes: dict[Identity, object] = {}

    async def read(who: Identity) -> None:
        try:
            outcomes[who] = bytes(await cache.read(VOLUME, FILE, 0, 99, ReadState(who)))
        except AfsError as exc:
            outcomes[who] = exc.errno

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, ALICE)
        await trio.sleep(0.001)
        del client.rights[ALICE]  # before the call has reached the server
        nursery.start_soon(read, BOB)
    assert outcomes == {ALICE: errno.EACCES, BOB: b"secret"}


async def test_what_the_kernel_holds_is_asked_about_in_the_name_of_who_saw_it(
    autojump_clock: MockClock,
) -> None:
    client = closed()
    listener = Listener()
    cache = make_cache(client, listener=listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        await cache.status(VOLUME, FILE, ALICE)
        cache.break_callback(ADDRESS, [FILE])
        await trio.sleep(1)
        assert client.calls[-1] == ("bulk", (FILE,))
        assert client.callers[-1] == ALICE
        assert listener.data == [], "it was found to be the same"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (ALL, Rights.NONE, True),
        (ALL, Rights.LOOKUP, True),
        (Rights.LOOKUP, Rights.NONE, True),
        (ALL | Rights.WRITE, ALL, False),
        (Rights.NONE, ALL, False),
        (ALL, ALL, False),
    ],
)
async def test_the_listener_is_told_when_anybody_may_do_less(
    autojump_clock: MockClock, before: Rights, after: Rights, told: bool
) -> None:
    client = closed()
    client.rights = {NOBODY: before}
    listener = Listener()
    cache = make_cache(client, listener=listener)
    top = await cache.status(VOLUME, TOP)
    client.rights = {NOBODY: after}
    cache.break_callback(ADDRESS, [TOP])
    assert cache.doors.open_until(top, LOOK) == 0.0
    await cache.status(VOLUME, TOP)
    assert listener.narrowed == ([top] if told else [])


async def test_identities_that_are_remembered_have_a_bound(autojump_clock: MockClock) -> None:
    client = closed()
    many = [Identity(uid) for uid in range(2000, 2000 + PERMITS_MAX + 5)]
    client.tokens |= set(many)
    client.rights |= dict.fromkeys(many, ALL)
    cache = make_cache(client)
    top = await cache.status(VOLUME, TOP)
    for who in many:
        assert await cache.doors.allows(top, READ, who)
    assert top.permits is not None
    assert len(top.permits) == PERMITS_MAX
    assert not cache.doors.lets_in(top, READ, many[0])
    assert await cache.doors.allows(top, READ, many[0])


async def test_a_file_that_stands_in_no_directory(autojump_clock: MockClock) -> None:
    client = closed()
    cache = make_cache(client)
    vnode = await cache.status(VOLUME, FILE, ALICE)
    vnode.status = vnode.status._replace(parent_vnode=4)
    with pytest.raises(DataCorrupt):
        await cache.read(VOLUME, FILE, 0, 1, ReadState(ALICE))
    assert vnode.status.kind is FileKind.FILE
