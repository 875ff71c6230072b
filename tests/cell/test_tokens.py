"""What a token is good for: that the callers of this suite are who they are meant to be."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from afsfuse.cache.directories import Directory
from afsfuse.interfaces import fileserver as fs
from afsfuse.interfaces.common import Fid
from tests.cell.site import ROOT, USER
from tests.realcell import seed

if TYPE_CHECKING:
    from tests.cell.conftest import Caller
    from tests.cell.raw import RawClient
    from tests.cell.site import Site
    from tests.cell.walker import Walker

NOTE = b"alice's own\n"


async def test_the_owner_alone_reads_what_is_his(
    client: RawClient, site: Site, caller: Caller
) -> None:
    root = Fid(site.volume_id(f"home.{USER}"), ROOT, ROOT)
    if caller.level is None:
        args = fs.FetchData64Args(root, 0, 1)
        assert await client.refusal(fs.FETCH_DATA64, args) == "UAEACCES"
        return
    status = await client.status(root)
    assert (status.caller_access, status.anonymous_access) == (127, 0)
    found = Directory.parse(await client.fetch(root)).find(b"note")
    assert found is not None
    assert await client.fetch(Fid(root.volume, *found)) == NOTE
    other = Fid(site.volume_id("home.bob"), ROOT, ROOT)
    assert await client.refusal(fs.FETCH_DATA64, fs.FetchData64Args(other, 0, 1)) == "UAEACCES"


async def test_this_client_comes_with_its_token(walk: Walker, caller: Caller) -> None:
    assert await walk.error("home.bob") == errno.EACCES
    if caller.level is None:
        assert await walk.error(f"home.{USER}") == errno.EACCES
        return
    assert await walk.list(f"home.{USER}") == {"note", "secret.bin"}
    assert await walk.read(f"home.{USER}/note") == NOTE
    secret = seed.secret(USER)
    assert await walk.read(f"home.{USER}/secret.bin") == secret.read(0, secret.length)
