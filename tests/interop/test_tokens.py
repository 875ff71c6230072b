"""Tokens from a real KDC: aklog and klog against running daemons, as their users meet them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.interop.desk import ALICE, SECONDS
from tests.interop.mounts import RealMount, eventually
from tests.realcell.configuration import CELL, REALM, USERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.desk import Desk

pytestmark = pytest.mark.realcell


@contextmanager
def mount_of(desk: Desk, name: str = "afs") -> Iterator[RealMount]:
    """A daemon whose tokens are those of the desk."""
    with desk.mount(name) as mount:
        yield mount


def keys_of(desk: Desk) -> list[str]:
    """The keys of all tokens that are kept, as they might turn up in a log."""
    encoded = [json.loads(path.read_text()) for path in (desk.runtime / "tokens").iterdir()]
    return [one["key"] for one in encoded] + [one["ticket"][:60] for one in encoded]


def test_from_kinit_to_unlog_with_a_daemon(desk: Desk) -> None:
    desk.kinit()
    with mount_of(desk) as mount:
        done = desk.afsfuse("aklog")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (token,) = desk.tokens()
        assert (token["cell"], token["client"]) == (CELL, ALICE)
        assert token["end"] > time.time() + 3600
        listing = desk.afsfuse("tokens").stdout
        expires = time.ctime(token["end"])[4:16]
        assert f"User {ALICE}'s rxkad tokens for {CELL} [Expires {expires}]\n" in listing
        assert listing.endswith("   --End of list--\n")
        secrets = keys_of(desk)
        assert len(secrets) == 2
        assert desk.afsfuse("unlog", CELL).returncode == 0
        assert desk.tokens() == []
        assert list((desk.runtime / "tokens").iterdir()) == []
        log = mount.log.read_text()
    for secret in secrets:
        assert secret not in log
    assert list((desk.runtime / "control").iterdir()) == []


def test_one_token_serves_all_daemons_and_later_ones(desk: Desk) -> None:
    desk.kinit()
    with mount_of(desk, "one"), mount_of(desk, "two"):
        assert len(list((desk.runtime / "control").iterdir())) == 2
        assert desk.afsfuse("aklog").returncode == 0
    with mount_of(desk, "three"):
        assert [token["client"] for token in desk.tokens()] == [ALICE]
        assert desk.afsfuse("unlog").returncode == 0


def test_a_daemon_that_was_killed_leaves_tokens_and_no_socket(desk: Desk) -> None:
    desk.kinit()
    sockets = desk.runtime / "control"
    point = desk.folder / "killed"
    point.mkdir()
    killed = RealMount(desk.cell, desk.cell.clients["client1"], "afs", point, "")
    try:
        killed.wait_until_mounted()
        assert desk.afsfuse("aklog").returncode == 0
    finally:
        killed.clear()
    stale = list(sockets.iterdir())
    assert len(stale) == 1
    with mount_of(desk):
        assert len(list(sockets.iterdir())) == 1
        assert list(sockets.iterdir()) != stale
        assert [token["client"] for token in desk.tokens()] == [ALICE]


def test_several_cells_in_one_run_one_of_which_fails(desk: Desk) -> None:
    desk.kinit()
    done = desk.afsfuse("aklog", "dead.afs", CELL)
    assert done.returncode == 32
    assert "dead.afs: Kerberos knows no service afs/dead.afs@TEST.AFS and no" in done.stderr
    assert [token["cell"] for token in desk.tokens()] == [CELL]


def test_the_realm_can_be_given_and_debugging_tells(desk: Desk) -> None:
    desk.kinit()
    done = desk.afsfuse("aklog", "-d", "-k", REALM, "-c", CELL)
    assert done.returncode == 0
    assert f"asking for afs/{CELL}@{REALM}\n" in done.stdout
    done = desk.afsfuse("aklog", "-k", "WRONG.REALM")
    assert done.returncode == 32
    assert done.stderr.startswith(f"afsfuse: {CELL}: ")


def test_klog_with_password_and_keytab(desk: Desk) -> None:
    password = USERS["alice"].encode() + b"\n"
    assert desk.afsfuse("klog", "alice", "--password-stdin", input=password).returncode == 0
    assert [token["client"] for token in desk.tokens()] == [ALICE]
    assert desk.afsfuse("unlog").returncode == 0
    assert desk.afsfuse("klog", ALICE, "--keytab", str(desk.keytab)).returncode == 0
    assert [token["client"] for token in desk.tokens()] == [ALICE]
    done = desk.afsfuse("klog", "alice", "-pipe", input=b"wrong\n")
    assert done.returncode == 32
    assert done.stderr == f"afsfuse: {CELL}: alice: the password or the key is wrong\n"
    done = desk.afsfuse("klog", "nobody.here", "-pipe", input=password)
    assert done.stderr == f"afsfuse: {CELL}: nobody.here: the KDC does not know this user\n"


def test_without_credentials_and_with_expired_ones(desk: Desk) -> None:
    done = desk.afsfuse("aklog")
    assert done.returncode == 32
    said = f"afsfuse: {CELL}: there are no Kerberos credentials: get some with kinit\n"
    assert done.stderr == said
    desk.kinit("-l", "1s")
    said = f"afsfuse: {CELL}: the Kerberos ticket has expired: get a new one with kinit\n"
    assert eventually(lambda: desk.afsfuse("aklog").stderr == said, SECONDS)


def test_a_token_of_a_short_ticket_expires(desk: Desk) -> None:
    desk.kinit("-l", "3s")
    with mount_of(desk):
        assert desk.afsfuse("aklog").returncode == 0
        (token,) = desk.tokens()
        assert 0 < token["end"] - token["start"] <= 4
        assert eventually(
            lambda: f"for {CELL} [>> Expired <<]\n" in desk.afsfuse("tokens").stdout, SECONDS
        )


def test_inside_and_outside_of_a_pag(desk: Desk) -> None:
    desk.kinit()
    with mount_of(desk):
        assert desk.afsfuse("aklog").returncode == 0
        tool = f"{sys.executable} -m afsfuse"
        script = f"{tool} tokens; {tool} aklog --confdir {desk.cell.confdir}; {tool} tokens --json"
        done = desk.afsfuse("pagsh", "-c", f"{script}; exit 5")
        assert done.returncode == 5, done.stderr
        before, _, after = done.stdout.partition("--End of list--\n")
        assert "rxkad" not in before
        inside = json.loads(after)
        assert inside["identity"].startswith("pag-")
        assert [token["client"] for token in inside["tokens"]] == [ALICE]
        assert [token["identity"] for token in desk.tokens()] == ["uid-0"]
        # With its last process the PAG's token goes, though nobody dropped it.
        assert eventually(lambda: not list((desk.runtime / "pags").iterdir()), SECONDS)
        assert len(list((desk.runtime / "tokens").iterdir())) == 1


def test_a_kdc_that_is_down_and_one_that_is_cut_off(desk: Desk) -> None:
    """Told within a bound, by a sentence; tokens that are there stay."""
    desk.kinit()
    assert desk.afsfuse("aklog").returncode == 0
    password = USERS["alice"].encode() + b"\n"
    with desk.cell.partition("fs1"):
        done = desk.afsfuse("klog", "alice", "-pipe", input=password)
    assert done.returncode == 32
    assert "KDC" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [token["client"] for token in desk.tokens()] == [ALICE]
    config = (desk.cell.confdir / "krb5.conf").read_text()
    elsewhere = desk.folder / "krb5.conf"
    elsewhere.write_text(config.replace(f"kdc = {desk.cell.fs1.address}", "kdc = 127.0.0.1:9"))
    desk.environment["KRB5_CONFIG"] = str(elsewhere)
    done = desk.afsfuse("klog", "alice", "-pipe", input=password)
    assert done.stderr == (
        f"afsfuse: {CELL}: alice: no KDC of the realm answers: is it down, or the network?\n"
    )


def test_a_clock_that_is_wrong(desk: Desk) -> None:
    if subprocess.run(["which", "faketime"], capture_output=True, check=False).returncode:
        pytest.skip("faketime is not installed")
    words = [sys.executable, "-m", "afsfuse", "klog", "alice", "--keytab", str(desk.keytab)]
    done = desk.run("faketime", "-f", "+2h", *words, "--confdir", str(desk.cell.confdir))
    assert done.returncode == 32
    assert "this machine's clock and the KDC's differ too much: set the clock" in done.stderr
