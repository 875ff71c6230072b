"""From a Kerberos ticket to a closed file: mounts that act with a token, at OpenAFS's servers."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from afsfuse.auth.identity import Identity
from afsfuse.auth.security import TokenCredentials
from afsfuse.auth.store import TokenStore
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.servers import ServerRegistry
from afsfuse.cell.volumes import Preference, VolumeLocator
from afsfuse.control.places import tell_all
from afsfuse.errors import NotPermitted
from afsfuse.fileserver import FileServerClient
from afsfuse.fileserver.operation import Operation, Site
from afsfuse.interfaces.common import Fid
from afsfuse.interfaces.fileserver import FETCH_ACL, FidArgs
from rxrpc import ByteService, Endpoint
from rxrpc.security.servicekeys import ServiceKeys
from tests.interop.desk import ALICE, SECONDS, Desk, stopped
from tests.interop.mounts import eventually
from tests.interop.test_rxkad import answer_file_server
from tests.mount.harness import ROOT
from tests.realcell import configuration, seed
from tests.realcell.capture import captured
from tests.realcell.configuration import CELL, REALM
from tests.realcell.tokens import made_token, service_keys

if TYPE_CHECKING:
    from tests.realcell.cell import RealCell

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

FS_PORT, VL_PORT = 7000, 7003
RXKAD = 2
MIB = 1 << 20
SECRET = seed.secret("alice").read(0, 4 * MIB)
PIECES = [SECRET[at : at + 24] for at in range(100, len(SECRET) - 24, 1 << 14)]
OWN = "noallow_other,debug"  # a mount that acts for root, who has the desk's tokens
USERS, ALICES_NUMBER = 200, 117


@pytest.mark.parametrize("level", ["clear", "auth", "crypt"])
def test_a_closed_file_at_each_level(desk: Desk, level: str) -> None:
    """Its bytes, its names, and what somebody sees of them who looks at the wire."""
    desk.aklog()
    with (
        captured(desk.cell.clients["client1"]) as capture,
        desk.mount(options=f"{OWN},crypt={level}") as mount,
    ):
        home = mount.cell / "home.alice"
        assert sorted(os.listdir(home)) == ["note", "secret.bin"]
        assert (home / "secret.bin").read_bytes() == SECRET
        assert (home / "note").read_text() == "alice's own\n"
        with pytest.raises(PermissionError):
            os.listdir(mount.cell / "home.bob")
        assert (mount.cell / "README").read_text() == "The root of the test cell.\n"
    log = mount.log.read_text()
    assert f"uid-0 has a token for {CELL}: {ALICE}" in log
    kinds = Counter(packet.security for packet in capture.data(VL_PORT))
    assert set(kinds) == {RXKAD}, f"{kinds} of {len(capture.packets)} packets\n{log}"
    assert any(packet.security == RXKAD for packet in capture.data(FS_PORT))
    seen = sum(map(capture.shows, PIECES))
    if level == "crypt":
        assert seen == 0
        assert not capture.shows(b"secret.bin")
        assert not capture.shows(b"alice's own")
    else:
        assert seen > len(PIECES) // 2  # pieces across two packets are not found
        assert capture.shows(b"secret.bin")
    assert_no_secrets(desk)


def assert_no_secrets(desk: Desk) -> None:
    """No key and no ticket but where they belong, in whatever form somebody might log them."""
    needles = []
    for path in (desk.runtime / "tokens").iterdir():
        kept = json.loads(path.read_text())
        for value in (base64.b64decode(kept["key"]), base64.b64decode(kept["ticket"])[40:80]):
            encoded = base64.b64encode(value).rstrip(b"=")
            needles += [value, value.hex().encode(), encoded, repr(value).encode()]
    assert len(needles) == 8
    searched = []
    for place in (desk.folder, desk.cell.folder):
        for found in place.rglob("*.log"):
            text = found.read_bytes()
            searched.append(found.name)
            assert not any(needle in text for needle in needles), found
    assert "afs.log" in searched
    assert any("bosserver" in name for name in searched)


def test_without_a_token_a_closed_folder_is_closed(desk: Desk) -> None:
    with desk.mount(options=OWN) as mount:
        with pytest.raises(PermissionError):
            os.listdir(mount.cell / "home.alice")
        assert (mount.cell / "README").exists()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace of its own")
def test_ordinary_users_in_mounts_of_their_own(desk: Desk, tmp_path: Path) -> None:
    """Alice with a token, nobody without one; not even root sees through a mount of another's."""
    for folder in (tmp_path, *tmp_path.parents[:3]):  # pytest makes them for root alone
        folder.chmod(0o755)
    scratch = tmp_path.resolve() / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.interop.asalice",
         scratch, desk.cell.confdir, desk.keytab],
        capture_output=True, check=False, cwd=ROOT, timeout=2 * SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    readme = "The root of the test cell.\n"
    assert told["alice"] == {
        "mount": [0, ""],
        "klog": [0, ""],
        "readme": readme,
        "own": "alice's own\n",
        "other": "PermissionError",
        "root": "PermissionError",
        "umount": [0, ""],
    }
    assert told["nobody"] == {
        "mount": [0, ""],
        "readme": readme,
        "own": "PermissionError",
        "other": "PermissionError",
        "root": "PermissionError",
        "umount": [0, ""],
    }


def test_mounts_that_are_there_take_a_new_token_up(desk: Desk) -> None:
    with desk.mount("own", OWN) as own, desk.mount("all", "allow_other,debug") as everybody:
        for mount in (own, everybody):
            assert (mount.cell / "README").exists()
        desk.aklog()
        assert (own.cell / "home.alice/note").read_text() == "alice's own\n"
        assert eventually(lambda: "has a token for" in everybody.log.read_text(), SECONDS)
    assert "uid-0 has a token for" in own.log.read_text()


def test_a_token_goes_on_while_the_kdc_is_down(desk: Desk) -> None:
    desk.aklog()
    with stopped(desk.cell.fs1, "krb5kdc"), desk.mount(options=OWN) as mount:
        assert (mount.cell / "home.alice/secret.bin").read_bytes() == SECRET


def set_token(keys: ServiceKeys, name: str) -> None:
    """Give such a one to root, who runs the tests and the mounts."""
    tell_all("set", token=made_token(keys, name).encode())


def test_a_ticket_that_was_made_with_a_wrong_service_key(desk: Desk) -> None:
    """Refused at once and told of once, without a storm of attempts."""
    names = service_keys(desk.cell).names
    with desk.mount(options=OWN) as mount:
        assert (mount.cell / "README").exists()
        set_token(ServiceKeys({name: os.urandom(32) for name in names}), "alice")
        with captured(desk.cell.clients["client1"]) as capture:
            for name in ("home.alice", "home.bob", "tree", "small"):
                with pytest.raises(PermissionError):
                    os.listdir(mount.cell / name)
        assert len(capture.packets) < 400
        log = mount.log.read_text()
        assert log.count("refuses the token of uid-0") == 1
        set_token(service_keys(desk.cell), "alice")
        assert (mount.cell / "home.alice/note").read_text() == "alice's own\n"


async def test_two_hundred_users_each_by_his_own_name(real_cell: RealCell, tmp_path: Path) -> None:
    """At OpenAFS's servers, all at once; only one of them may look into a closed folder, and he
    does. The server says VBUSY to nobody, though it would to a host from which more than a few
    came with new connections (h_threadquota in viced/host.c): `rxrpc.core.introductions`.
    """
    store = TokenStore(tmp_path / "run")
    store.load()
    keys = service_keys(real_cell)
    for number in range(USERS):
        name = "alice" if number == ALICES_NUMBER else f"user{number}"
        store.set(Identity(uid=3000 + number), made_token(keys, name))
    credentials = TokenCredentials(store)
    endpoint = Endpoint(bind=(real_cell.main_address, 0))
    endpoint.add_service(ByteService(1, answer_file_server))
    cells = CellDirectory.from_folders([real_cell.confdir])
    locator = VolumeLocator(endpoint, cells, ServerRegistry(), credentials=credentials)
    client = FileServerClient(endpoint, locator, credentials)
    allowed = []
    attempts = 0

    async def look(number: int) -> None:
        who = Identity(uid=3000 + number)
        volume = await locator.volume(CELL, "home.alice", Preference.FORCE_RW, who)
        root = Fid(volume.id, 1, 1)

        async def attempt(site: Site) -> None:
            nonlocal attempts
            attempts += 1
            await site.connection.call(FETCH_ACL, FidArgs(root), timeouts=site.timeouts)

        try:
            await client._rotation.execute(Operation("FetchACL", volume, attempt, who))
        except NotPermitted:
            return
        allowed.append(number)

    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as users:
                for number in range(USERS):
                    users.start_soon(look, number)
        nursery.cancel_scope.cancel()
    store.close()
    assert allowed == [ALICES_NUMBER]
    assert attempts == USERS


def roll_over(cell: RealCell) -> None:
    """Give the service a new key beside the old one, at the KDC and at all servers."""
    keytab = cell.fs1.root / "etc/openafs/server/rxkad.keytab"
    enctype = "aes256-cts-hmac-sha1-96:normal"
    commands = [
        f"cpw -randkey -keepold -e {enctype} afs/{CELL}",
        f"ktadd -k /etc/openafs/server/rxkad.keytab -norandkey afs/{CELL}",
    ]
    keytab.unlink()
    done = cell.fs1.run(
        ["kadmin.local", "-r", REALM],
        input="\n".join(commands).encode() + b"\n",
        env=configuration.kdc_environment(),
    )
    assert keytab.exists(), done.stdout
    cell.fs1.run(["akeyconvert", "-all"])
    for host in cell.servers.values():
        if host is not cell.fs1:
            configuration.copy_key(cell.fs1, host)
        database = host.root / "etc/openafs/server/CellServDB"
        os.utime(database)  # by its time servers know that their configuration has changed


def test_a_new_service_key(desk: Desk) -> None:
    """Tokens of the old key are good to their end, and those of the new one at once."""
    before = max(kvno for kvno, _ in service_keys(desk.cell).names)
    desk.aklog()
    with desk.mount(options=OWN) as mount:
        assert (mount.cell / "home.alice/note").read_text() == "alice's own\n"
        roll_over(desk.cell)
        assert max(kvno for kvno, _ in service_keys(desk.cell).names) == before + 1
        assert (mount.cell / "home.alice/secret.bin").read_bytes() == SECRET
    with desk.mount("again", OWN) as mount:  # new connections with the old key
        assert (mount.cell / "home.alice/secret.bin").read_bytes() == SECRET
    desk.aklog()
    assert f"kvno = {before + 1}" in desk.run("kvno", f"afs/{CELL}").stdout
    with desk.mount("renewed", OWN) as mount:
        assert (mount.cell / "home.alice/secret.bin").read_bytes() == SECRET
    assert "refuses the token" not in "".join(
        path.read_text() for path in Path(desk.folder).glob("*.log")
    )
