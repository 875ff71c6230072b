from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse.cell import cellservdb
from afsfuse.cell.cellservdb import (
    is_cell_name,
    load,
    parse_aliases,
    parse_cellservdb,
    parse_this_cell,
    search_folders,
)
from afsfuse.errors import UsageError

Announce = Callable[[str], None]

SAMPLE = """\
# comments and empty lines are allowed

>Example.ORG  [linked.example.org]   #Example, Inc.
192.0.2.1   #db1.example.org
[192.0.2.2] #clone.example.org
192.0.2.3
>plain.example     #No servers: the DNS knows them
>bare.example
"""


def test_a_file_as_openafs_writes_it() -> None:
    cells = parse_cellservdb(SAMPLE, "CellServDB")
    assert list(cells) == ["example.org", "plain.example", "bare.example"]
    entry = cells["example.org"]
    assert entry.linked == "linked.example.org"
    assert entry.description == "Example, Inc."
    assert [(server.address, server.host, server.clone) for server in entry.servers] == [
        (IPv4Address("192.0.2.1"), "db1.example.org", False),
        (IPv4Address("192.0.2.2"), "clone.example.org", True),
        (IPv4Address("192.0.2.3"), "", False),
    ]
    assert cells["plain.example"].servers == ()
    assert cells["bare.example"].linked is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("192.0.2.1x #db", "neither a cell nor a server's address"),
        ("192.0.2.256 #db", "not an IPv4 address"),
        ("1.2.3 #db", "not an IPv4 address"),
        ("[192.0.2.9 #db", "neither"),
        ("db1.example.org", "neither"),
        ("224.0.0.1 #db", "multicast"),
        ("0.0.0.0 #db", "unspecified"),
        ("255.255.255.255 #db", "reserved"),
    ],
)
def test_a_malformed_line_is_named_and_skipped(
    line: str, complaint: str, expected_warnings: Announce, caplog: pytest.LogCaptureFixture
) -> None:
    expected_warnings("CellServDB:2")
    text = f">example.org\n{line}\n192.0.2.7 #good\n>other.example\n192.0.2.8\n"
    cells = parse_cellservdb(text, "/etc/openafs/CellServDB")
    assert [str(server.address) for server in cells["example.org"].servers] == ["192.0.2.7"]
    assert list(cells) == ["example.org", "other.example"]
    (message,) = caplog.messages
    assert message.startswith("/etc/openafs/CellServDB:2: ")
    assert complaint in message
    assert line[:20] in message


@pytest.mark.parametrize("line", [">", ">   #nothing", ">.hidden", ">a/b", ">a@b", ">" + "x" * 254])
def test_what_follows_a_bad_cell_is_skipped_with_one_complaint(
    line: str, expected_warnings: Announce, caplog: pytest.LogCaptureFixture
) -> None:
    expected_warnings("not a cell's name")
    cells = parse_cellservdb(f"{line}\n192.0.2.1 #x\n192.0.2.2 #x\n>good.example\n", "db")
    assert list(cells) == ["good.example"]
    assert len(caplog.messages) == 1


def test_an_address_needs_a_cell(
    expected_warnings: Announce, caplog: pytest.LogCaptureFixture
) -> None:
    expected_warnings("db:1: an address outside of a cell")
    assert parse_cellservdb("192.0.2.1 #x\n", "db") == {}


def test_a_cell_stands_in_the_file_once(expected_warnings: Announce) -> None:
    expected_warnings("db:3: this cell stands in the file already")
    cells = parse_cellservdb(">a.example\n192.0.2.1\n>A.Example\n192.0.2.2\n", "db")
    assert [str(server.address) for server in cells["a.example"].servers] == ["192.0.2.1"]


def test_the_number_of_servers_is_bounded(expected_warnings: Announce) -> None:
    expected_warnings("a cell may have 16 servers")
    text = ">a.example\n" + "".join(f"192.0.2.{n}\n" for n in range(1, 19))
    assert len(parse_cellservdb(text, "db")["a.example"].servers) == 16


@pytest.mark.filterwarnings("ignore")
@given(st.text(alphabet=st.sampled_from(">#[]. \t\n19a/@x"), max_size=60))
def test_no_text_makes_the_parsers_fail(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cellservdb.log, "warning", lambda *args: None)
        cells = parse_cellservdb(text, "db")
        parse_this_cell(text, "db")
        parse_aliases(text, "db", cells)
    assert all(is_cell_name(name) for name in cells)


@pytest.mark.parametrize(
    ("name", "possible"),
    [
        ("example.org", True),
        ("localcell", True),
        ("a" * 253, True),
        ("a" * 254, False),
        ("", False),
        (".example.org", False),
        ("exa/mple", False),
        ("user@example.org", False),
        ("exa mple", False),
        ("exa\tmple", False),
        ("exämple.org", False),
        ("a..b", False),
    ],
)
def test_names_of_cells(name: str, possible: bool) -> None:
    assert is_cell_name(name) is possible


def test_the_local_cell_is_in_the_first_line() -> None:
    assert parse_this_cell("Example.org\nrest\n", "ThisCell") == "example.org"
    assert parse_this_cell("  example.org", "ThisCell") == "example.org"


@pytest.mark.parametrize("text", ["", "\nexample.org\n", "a b\n"])
def test_a_malformed_local_cell_is_none(text: str, expected_warnings: Announce) -> None:
    expected_warnings("ThisCell:1: not a cell's name")
    assert parse_this_cell(text, "ThisCell") is None


def test_aliases() -> None:
    cells = parse_cellservdb(">prod.example.com\n", "db")
    aliases = parse_aliases("# x\nProd.example.com  Prod\nother.example o\n", "CellAlias", cells)
    assert aliases == {"prod": "prod.example.com", "o": "other.example"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("one", "not a cell and an alias"),
        ("one two three", "not a cell and an alias"),
        ("a/b x", "not a cell and an alias"),
        ("a.example .x", "not a possible alias"),
        ("a.example b.example", "this name is taken"),
    ],
)
def test_a_malformed_alias_is_named(line: str, complaint: str, expected_warnings: Announce) -> None:
    expected_warnings(f"CellAlias:1: {complaint}")
    cells = parse_cellservdb(">b.example\n", "db")
    assert parse_aliases(line, "CellAlias", cells) == {}


def test_each_file_comes_from_the_first_folder_that_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "CellServDB").write_text(">first.example\n")
    (second / "CellServDB").write_text(">second.example\n")
    (second / "ThisCell").write_text("second.example\n")
    (second / "CellAlias").write_text("first.example one\n")
    files = load((tmp_path / "absent", first, second))
    assert list(files.cells) == ["first.example"]
    assert files.this_cell == "second.example"
    assert files.aliases == {"one": "first.example"}


def test_no_files_at_all_are_no_error(tmp_path: Path) -> None:
    files = load((tmp_path,))
    assert files.this_cell is None
    assert not files.cells
    assert not files.aliases


def test_a_file_that_cannot_be_read_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "CellServDB").mkdir()
    with pytest.raises(UsageError, match="CellServDB: cannot be read: Is a directory"):
        load((tmp_path,))


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "CellServDB").write_bytes(b">a.example #caf\xe9\n192.0.2.1 #h\xffst\n")
    assert len(load((tmp_path,)).cells["a.example"].servers) == 1


def test_the_order_of_the_folders(tmp_path: Path) -> None:
    standard = (Path("/etc/afsfuse"), Path("/etc/openafs"))
    assert search_folders(None) == standard
    assert search_folders(tmp_path) == (tmp_path, *standard)
    with pytest.raises(UsageError, match="does not exist"):
        search_folders(tmp_path / "absent")
