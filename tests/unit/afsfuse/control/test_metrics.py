"""What Prometheus is told: names, units, and that its own parser reads it; hostile scrapers."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from afsfuse.control import scraping
from afsfuse.control.metrics import exposition, registry_of
from afsfuse.control.scraping import ScrapeServer
from afsfuse.daemon import tell_prometheus
from afsfuse.errors import UsageError
from afsfuse.fileserver.figures import BOUNDS
from tests.tools.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

BASE_UNITS = ("seconds", "bytes", "ratio", "total", "info")
"""Source: https://prometheus.io/docs/practices/naming/"""


def families(accept: str = "") -> dict[str, Any]:
    body, kind = exposition(registry_of(picture), accept)
    parse = parse_openmetrics if "openmetrics" in kind else text_string_to_metric_families
    return {family.name: family for family in parse(body.decode())}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_its_own_parser_reads_it(accept: str) -> None:
    read = families(accept)
    assert read["afsfuse_uptime_seconds"].samples[0].value == 12.5
    assert read["afsfuse_requests"].samples[0].value == 120
    buckets = {
        sample.labels["le"]: sample.value
        for sample in read["afsfuse_operation_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert (buckets["0.001"], buckets["0.01"], buckets["+Inf"]) == (1, 2, 3)
    assert len(buckets) == len(BOUNDS) + 1
    up = {one.labels["server"]: one.value for one in read["afsfuse_server_up"].samples}
    assert up == {"192.0.2.1": 1.0, "192.0.2.2": 0.0}
    assert [one.value for one in read["afsfuse_server_rtt_seconds"].samples] == [0.01]
    for name, label in (("afsfuse_packets_dropped", "reason"), ("afsfuse_refused", "kind")):
        named = {one.labels[label]: one.value for one in read[name].samples if one.value}
        assert named in ({"bad_ack": 2}, {"reply": 3, "address": 3, "excess": 3})


def test_names_follow_the_conventions() -> None:
    for name, family in families().items():
        assert re.fullmatch(r"afsfuse(_[a-z]+)+", name), name
        assert family.documentation.endswith("."), name
        samples = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert samples == {f"{name}_total"}
            assert not name.endswith(("_count", "_sum"))
        if family.type == "gauge":
            assert not name.endswith("_total"), name
        for unit in ("milli", "micro", "kilo", "mega", "minutes", "percent", "_ms", "_kb"):
            assert unit not in name
        for word in ("time", "size", "duration"):  # a quantity names its base unit
            assert word not in name or name.endswith(BASE_UNITS), name
        for sample in family.samples:
            assert not {"user", "uid", "volume", "path", "identity"} & sample.labels.keys()


async def scrape(where: str, request: bytes) -> bytes:
    stream = await trio.open_unix_socket(where)
    async with stream:
        await stream.send_all(request)
        answer = b""
        with suppress(trio.BrokenResourceError):  # not all of a long request was read
            async for chunk in stream:
                answer += chunk
    return answer


async def started(nursery: trio.Nursery, folder: Path) -> str:
    def answer(accept: str) -> tuple[bytes, str]:
        return b"figures\n", f"text/plain; asked={accept}"

    where = f"{folder}/metrics"
    await nursery.start(ScrapeServer(f"unix:{where}", answer).run)
    return where


async def test_what_is_asked_for(nursery: trio.Nursery, tmp_path: Path) -> None:
    where = await started(nursery, tmp_path)
    told = await scrape(where, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\nACCEPT: a/b\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; asked=a/b\r\n")
    assert told.endswith(b"\r\n\r\nfigures\n")
    assert (await scrape(where, b"HEAD /metrics HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n")
    for request, status in (
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\0\xff\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 4000, b"431"),
    ):
        assert (await scrape(where, request)).split()[1] == status


async def test_who_is_slow_or_many_is_bounded(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "SECONDS", 0.3)
    where = await started(nursery, tmp_path)
    silent = [await trio.open_unix_socket(where) for _ in range(scraping.CONNECTIONS)]
    await trio.testing.wait_all_tasks_blocked()
    refused = await trio.open_unix_socket(where)
    with trio.fail_after(20):
        assert await refused.receive_some() == b"", "there is no room"
        for stream in silent:
            assert await stream.receive_some() == b"", "their time is over"
    assert (await scrape(where, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
    for stream in (refused, *silent):
        await stream.aclose()


async def test_a_name_that_is_not_ours_is_refused_at_a_port(nursery: trio.Nursery) -> None:
    """So that a page in a browser cannot read it by a name of its own for 127.0.0.1."""
    server = ScrapeServer("1", lambda accept: (b"figures\n", "text/plain"))
    near, far = trio.socket.socketpair()
    ask: Callable[[Any], Awaitable[bytes | None]] = server._answer
    hosts = {b"evil.example": b"421", b"127.0.0.1:9": b"200", b"localhost": b"200"}
    for host, status in hosts.items():
        await near.send(b"GET /metrics HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        answer = await ask(far)
        assert answer is not None
        assert answer.split()[1] == status
    near.close()
    far.close()


async def test_a_place_that_is_taken(nursery: trio.Nursery, tmp_path: Path) -> None:
    where = await started(nursery, tmp_path)
    with pytest.raises(UsageError, match="choose another place"):
        await ScrapeServer(f"unix:{where}", lambda accept: (b"", "")).run()


async def test_without_the_library_that_is_said(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "prometheus_client":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "afsfuse.control.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    overview: Any = None
    with pytest.raises(UsageError, match=r"pip install 'afsfuse\[metrics\]'"):
        await tell_prometheus("9", overview, nursery)
