"""`afsfuse fs` on mounts of both cells: what it says is what servers, and OpenAFS's tools, say."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afsfuse.auth.folders import OVERRIDE
from afsfuse.tools.fs.commands import COMMANDS, NOT_OURS
from tests.interop.fsmount import ALICE, Demo, FsMount, Real
from tests.interop.mounts import mounted
from tests.mount.harness import ROOT
from tests.tools.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.realcell.cell import RealCell

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users"),
]


@pytest.fixture(
    scope="module", params=["democell", pytest.param("openafs", marks=pytest.mark.realcell)]
)
def afs(request: pytest.FixtureRequest) -> Iterator[FsMount]:
    with tempfile.TemporaryDirectory() as name:  # one that all users can reach
        folder = Path(name)
        folder.chmod(0o755)
        yield from mounted_in(folder, request)


def mounted_in(folder: Path, request: pytest.FixtureRequest) -> Iterator[FsMount]:
    cell: Demo | Real
    if request.param == "openafs":
        cell = Real(request.getfixturevalue("real_cell"), folder)
    else:
        cell = Demo(folder)
    runtime = folder / "run"
    options = f"cachedir=none,{cell.options}".rstrip(",")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, str(runtime))
        try:
            with mounted(
                cell,
                "client1",
                folder / "afs",
                options=options,
                runtime=runtime,
            ) as mount:
                made = FsMount(cell, mount, runtime)
                made.log_in()
                yield made
        finally:
            cell.end()


@pytest.fixture
def folder(afs: FsMount, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of the test's own."""
    path = afs.root / "scratch" / re.sub(r"\W+", "-", request.node.name)
    path.mkdir()
    yield path
    for child in path.iterdir():
        child.rmdir()
    path.rmdir()


def shown(afs: FsMount, path: Path) -> dict[str, list[list[str]]]:
    (answer,) = json.loads(afs.does("la", path, "--json"))["lists"]
    return {"positive": answer["positive"], "negative": answer["negative"]}


def told(afs: FsMount, path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """The list as a server tells it."""
    acl = afs.raw_list(path)
    return (
        {name.decode(): rights for name, rights in acl.positive},
        {name.decode(): rights for name, rights in acl.negative},
    )


ADMINISTRATORS = {"system:administrators": 127}


def test_access_lists(afs: FsMount, folder: Path) -> None:
    afs.does("sa", folder, "alice", "write", "bob", "rl", "system:anyuser", "l", "-clear")
    everybody = {"alice": 63, "bob": 9, "system:anyuser": 8}
    assert told(afs, folder) == (everybody, {})
    lines = afs.does("listacl", folder).splitlines()
    assert lines[:2] == [f"Access list for {folder} is", "Normal rights:"]
    assert sorted(lines[2:]) == ["  alice rlidwk", "  bob rl", "  system:anyuser l"]
    afs.does("seta", "-dir", folder, "-acl", "bob", "w+", "alice", "d-", "system:anyuser", "r+")
    afs.does("sa", folder, "bob", "AH", "-negative")
    changed = {"alice": 47, "bob": 11, "system:anyuser": 9}
    assert told(afs, folder) == (changed, {"bob": 1 << 24 | 1 << 31})
    assert shown(afs, folder)["negative"] == [["bob", "AH"]]
    assert afs.does("la", folder).endswith("Negative rights:\n  bob AH\n")
    afs.does("sa", folder, "bob", "none", "alice", "all")
    assert told(afs, folder)[0] == {"alice": 127, "system:anyuser": 9}
    afs.does("sa", folder, "1002", "read")
    assert told(afs, folder)[0]["bob"] == 9, "a number stands for the user who has it"


def test_the_commands_of_a_list_make_it_again(afs: FsMount, folder: Path) -> None:
    afs.does("sa", folder, "alice", "all", "system:anyuser", "rl", "-clear")
    afs.does("sa", folder, "bob", "w", "-neg")
    before = told(afs, folder)
    commands = afs.does("la", folder, "-cmd").splitlines()
    afs.does("sa", folder, "alice", "none", "system:administrators", "all", "-clear")
    for command in commands:
        words = command.split()
        assert words[0] == "fs"
        afs.does(*words[1:])
    positive, negative = told(afs, folder)
    assert (positive, negative) == ({**before[0], **ADMINISTRATORS}, before[1])


def test_what_lists_do_not_take(afs: FsMount, folder: Path) -> None:
    afs.does("sa", folder, "alice", "rlid", "system:anyuser", "rl", "-clear")
    before = told(afs, folder)
    assert "has no user or group nobody-here, nor-here" in afs.refused(
        "sa", folder, "alice", "rl", "nobody-here", "rl", "nor-here", "l"
    )
    assert "no right has the letter 'x'" in afs.refused("sa", folder, "alice", "rlx")
    assert "pairs are expected" in afs.refused("sa", folder, "alice")
    many = [word for n in range(21) for word in (f"u{n}", "rl")]
    assert "has no user" in afs.refused("sa", folder, *many)
    assert f"{folder}: " in afs.refused("sa", folder, "alice", "all", user=ALICE)
    (afs.root / "scratch" / "a-file").write_text("x")
    assert "not a directory" in afs.refused("sa", afs.root / "scratch" / "a-file", "alice", "rl")
    (afs.root / "scratch" / "a-file").unlink()
    assert told(afs, folder) == before


def test_lists_are_copied(afs: FsMount, folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    one.mkdir()
    two.mkdir()
    afs.does("sa", one, "alice", "rl", "bob", "w", "system:anyuser", "rl", "-clear")
    afs.does("sa", two, "bob", "all", "system:administrators", "all", "system:anyuser", "l", "-cl")
    afs.does("copyacl", one, two)
    wanted = {"alice": 9, "bob": 2, "system:anyuser": 9}
    assert told(afs, two)[0] == {**wanted, **ADMINISTRATORS}
    afs.does("ca", "-from", one, "-to", two, "-clear")
    assert told(afs, two)[0] == wanted
    afs.does("sa", one, "system:administrators", "all")
    afs.does("sa", two, "system:administrators", "all")


def test_lists_are_copied_over_a_tree(afs: FsMount, folder: Path) -> None:
    model, tree = folder / "model", folder / "tree"
    model.mkdir()
    (tree / "one" / "deeper").mkdir(parents=True)
    (tree / "two").mkdir()
    (tree / "link").symlink_to(model)
    afs.does("mkmount", tree / "other", "root.cell")
    try:
        everybody = ["system:administrators", "all", "system:anyuser", "rl"]
        afs.does("sa", model, "alice", "rl", "bob", "w", *everybody, "-clear")
        before = told(afs, folder), shown(afs, tree / "other")
        assert afs.does("copyacl", model, tree, "-clear", "-recursive") == ""
        wanted = {"alice": 9, "bob": 2, "system:anyuser": 9, **ADMINISTRATORS}
        for path in (tree, tree / "one", tree / "one" / "deeper", tree / "two"):
            assert told(afs, path) == (wanted, {})
        assert (told(afs, folder), shown(afs, tree / "other")) == before
        said = afs.refused("ca", "-from", model, "-to", tree / "gone", tree / "two", "-r")
        assert said == f"afsfuse: {tree}/gone: No such file or directory\n"
        said = afs.refused("ca", model, tree, "-r", user=ALICE)
        assert {line.split(": ")[1] for line in said.splitlines()} == {
            str(path) for path in (tree, tree / "one", tree / "one" / "deeper", tree / "two")
        }
    finally:
        afs.does("rmmount", tree / "other")
        shutil.rmtree(tree)


def test_those_who_are_gone_are_cleaned_away(afs: FsMount, folder: Path) -> None:
    afs.cell.join("temporary", 4711)
    afs.does("sa", folder, "temporary", "rl", "alice", "rl", "system:anyuser", "rl", "-clear")
    assert afs.does("cleanacl", folder) == f"Access list for {folder} is fine.\n"
    afs.cell.leave("temporary")
    # Servers remember a name for a while; numbers they have.
    gone = f"  {'temporary' if 'temporary' in told(afs, folder)[0] else '4711'} rl"
    if gone != "  4711 rl":
        pytest.skip("the file server remembers the name of whom is gone")
    assert gone in afs.does("la", folder).splitlines()
    lines = afs.does("cleanacl", folder).splitlines()
    assert lines[0] == f"Access list for {folder} is now"
    assert told(afs, folder)[0] == {"alice": 9, "system:anyuser": 9}


def test_rights_of_the_caller(afs: FsMount, folder: Path) -> None:
    afs.does("sa", folder, "alice", "rlid", "system:anyuser", "none", "-clear")
    line = f"Callers access to {folder} is rlid\n"
    assert afs.does("getcalleraccess", folder, user=ALICE) == line
    afs.does("sa", folder, "alice", "none", "system:anyuser", "l")
    assert afs.does("gca", folder, user=ALICE) == f"Callers access to {folder} is l\n"
    assert "not permitted" not in afs.does("la", folder, user=ALICE)


def test_quota(afs: FsMount) -> None:
    path = afs.root / "quota"
    limit, used = afs.cell.quota("quota")
    head, line = afs.does("lq", path).splitlines()
    assert head == "Volume Name                    Quota       Used %Used   Partition"
    name, quota, use, percent, _ = line.split()
    assert (name, int(quota), int(use)) == ("quota", limit, used)
    assert percent.rstrip("<") == f"{100 * used / limit:.0f}%"
    assert afs.does("quota", path).split() == [f"{100 * used / limit:.0f}%", "of", "quota", "used."]
    afs.does("sq", path, limit + 1000)
    assert afs.cell.quota("quota")[0] == limit + 1000
    afs.does("setquota", "-max", "0", "-path", path)
    assert afs.does("listq", path).splitlines()[1].split()[1:3] == ["no", "limit"]
    assert "0% of quota used" in afs.does("quota", path)
    afs.does("setvol", path, "-max", f"{limit}K", "-offlinemsg", "for a moment")
    assert afs.cell.quota("quota")[0] == limit
    refused = afs.refused("sq", path, "1", user=ALICE)
    assert str(path) in refused
    assert afs.cell.quota("quota")[0] == limit
    assert "number of KiB" in afs.refused("sq", path, "much")


def test_examine_and_diskfree(afs: FsMount) -> None:
    path = afs.root / "scratch"
    number = afs.cell.volume_id("scratch")
    lines = afs.does("exa", path).splitlines()
    assert lines[0] == f"File {path} ({number}.1.1) contained in volume {number}"
    assert lines[1] == f"Volume status for vid = {number} named scratch"
    assert f"Current blocks used are {afs.cell.quota('scratch')[1]}" in lines
    found = re.fullmatch(r"The partition has (\d+) blocks available out of (\d+)", lines[-2])
    assert found
    head, line = afs.does("df", path).splitlines()
    assert head == "Volume Name                  kbytes      used     avail %used"
    assert line.split()[:2] == ["scratch", found[2]]
    assert re.search(r"\d\.\dT|\d\.\dG|\d\.\dM", afs.does("df", "-human", path))


def test_where_things_are(afs: FsMount) -> None:
    for path, volume in ((afs.root / "scratch", "scratch"), (afs.replica, "root.cell.readonly")):
        line = afs.does("whereis", "-numeric", path)
        found = re.fullmatch(rf"File {re.escape(str(path))} is on hosts? ((?:[\d.]+ )+)\n", line)
        assert found, line
        assert set(found[1].split()) == afs.cell.hosts(volume)
    (answer,) = json.loads(afs.does("whereis", ".", "-json"))["files"]
    assert answer["servers"][0] in afs.cell.hosts("root.cell")
    assert afs.does("whichcell") == f"File . lives in cell '{afs.cell.name}'\n"
    number = afs.cell.volume_id("scratch")
    assert afs.does("getfid", "scratch") == (
        f"File scratch ({number}.1.1) located in cell {afs.cell.name}\n"
    )
    assert afs.does("wscell") == f"This workstation belongs to cell '{afs.cell.name}'\n"


def test_mount_points(afs: FsMount, folder: Path) -> None:
    point = folder / "point"
    afs.does("mkmount", point, "scratch")
    assert afs.raw_link(point) == (0o644, b"#scratch."), "what all clients take for a mount point"
    assert afs.does("lsmount", point) == f"'{point}' is a mount point for volume '#scratch'\n"
    assert point.stat().st_ino != folder.stat().st_ino
    assert os.listdir(point) == os.listdir(afs.root / "scratch")
    link = folder / "link"
    link.symlink_to("point")
    assert afs.does("lsm", link) == (
        f"'{link}' is a symbolic link, leading to a mount point for volume '#scratch'\n"
    )
    link.unlink()
    afs.does("flushmount", point)
    assert os.listdir(point)
    with pytest.raises(OSError, match="busy"):
        point.rmdir()
    afs.does("rmmount", point)
    assert not point.exists()
    assert os.listdir(folder) == []
    afs.does("mkm", "-dir", point, "-vol", "root.cell", "-cell", afs.cell.name, "-rw")
    said = f"'{point}' is a mount point for volume '%{afs.cell.name}:root.cell'\n"
    assert afs.does("lsmount", point) == said
    afs.does("rmm", point)
    done = afs.fs("mkmount", point, "not.there")
    assert (done.status, done.out) == (0, "")
    assert f"volume not.there does not exist in cell {afs.cell.name}" in done.err
    assert afs.does("lsmount", point) == f"'{point}' is a mount point for volume '#not.there'\n"
    afs.does("rmmount", point)
    assert "not a mount point" in afs.refused("lsmount", folder)
    assert "not a mount point" in afs.refused("rmmount", folder)
    assert "not there" in afs.refused("rmmount", point)
    afs.does("sa", folder, "alice", "rli", "system:anyuser", "rl", "-clear")
    assert "denied" in afs.refused("mkmount", point, "scratch", user=ALICE)
    assert afs.does("lsmount", afs.replica).split("'")[3] == f"#{afs.cell.name}:root.cell"


@pytest.mark.parametrize(
    "afs", [pytest.param("openafs", marks=pytest.mark.realcell)], indirect=True
)
def test_openafs_own_client_takes_it_for_a_mount_point_and_obeys_the_list(
    afs: FsMount, folder: Path, real_cell: RealCell
) -> None:
    """afsd.fuse, which is nobody there."""
    (folder / "open").mkdir()
    (folder / "shut").mkdir()
    afs.does("sa", folder / "shut", "system:anyuser", "none")
    afs.does("mkmount", folder / "point", "tree")
    with Peer(real_cell, "client2") as peer:
        there = peer.mount_point / f".{afs.cell.name}" / "scratch" / folder.name
        assert sorted(os.listdir(there / "point")) == sorted(os.listdir(afs.root / "tree"))
        assert os.listdir(there / "open") == []
        with pytest.raises(PermissionError):
            os.listdir(there / "shut")
    afs.does("rmmount", folder / "point")


def test_what_is_cached_is_forgotten(afs: FsMount) -> None:
    path = afs.root / "scratch" / "flushed"
    path.write_text("once\n")
    for words in (("flush", path), ("flushvolume", path), ("flushall",)):
        assert path.read_text() == "once\n"
        assert afs.does(*words) == ""
    assert path.read_text() == "once\n"
    path.unlink()
    assert afs.does("checkvolumes") == "All volumeID/name mappings checked.\n"
    line = afs.does("getcacheparms")
    found = re.fullmatch(r"AFS using (\d+) of the cache's available (\d+) 1K byte blocks.\n", line)
    assert found
    assert afs.does("setcachesize", 32 << 10) == "New cache size set.\n"
    assert "available 32768 1K" in afs.does("getcacheparms")
    assert "32768 1k blocks" in afs.does("getcacheparms", "-excessive")
    afs.does("cachesize", "-reset")
    assert f"available {found[2]} 1K" in afs.does("getcacheparms")
    assert "at least" in afs.refused("setcachesize", 1)
    assert "only root" in afs.refused("setcachesize", 65536, user=ALICE)


def test_servers(afs: FsMount) -> None:
    assert afs.does("checkservers") == "All servers are running.\n"
    assert afs.does("checks", "-fast", "-cell", afs.cell.name) == "All servers are running.\n"
    said = "The current down server probe interval is 30 secs\n"
    assert afs.does("checkservers", "-interval", 0) == said
    assert "(60 secs) is now in effect" in afs.does("checkservers", "-interval", 60)
    afs.does("checkservers", "-interval", 30)
    assert "only root" in afs.refused("checkservers", "-interval", 60, user=ALICE)
    host = afs.cell.server()
    assert f"{host:<50} 40000" in afs.does("getserverprefs", "-numeric").splitlines()
    afs.does("setserverprefs", host, 20000)
    assert f"{host:<50} 20000" in afs.does("gp", "-n").splitlines()
    afs.does("sp", "-servers", host, 40000)
    assert "only root" in afs.refused("sp", host, 1, user=ALICE)


def test_cells(afs: FsMount) -> None:
    line = f"Cell {afs.cell.name} on hosts {afs.cell.server()}."
    assert line in afs.does("listcells", "-numeric").splitlines()
    assert "other.test" not in afs.does("listcells", "-numeric")
    afs.does("newcell", "other.test", afs.cell.server())
    line = f"Cell other.test on hosts {afs.cell.server()}."
    assert line in afs.does("listcells", "-n").splitlines()
    assert (afs.point / "other.test").lstat()
    afs.does("newalias", "short", afs.cell.name)
    assert f"Alias short for cell {afs.cell.name}\n" in afs.does("listaliases")
    assert os.readlink(afs.point / "short") == afs.cell.name
    assert "taken" in afs.refused("newalias", afs.cell.name, "other.test")
    assert "only root" in afs.refused("newalias", "mine", afs.cell.name, user=ALICE)


def test_settings(afs: FsMount, folder: Path) -> None:
    (folder / "one").mkdir()
    before = json.loads(afs.does("sysname", "-json"))["mounts"][0]["names"]
    assert not (folder / "@sys").exists()
    assert afs.does("sysname", "one") == "fs: new sysname set.\n"
    assert (folder / "@sys").samefile(folder / "one")
    assert afs.does("sysname", "-newsys", "two", "one") == "fs: new sysname list set.\n"
    assert afs.does("sysname") == "Current sysname list is 'two' 'one'\n"
    afs.does("sysname", *before)
    assert afs.does("getcrypt") == "Security level is currently crypt (data security).\n"
    afs.does("setcrypt", "off")
    assert afs.does("getcrypt") == "Security level is currently clear.\n"
    assert afs.does("gca", folder).endswith("a\n"), "with a token, as before"
    afs.does("setcrypt", "on")
    assert afs.does("gca", folder).endswith("a\n")
    assert "only root" in afs.refused("setcrypt", "off", user=ALICE)
    uuid = afs.does("uuid")
    assert afs.does("uuid", "-generate") == "New uuid generated.\n"
    assert afs.does("uuid") != uuid
    assert (folder / "one").stat()
    afs.does("messages", "-show", "none")
    assert "error" in afs.does("messages")
    afs.does("messages", "all")
    assert afs.does("storebehind") == "Default store asynchrony is 0 kbytes.\n"
    assert "0 only" in afs.refused("storebehind", "-allfiles", 100)


def test_each_path_is_answered_for_itself(afs: FsMount, tmp_path: Path) -> None:
    """A relative one, a link, one that is not there, one outside; the others are done."""
    link = tmp_path / "link"
    link.symlink_to(afs.root / "scratch")
    done = afs.fs("whichcell", "scratch", "nowhere", "/", link, "/proc", afs.point)
    assert done.status == 1
    lives = f"lives in cell '{afs.cell.name}'"
    assert done.out == f"File scratch {lives}\nFile {link} {lives}\n"
    outside = "not in an AFS file system that afsfuse has mounted"
    assert done.err.splitlines() == [
        "afsfuse: nowhere: No such file or directory",
        f"afsfuse: /: {outside}",
        f"afsfuse: /proc: {outside}",
        f"afsfuse: {afs.point}: this shows cells, and is in no volume",
    ]
    for words in (("ca", "nowhere", "scratch"), ("ca", "scratch", "nowhere"), ("flush", "nowhere"),
                  ("sa", "nowhere", "alice", "rl"), ("lsmount", "nowhere"), ("sq", "nowhere", 1),
                  ("mkmount", "nowhere/x", "tree"), ("rmmount", "nowhere/x")):  # fmt: skip
        assert "No such file or directory" in afs.refused(*words), words
    os.mkdir(afs.root / "scratch" / "odd\x1b[31m")
    assert "\x1b" not in afs.does("whichcell", "scratch/odd\x1b[31m")
    os.rmdir(afs.root / "scratch" / "odd\x1b[31m")


GUIDE = ROOT / "docs" / "commands.md"


IN_GUIDE = {
    "help", "listacl", "setacl", "sa", "la", "copyacl", "cleanacl", "getcalleraccess", "listquota",
    "setquota", "examine", "diskfree", "whereis", "whichcell", "getfid", "mkmount", "lsmount",
    "flushmount", "rmmount", "flush", "flushvolume", "flushall", "checkservers", "checkvolumes",
    "getserverprefs", "setserverprefs", "wscell", "listcells", "newcell", "newalias", "listaliases",
    "sysname", "getcacheparms", "setcachesize", "getcrypt", "setcrypt", "uuid", "messages",
}  # fmt: skip


def test_the_command_lines_of_the_guide(afs: FsMount, folder: Path) -> None:
    for name in ("reports", "drafts"):
        (folder / name).mkdir()
    volume = afs.root / "scratch"
    limit = afs.cell.quota("scratch")[0]
    lines = re.findall(r"^afsfuse fs (.*)$", GUIDE.read_text(), re.MULTILINE)
    assert {line.split()[0] for line in lines} == IN_GUIDE
    for line in lines:
        line = line.replace("example.org", afs.cell.name).replace("192.0.2.10", afs.cell.server())
        words = shlex.split(line, comments=True)
        done = afs.fs(*words, at=folder)
        assert (done.status, done.err) == (0, ""), (line, done)
    assert not (folder / "latest").exists()
    afs.does("sq", volume, limit)
    afs.does("sp", afs.cell.server(), 40000)


def test_the_table_of_the_guide_names_all_commands() -> None:
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    table = rows[: next(n for n, row in enumerate(rows) if "`aklog`" in row)]
    named = {name for row in table for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    aliases = {alias for command in COMMANDS for alias in command.aliases} | {"gc", "sc"}
    assert named == {command.name for command in COMMANDS} | NOT_OURS.keys() | aliases
    for row in table:
        first = re.findall(r"`(\w+)`", row.split("|")[1])[0]
        assert (first in NOT_OURS) is row.split("|")[2].startswith(" no: "), row
