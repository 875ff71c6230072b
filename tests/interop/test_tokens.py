"""Tokens from a real KDC: aklog and klog against running daemons, as their users meet them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import afsfuse.tools.klog
import afsfuse.tools.tokens
import afsfuse.tools.unlog  # noqa: F401 (they are for processes that are forked)
from afsfuse import cli
from afsfuse.auth.folders import OVERRIDE
from tests.interop.desk import ALICE, SECONDS, stopped
from tests.interop.mounts import RealMount, eventually
from tests.realcell.configuration import CELL, REALM, USER_IDS, USERS

if TYPE_CHECKING:
    from tests.interop.desk import Desk

pytestmark = pytest.mark.realcell


def test_from_kinit_to_unlog_with_a_daemon(desk: Desk) -> None:
    desk.kinit()
    with desk.mount() as mount:
        done = desk.afsfuse("aklog")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (token,) = desk.tokens()
        assert (token["cell"], token["client"]) == (CELL, ALICE)
        assert token["end"] > time.time() + 3600
        listing = desk.afsfuse("tokens").stdout
        expires = time.ctime(token["end"])[4:16]
        assert (
            f"User's (AFS ID {USER_IDS['alice']}) rxkad tokens for {CELL} [Expires {expires}]\n"
            in listing
        )
        assert token["viceid"] == USER_IDS["alice"]
        assert listing.endswith("   --End of list--\n")
        secrets = desk.secrets()
        assert len(secrets) == 2
        assert desk.afsfuse("unlog", CELL).returncode == 0
        assert desk.tokens() == []
        assert list((desk.runtime / "tokens").iterdir()) == []
        log = mount.log.read_text()
    for secret in secrets:
        assert secret not in log
    assert list((desk.runtime / "control").iterdir()) == []


def test_a_protection_server_that_does_not_answer(desk: Desk) -> None:
    """The token is there and good, in bounded time; it only lacks the number, until a daemon is
    started that learns it.
    """
    desk.kinit()
    with desk.mount() as mount:
        with stopped(desk.cell.fs1, "ptserver"):
            done = desk.afsfuse("aklog")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            listing = desk.afsfuse("tokens").stdout
            assert f"User {ALICE}'s rxkad tokens for {CELL} [Expires" in listing
            assert [token["viceid"] for token in desk.tokens()] == [None]
            assert desk.afsfuse("aklog", "-noprdb").returncode == 0
        assert (mount.cell / "home.alice/note").read_text() == "alice's own\n"
    with desk.mount("again"):
        assert eventually(lambda: owner("alice") in desk.afsfuse("tokens").stdout, SECONDS)


def test_a_token_without_a_daemon_has_its_number_from_the_next_one(desk: Desk) -> None:
    desk.kinit()
    assert desk.afsfuse("aklog").returncode == 0
    assert [token["viceid"] for token in desk.tokens()] == [None]
    with desk.mount():
        assert eventually(lambda: owner("alice") in desk.afsfuse("tokens").stdout, SECONDS)
    assert owner("alice") in desk.afsfuse("tokens").stdout


def test_one_token_serves_all_daemons_and_later_ones(desk: Desk) -> None:
    desk.kinit()
    with desk.mount("one"), desk.mount("two"):
        assert len(list((desk.runtime / "control").iterdir())) == 2
        assert desk.afsfuse("aklog").returncode == 0
    with desk.mount("three"):
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
    with desk.mount():
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


def test_inside_and_outside_of_a_pag(desk: Desk) -> None:
    desk.kinit()
    with desk.mount():
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
    desk.kinit()
    words = [sys.executable, "-m", "afsfuse", "aklog", "--confdir", str(desk.cell.confdir)]
    done = desk.run("faketime", "-f", "+1h", *words)
    assert done.returncode == 32
    assert "this machine's clock and the KDC's differ too much: set the clock" in done.stderr


def owner(user: str) -> str:
    """How `tokens` begins a line, as OpenAFS's does."""
    return f"User's (AFS ID {USER_IDS[user]})"


def as_user(uid: int, *words: str, input: bytes = b"") -> tuple[int, str]:
    """Status and output of a command of a user; forked, for root's Python may be out of reach."""
    reader, writer = os.pipe()
    source, feed = os.pipe()
    os.write(feed, input)
    os.close(feed)
    child = os.fork()
    if child == 0:
        status = 255
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.dup2(source, 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
            sys.stderr = sys.stdout
            status = cli.main(words)
            sys.stdout.flush()
        finally:
            os._exit(status)
    os.close(writer)
    os.close(source)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def test_two_users_and_root(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one daemon of root's: each has his own, and root sees whose they are."""
    with tempfile.TemporaryDirectory() as shared:
        public = Path(shared)
        shutil.copytree(desk.cell.confdir, public / "conf")
        for path in (public, *public.rglob("*")):
            path.chmod(0o755)
        desk.environment[OVERRIDE] = str(public / "run")
        monkeypatch.setenv(OVERRIDE, str(public / "run"))
        monkeypatch.setenv("KRB5_CONFIG", str(public / "conf/krb5.conf"))
        conf = ("--confdir", str(public / "conf"))
        with desk.mount():
            for uid, user in ((54321, "alice"), (54322, "bob")):
                password = USERS[user].encode() + b"\n"
                done = as_user(uid, "klog", user, "-pipe", *conf, input=password)
                assert done == (0, "")
            assert owner("alice") in as_user(54321, "tokens")[1]
            assert owner("bob") in as_user(54322, "tokens")[1]
            assert "rxkad" not in as_user(54323, "tokens")[1]
            status, told = as_user(54321, "tokens", "--all")
            assert (status, told) == (32, "afsfuse: only root may see who has tokens\n")
            listing = desk.afsfuse("tokens", "--all").stdout
            assert f"uid-54321: {owner('alice')} rxkad tokens for {CELL} [" in listing
            assert f"uid-54322: {owner('bob')} rxkad tokens for {CELL} [" in listing
            assert desk.afsfuse("unlog").returncode == 0
            assert as_user(54321, "unlog") == (0, "")
            assert "rxkad" not in as_user(54321, "tokens")[1]
            assert owner("bob") in as_user(54322, "tokens")[1]
