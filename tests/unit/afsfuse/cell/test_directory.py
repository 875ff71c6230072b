from pathlib import Path

import pytest
import trio

from afsfuse.cell.cellservdb import CellFiles, parse_aliases, parse_cellservdb
from afsfuse.cell.directory import CellDirectory
from afsfuse.cell.resolver import DnsAnswer
from afsfuse.errors import AfsError, CellUnknown, CellUnreachable

FILES = """\
>local.example  #The local cell
192.0.2.1 #db1
192.0.2.2 #db2
>dns.example    #Its servers are in the DNS
"""


class FakeDns:
    """Knows what it was told, and counts the questions."""

    def __init__(self, **cells: DnsAnswer | AfsError) -> None:
        self.cells: dict[str, DnsAnswer | AfsError] = {
            name.replace("_", "."): answer for name, answer in cells.items()
        }
        self.asked: list[str] = []

    async def lookup(self, cell: str) -> DnsAnswer:
        self.asked.append(cell)
        await trio.sleep(0.1)
        answer = self.cells.get(cell, CellUnknown("no such cell", cell=cell))
        if isinstance(answer, AfsError):
            raise answer
        return answer


def answer(host: str, ttl: float = 600) -> DnsAnswer:
    return DnsAnswer(((host, 7003),), ttl)


def directory(resolver: FakeDns) -> CellDirectory:
    cells = parse_cellservdb(FILES, "CellServDB")
    aliases = parse_aliases("local.example here\nfar.example far\n", "CellAlias", cells)
    return CellDirectory(CellFiles("local.example", cells, aliases), resolver)


async def test_configured_cells_need_no_dns(autojump_clock: trio.abc.Clock) -> None:
    dns = FakeDns()
    cells = directory(dns)
    cell = await cells.find("LOCAL.example")
    assert cell.name == str(cell) == "local.example"
    assert cell.vl_servers == (("192.0.2.1", 7003), ("192.0.2.2", 7003))
    assert cell.description == "The local cell"
    assert cells.this_cell == "local.example"
    assert await cells.find("here") is cell
    assert await cells.find("HERE") is cell
    assert dns.asked == []


async def test_other_cells_are_found_in_the_dns_and_kept(autojump_clock: trio.abc.Clock) -> None:
    dns = FakeDns(far_example=answer("198.51.100.1"))
    cells = directory(dns)
    cell = await cells.find("Far.Example")
    assert cell.vl_servers == (("198.51.100.1", 7003),)
    assert await cells.find("far") is cell
    assert dns.asked == ["far.example"]
    assert cells.known_cells() == ("local.example", "dns.example", "far.example")
    assert [cell.name for cell in cells.cells()] == list(cells.known_cells())
    assert cells.used_cells() == ("local.example", "far.example")


async def test_a_configured_cell_without_servers_is_asked_for(
    autojump_clock: trio.abc.Clock,
) -> None:
    dns = FakeDns(dns_example=answer("198.51.100.2"))
    cells = directory(dns)
    assert (await cells.find("dns.example")).vl_servers == (("198.51.100.2", 7003),)
    assert cells.known_cells() == ("local.example", "dns.example")


async def test_an_answer_is_renewed_when_its_time_is_over(autojump_clock: trio.abc.Clock) -> None:
    dns = FakeDns(far_example=answer("198.51.100.1", ttl=600))
    cells = directory(dns)
    cell = await cells.find("far.example")
    await trio.sleep(599)
    await cells.find("far.example")
    assert len(dns.asked) == 1
    await trio.sleep(2)
    dns.cells["far.example"] = answer("198.51.100.9")
    assert await cells.find("far.example") is cell
    assert cell.vl_servers == (("198.51.100.9", 7003),)


async def test_an_old_answer_is_used_while_the_dns_fails(autojump_clock: trio.abc.Clock) -> None:
    dns = FakeDns(far_example=answer("198.51.100.1", ttl=600))
    cells = directory(dns)
    cell = await cells.find("far.example")
    await trio.sleep(700)
    dns.cells["far.example"] = CellUnreachable("no DNS")
    for _ in range(3):
        assert await cells.find("far.example") is cell
    assert cell.vl_servers == (("198.51.100.1", 7003),)
    assert len(dns.asked) == 2  # a failure is not repeated at once
    await trio.sleep(11)
    await cells.find("far.example")
    assert len(dns.asked) == 3


@pytest.mark.parametrize("failure", [CellUnknown("no such cell"), CellUnreachable("no DNS")])
async def test_a_failure_is_remembered_for_ten_seconds(
    failure: AfsError, autojump_clock: trio.abc.Clock
) -> None:
    dns = FakeDns(far_example=failure)
    cells = directory(dns)
    for _ in range(5):
        with pytest.raises(type(failure)):
            await cells.find("far.example")
    assert len(dns.asked) == 1
    await trio.sleep(10)
    dns.cells["far.example"] = answer("198.51.100.1")
    await cells.find("far.example")


async def test_many_at_once_ask_once(autojump_clock: trio.abc.Clock) -> None:
    dns = FakeDns(far_example=answer("198.51.100.1"))
    cells = directory(dns)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(cells.find, "far.example")
    assert dns.asked == ["far.example"]


@pytest.mark.parametrize(
    "name",
    [
        "nodots",
        ".hidden.example",
        ".Trash-1000",
        "a/b.example",
        "user@example.org",
        "exa mple.org",
        "exämple.org",
        "tab\t.example",
        "x" * 250 + ".org",
        "",
    ],
)
async def test_what_cannot_be_a_cell_never_reaches_the_dns(
    name: str, autojump_clock: trio.abc.Clock
) -> None:
    dns = FakeDns()
    with pytest.raises(CellUnknown):
        await directory(dns).find(name)
    assert dns.asked == []


async def test_a_configured_name_needs_no_dot(autojump_clock: trio.abc.Clock) -> None:
    cells = CellDirectory(
        CellFiles(None, parse_cellservdb(">short\n192.0.2.1\n", "db"), {}), FakeDns()
    )
    assert (await cells.find("short")).name == "short"
    assert cells.configured("SHORT")
    assert not cells.configured("long")
    assert cells.used_cells() == ("short",)


async def test_the_number_of_unknown_names_that_are_remembered_is_bounded(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afsfuse.cell.directory._FAILURES_MAX", 3)
    dns = FakeDns()
    cells = directory(dns)
    for name in ("a.example", "b.example", "c.example", "d.example", "d.example", "a.example"):
        with pytest.raises(CellUnknown):
            await cells.find(name)
    assert dns.asked == ["a.example", "b.example", "c.example", "d.example", "a.example"]


async def test_a_cell_that_is_not_asked_for_makes_room_for_another(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user can have a domain in which every name is a cell."""
    monkeypatch.setattr("afsfuse.cell.directory._DISCOVERED_MAX", 2)
    dns = FakeDns(
        a_example=answer("192.0.2.7"), b_example=answer("192.0.2.8"), c_example=answer("192.0.2.9")
    )
    cells = directory(dns)
    first = await cells.find("a.example")
    await trio.sleep(1)
    await cells.find("b.example")
    await trio.sleep(1)
    await cells.find("a.example")
    await trio.sleep(1)
    await cells.find("c.example")
    assert set(cells.used_cells()) >= {"a.example", "c.example"}
    assert "b.example" not in cells.used_cells() + cells.known_cells()
    for name in ("b.example", "c.example"):
        await trio.sleep(1)
        await cells.find(name)
    assert "a.example" not in cells.known_cells()
    assert await cells.find("a.example") is first, "whose volumes are in use"
    assert dns.asked == ["a.example", "b.example", "c.example", "b.example", "a.example"]


async def test_from_folders(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    (tmp_path / "ThisCell").write_text("local.example\n")
    (tmp_path / "CellServDB").write_text(FILES)
    cells = CellDirectory.from_folders((tmp_path,), FakeDns())
    assert (await cells.find("local.example")).name == cells.this_cell
