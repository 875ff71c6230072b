"""What `afsfuse fs` asks of daemons: by whom it may be asked, and that nonsense is refused."""

from __future__ import annotations

import logging
import os
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.cache.flushing import Flusher
from afsfuse.cell.people import People
from afsfuse.control.acls import AclVerbs
from afsfuse.control.caching import ALL_PAUSE, VOLUME_PAUSE, CacheVerbs
from afsfuse.control.cells import ASK_PAUSE, CellVerbs
from afsfuse.control.mountpoints import MountPointVerbs
from afsfuse.control.settings import SettingVerbs
from afsfuse.control.verbs import Peer
from afsfuse.control.volumes import VolumeVerbs
from afsfuse.errors import AfsError, ControlRefused, NotPermitted
from afsfuse.model import Rights
from afsfuse.vfs.forgetting import Forgetting
from tests.unit.afsfuse.control.test_paths import DEVICE, paths_of
from tests.unit.afsfuse.vfs.kernel import mounted
from tests.unit.afsfuse.vfs.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from afsfuse.model import Inode

OWNER, OTHER = Peer(os.geteuid(), os.getegid(), 1), Peer(1001, 1001, 1)

OWNERS: dict[str, dict[str, Any]] = {
    "new-cell": {"name": "new.org", "servers": ["192.0.2.1"]},
    "new-alias": {"alias": "short", "name": "home.org"},
    "probe-interval": {"seconds": 60},
    "cache-size": {"limit": 32 << 20},
    "sysname": {"names": ["x"]},
    "crypt": {"level": "clear"},
    "uuid": {"generate": True},
    "messages": {"show": "all"},
}
"""What only root and whoever has made the mount may have done, with an order that would do it."""

SEEING = (
    "what", "volume", "set-volume", "acl", "set-acl", "clean-acl", "rights", "flush",
    "flush-volume", "mount-point", "flush-mount-point", "find-volume",
)  # fmt: skip
"""What is done with a path."""

NONSENSE: tuple[Any, ...] = (None, 7, -1, "", "x", "\ud800", "a/b", [], [1], ["\ud800", "rl"], {},
                             {"positive": 1}, True, 1 << 70, "x" * 5000)  # fmt: skip
WORDS = ("name", "servers", "linked", "alias", "seconds", "limit", "names", "level", "generate",
         "show", "entries", "copy", "clear", "negative", "quota", "offline_message", "volume",
         "cell", "all", "fast", "inode", "path")  # fmt: skip


class Refusing:
    """A server that takes no change."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*args: object) -> None:
            raise NotPermitted("the server does not allow it")

        return refuse


class Client:
    """What is asked of the file servers' client beside what the world answers."""

    probe_interval = 30.0

    def __init__(self, world: World) -> None:
        self._world = world
        self.renounced = 0
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.client, name)

    async def silent_servers(self, cells: object, *, ask: bool) -> list[Any]:
        self.asked += ask
        return []

    async def renounce(self) -> None:
        self.renounced += 1

    @property
    def changes(self) -> Any:
        return Refusing()

    def sites_of(self, volume: object) -> list[str]:
        return ["192.0.2.1"]


class Locator:
    """The same of the volumes' locator."""

    def __init__(self, world: World) -> None:
        self.volume = world.locator.volume

    async def silent_servers(self, cell: object) -> list[Any]:
        return []

    async def check_all(self) -> None: ...


class Known:
    uuid = UUID(int=1)


@pytest.fixture
def log_level() -> Iterator[None]:
    logger = logging.getLogger("afsfuse")
    before = logger.level
    yield
    logger.setLevel(before)


@asynccontextmanager
async def asked(world: World, folder: Path) -> AsyncIterator[tuple[dict[str, Any], Any, Client]]:
    """All verbs, and the mount behind them."""
    store = TokenStore(folder / "run")
    store.load()
    async with mounted(world, expire=0.0) as kernel:
        m = kernel.m
        client = Client(world)
        fake: Any = client
        forgetting = Forgetting(m.nodes, world.notifier, [])
        paths = paths_of(kernel)
        known = Known()
        people = People(cast("Any", None))
        people.unknown = nobody  # type: ignore[method-assign]
        verbs: dict[str, Any] = {}
        for noun in (
            paths,
            AclVerbs(paths, fake, people),
            VolumeVerbs(paths, fake),
            MountPointVerbs(paths, cast("Any", world.locator), forgetting),
            CacheVerbs(paths, forgetting),
            CellVerbs(world.cell_directory(), cast("Any", Locator(world)), fake, forgetting),
            SettingVerbs(TokenCredentials(store), fake, cast("Any", known), forgetting),
        ):
            verbs.update(noun.verbs)
        yield verbs, kernel, client
    store.close()


async def nobody(cell: object, names: object, who: object) -> set[bytes]:
    """Whom the cell does not know."""
    return set()


@pytest.mark.usefixtures("log_level")
async def test_what_only_the_owner_may_do(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with asked(World(), tmp_path) as (verbs, _, client):
        for verb, order in OWNERS.items():
            with pytest.raises(ControlRefused, match="only root and who has mounted it"):
                await verbs[verb](order, OTHER)
            assert await verbs[verb](order, OWNER)
        for verb in ("cache-size", "sysname", "crypt", "uuid", "messages"):
            assert await verbs[verb]({}, OTHER), "everybody may look"
        assert await verbs["probe-interval"]({"seconds": 0}, OTHER) == {
            "seconds": 60.0, "before": 60.0,
        }  # fmt: skip
        assert (await verbs["cache-size"]({}, OTHER))["limit"] == 32 << 20
        assert (await verbs["crypt"]({}, OTHER))["level"] == "clear"
        assert client.renounced == 1


async def test_who_may_not_see_a_path_does_nothing_with_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    world = World()
    folder = world.home.directory(b"shut")
    folder.rights = Rights.NONE
    folder.permits[Identity(uid=OWNER.uid)] = Rights.LOOKUP | Rights.READ
    world.home.file(b"inner", b"text", at=folder)
    world.client.tokens.add(Identity(uid=OWNER.uid))
    async with asked(world, tmp_path) as (verbs, kernel, _):
        inode: Inode = await kernel.m.walk(b"home.org/shut/inner", _caller(OWNER))
        request = {"device": DEVICE, "inode": inode}
        assert (await verbs["what"](request, OWNER))["cell"] == "home.org"
        for verb in SEEING:
            with pytest.raises((NotPermitted, ControlRefused)):
                await verbs[verb]({**request, "volume": "x"}, OTHER)


def _caller(peer: Peer) -> Any:
    from afsfuse.auth.identity import Caller

    return Caller(peer.uid, peer.gid, 0)


@pytest.mark.usefixtures("log_level")
async def test_nonsense_is_refused(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Whatever is asked, it is answered or refused: nothing else leaves a verb."""
    world = World()
    world.home.file(b"file", b"text")
    async with asked(world, tmp_path) as (verbs, kernel, _):
        inode = await kernel.m.walk(b"home.org/file")
        for verb, do in verbs.items():
            for word in WORDS:
                for value in NONSENSE:
                    request = {
                        "device": DEVICE,
                        "inode": inode,
                        **OWNERS.get(verb, {}),
                        word: value,
                    }
                    try:
                        answer = await do(request, OWNER)
                    except AfsError:
                        continue
                    assert isinstance(answer, dict), (verb, word, value)


async def test_what_costs_all_users_is_shared_and_has_pauses(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgetting everything, or a volume, and asking all servers: any user may have it done."""
    done: Counter[str] = Counter()

    async def counted(self: Flusher, *_: object) -> int:
        done["flush"] += 1
        await trio.lowlevel.checkpoint()
        return 0

    monkeypatch.setattr(Flusher, "flush_all", counted)
    monkeypatch.setattr(Flusher, "flush_volume", counted)
    world = World()
    world.home.file(b"file", b"text")
    async with asked(world, tmp_path) as (verbs, kernel, client):
        inode = await kernel.m.walk(b"home.org/file")
        path = {"device": DEVICE, "inode": inode}

        async def keep_asking(verb: str, request: dict[str, Any]) -> None:
            while True:
                await verbs[verb](request, OTHER)
                await trio.lowlevel.checkpoint()

        for verb, request, pause in (
            ("flush-all", {}, ALL_PAUSE),
            ("flush-volume", path, VOLUME_PAUSE),
            ("check-servers", {"cell": "home.org"}, ASK_PAUSE),
        ):
            done.clear()
            client.asked = 0
            with trio.move_on_after(3.5 * pause):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(keep_asking, verb, request)
            assert done["flush"] + client.asked == 4, verb
            began = trio.current_time()
            for _ in range(10):
                await verbs[verb](request, OWNER)
            assert done["flush"] + client.asked == 14, "its owner waits for nobody"
            assert trio.current_time() == began
        await verbs["check-servers"]({"cell": "home.org", "fast": True}, OTHER)
        assert trio.current_time() == began, "what is known is told at once"
