"""Another key of the cell's service: old tokens go on while the servers keep the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.desk import Desk
from tests.interop.mounts import eventually, mounted
from tests.realcell import dump
from tests.realcell.configuration import (
    CELL,
    REALM,
    USER_IDS,
    kdc_environment,
)
from tests.realcell.contents import (
    ADMINISTRATORS,
    ALL,
    ANYUSER,
    LOOKUP,
    READ,
    Acl,
    Bytes,
    Directory,
    File,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.realcell.cell import RealCell
    from tests.realcell.contents import Node

pytestmark = [pytest.mark.realcell, pytest.mark.mount]

SERVER_CONFIGURATION = "/etc/openafs/server"
AES256 = "18"  # as asetkey has it
SOON = 10.0
REFUSED = "refuses the token of uid-0: 19270408 RXKADUNKNOWNKEY; get a new one with `afsfuse aklog`"


def test_a_new_key_and_the_end_of_the_old_one(own_cell: RealCell, tmp_path: Path) -> None:
    make_volume(own_cell)
    old, new = (desk_of_alice(own_cell, tmp_path / name) for name in ("old", "new"))
    old.aklog()
    source = f"%{CELL}:keys."
    with (
        mounted(own_cell, "client1", tmp_path / "one", source=source, runtime=old.runtime) as one,
        mounted(own_cell, "client2", tmp_path / "two", source=source, runtime=new.runtime) as two,
    ):
        (one.point / "private/old").write_text("with the old key")
        make_new_key(own_cell)
        new.aklog()
        assert eventually(lambda: can_write(two.point / "private/new"), SOON)
        (one.point / "private/old").write_text("with the old key")
        own_cell.restart_file_server("fs1")  # all connections are challenged anew
        (one.point / "private/old").write_text("with the old key")
        assert can_write(two.point / "private/new")

        own_cell.fs1.run(["asetkey", "delete", "rxkad_krb5", "1", AES256])
        own_cell.restart_file_server("fs1")
        with pytest.raises(PermissionError):
            (one.point / "private/old").write_text("too late")
        assert REFUSED in one.log.read_text()
        assert can_write(two.point / "private/new")
        done = old.afsfuse("aklog")  # with the Kerberos tickets that are there
        assert done.returncode == 0, done.stderr
        assert can_write(one.point / "private/old")
        assert (two.point / "private/old").read_text() == "with the new key"


def desk_of_alice(cell: RealCell, folder: Path) -> Desk:
    folder.mkdir()
    desk = Desk(cell, folder, folder / "run")
    desk.write_keytab()
    return desk


def make_volume(cell: RealCell) -> None:
    """All may look; in `private` only alice may."""
    private = Directory({}, acl=Acl({ADMINISTRATORS: ALL, USER_IDS["alice"]: ALL}))
    root: dict[bytes, Node] = {b"public": File(Bytes(b"for all\n")), b"private": private}
    tree = Directory(root, acl=Acl({ANYUSER: READ | LOOKUP}))
    cell.volumes.restore("keys", dump.write(tree, name="keys"), "fs1")


def make_new_key(cell: RealCell) -> None:
    """As the administrators do it: the KDC's first, then the servers', which look at the time of
    their CellServDB to see that there is something new.
    """
    keytab = f"{SERVER_CONFIGURATION}/rxkad.keytab"
    (cell.fs1.root / keytab.lstrip("/")).unlink()
    commands = [
        f"cpw -randkey -keepold -e aes256-cts-hmac-sha1-96:normal afs/{CELL}",
        f"ktadd -k {keytab} -norandkey afs/{CELL}",
    ]
    cell.fs1.run(
        ["kadmin.local", "-r", REALM],
        input="\n".join(commands).encode() + b"\n", env=kdc_environment(),
    )  # fmt: skip
    cell.fs1.run(["akeyconvert", "-all"])
    cell.fs1.run(["touch", f"{SERVER_CONFIGURATION}/CellServDB"])


def can_write(path: Path) -> bool:
    try:
        path.write_text("with the new key")
    except PermissionError:
        return False
    return True
