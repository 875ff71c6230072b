"""What the files of a cell say: cell databases, Kerberos, keys. All of it is made anew at each
start; nothing is read from the machine's own /etc."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.realcell.hosts import Host

CELL = "test.afs"
REALM = "TEST.AFS"
ADMIN_PASSWORD = "administrator"
USERS: Mapping[str, str] = {"alice": "alice-secret", "bob": "bob-secret"}
USER_IDS: Mapping[str, int] = {"alice": 1001, "bob": 1002}  # in the protection database

# Cells that clients know and that do not work, each in its own way; see `cell.RealCell.start`.
DEAD_CELL = "dead.afs"  # its server's packets vanish
CLOSED_CELL = "closed.afs"  # its host answers: port unreachable
GONE_CELL = "gone.afs"  # no host has its address

# What starts a server host's volume server. That would wait for 3 s if nobody listened at the file
# server's socket yet, and bosserver starts both at the same time.
VOLUME_SERVER = "/etc/openafs/volume-server"
_VOLUME_SERVER_TEXT = """#!/bin/sh
# Flags of a socket that listens. Source: Linux, net/unix/af_unix.c, unix_seq_show.
until grep -q " 00010000 .*fssync.sock" /proc/net/unix; do sleep 0.02; done
exec /usr/lib/openafs/davolserver
"""

_KDC = "/var/lib/openafs/kdc"
_SERVER_CONFIGURATION = "etc/openafs/server"


def cell_database(addresses: Sequence[str], others: Mapping[str, str] | None = None) -> str:
    """A CellServDB with our cell, whose database servers have these addresses, and, for clients,
    the broken ones (name -> address)."""
    text = f">{CELL}\t#a real cell in network namespaces\n"
    for number, address in enumerate(addresses, 1):
        text += f"{address}\t#fs{number}.{CELL}\n"
    for name, other in (others or {}).items():
        text += f">{name}\t#for tests of failures\n{other}\t#db.{name}\n"
    return text


def kerberos_configuration(address: str) -> str:
    """A krb5.conf that finds the cell's KDC and asks no DNS."""
    return (
        f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n"
        " dns_lookup_realm = false\n rdns = false\n"
        f"[realms]\n {REALM} = {{\n  kdc = {address}\n  admin_server = {address}\n }}\n"
        f"[domain_realm]\n .{CELL} = {REALM}\n {CELL} = {REALM}\n"
    )


def write_client_configuration(
    folder: Path, databases: Sequence[str], others: Mapping[str, str]
) -> None:
    """Fill a folder such as /etc/openafs of a client. The first database server is the KDC."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ThisCell").write_text(f"{CELL}\n")
    (folder / "CellServDB").write_text(cell_database(databases, others))
    (folder / "krb5.conf").write_text(kerberos_configuration(databases[0]))


def write_server_configuration(host: Host, databases: Sequence[str]) -> None:
    """Fill the private folders of a server host, all but the key."""
    root = host.root
    for folder in (_SERVER_CONFIGURATION, "var/lib/openafs/local", "var/lib/openafs/db"):
        (root / folder).mkdir(mode=0o700)
    for folder in ("etc/openafs", _SERVER_CONFIGURATION):
        (root / folder / "ThisCell").write_text(f"{CELL}\n")
        (root / folder / "CellServDB").write_text(cell_database(databases))
    (root / _SERVER_CONFIGURATION / "UserList").write_text("admin\n")
    (root / _SERVER_CONFIGURATION / "krb.conf").write_text(f"{REALM}\n")
    (root / "var/lib/openafs/local/NetInfo").write_text(f"{host.address}\n")
    starter = root / VOLUME_SERVER.lstrip("/")
    starter.write_text(_VOLUME_SERVER_TEXT)
    starter.chmod(0o755)
    for partition in root.glob("vicep*"):
        (partition / "AlwaysAttach").touch()  # it is no file system of its own


def kdc_environment() -> dict[str, str]:
    """Where the KDC's programs find their files, on the KDC's host."""
    return {"KRB5_CONFIG": f"{_KDC}/krb5.conf", "KRB5_KDC_PROFILE": f"{_KDC}/kdc.conf"}


def create_realm(host: Host) -> None:
    """Make the Kerberos database, the service's key for the servers, and a few users."""
    folder = host.root / _KDC.lstrip("/")
    folder.mkdir()
    (folder / "krb5.conf").write_text(kerberos_configuration(host.address))
    (folder / "kdc.conf").write_text(
        f"[kdcdefaults]\n kdc_ports = 88\n kdc_tcp_ports = 88\n"
        f"[realms]\n {REALM} = {{\n  database_name = {_KDC}/principal\n"
        "  max_renewable_life = 7d\n"
        f"  key_stash_file = {_KDC}/stash\n  acl_file = {_KDC}/kadm5.acl\n }}\n"
        f"[logging]\n kdc = FILE:/var/log/openafs/krb5kdc.log\n"
    )
    environment = kdc_environment()
    create = ["kdb5_util", "create", "-s", "-r", REALM, "-P", "master-key-of-a-test-cell"]
    host.run(create, env=environment)
    keytab = f"/{_SERVER_CONFIGURATION}/rxkad.keytab"
    commands = [f"addprinc -randkey -e aes256-cts-hmac-sha1-96:normal afs/{CELL}"]
    commands += [f"addprinc -pw {ADMIN_PASSWORD} admin"]
    commands += [f"addprinc -pw {password} {user}" for user, password in USERS.items()]
    commands += [f"ktadd -k {keytab} -norandkey afs/{CELL}"]
    host.run(
        ["kadmin.local", "-r", REALM], input="\n".join(commands).encode() + b"\n", env=environment
    )
    host.run(["akeyconvert", "-all"])


def copy_key(source: Host, target: Host) -> None:
    """Give another server the cell's key."""
    for name in ("rxkad.keytab", "KeyFileExt"):
        key = (source.root / _SERVER_CONFIGURATION / name).read_bytes()
        copy = target.root / _SERVER_CONFIGURATION / name
        copy.touch(mode=0o600)
        copy.write_bytes(key)
