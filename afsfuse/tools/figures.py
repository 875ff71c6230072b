"""How the figures of a mount are put into words: what `status` and `top` share.

A picture is what the daemon's verb `statistics` answers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from afsfuse.errors import printable
from afsfuse.tools.mounts import duration, size, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    Shown = dict[str, Any]


def share(part: float, whole: float) -> str:
    """A share of something that may be nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def seconds(value: float | None) -> str:
    """A time that is mostly short."""
    if value is None:
        return "-"
    if value < 1.0:
        return f"{1000 * value:.1f} ms"
    return f"{value:.1f} s" if value < 60 else duration(value)


def lookups(cache: Shown) -> int:
    """How many chunks of file data readers wanted."""
    found = cache["chunk_hits"] + cache["disk_hits"]
    return int(found + cache["chunk_misses"] + cache["chunk_waits"])


def heading(shown: Shown) -> str:
    """One line about a mount."""
    return (
        f"{printable(shown['mount'])}: {printable(shown['source'])}, "
        f"since {duration(shown['uptime'])}, process {shown['pid']}"
    )


def summary(shown: Shown) -> list[tuple[str, str]]:
    """What a mount does, as pairs of a word and what is said of it."""
    requests, cache, disk, network = (
        shown[part] for part in ("requests", "cache", "disk", "network")
    )
    wanted = lookups(cache)
    waiting = f", {requests['waiting']} wait" if requests["waiting"] else ""
    if requests["waiting"]:
        waiting += f" (the longest for {seconds(requests['longest'])})"
    lines = [
        ("requests", f"{requests['at_once'] + requests['answered']} answered, "
                     f"{share(requests['at_once'], requests['at_once'] + requests['answered'])} "
                     f"of them at once{waiting}"),
        ("memory", f"{size(cache['data_bytes'])} of {size(cache['data_limit'])} in use, "
                   f"hit rate {share(cache['chunk_hits'], wanted)}"),
        ("disk", f"{size(disk['used'])} of {size(disk['limit'])} in use, "
                 f"hit rate {share(cache['disk_hits'], wanted)}" if disk["limit"] else "none"),
        ("read", f"{size(cache['read_bytes'])}, {size(cache['fetched_bytes'])} from servers"),
        ("written", f"{size(cache['written_bytes'])}, {size(cache['stored_bytes'])} to servers"),
        ("not stored", f"{size(cache['dirty_bytes'])} of {size(cache['dirty_limit'])}"),
        ("calls", f"{shown['in_flight']} operations and {network['active_calls']} calls under way, "
                  f"{network['waiting_calls']} wait for a channel"),
        ("packets", f"{network['received']} received, {network['sent']} sent, "
                    f"{network['resent']} again, {network['dropped']} without effect"),
    ]  # fmt: skip
    refused = network.get("drops", {}) | shown.get("refused", {})  # a daemon may be an older one
    named = [(count, word) for word, count in refused.items()]
    if said := [f"{count} {word}" for count, word in sorted(named, reverse=True) if count]:
        lines.append(("refused", ", ".join(said)))
    return lines


def servers(shown: Shown) -> list[tuple[str, ...]]:
    """A row for each server, with a heading."""
    rows: list[tuple[str, ...]] = [("SERVER", "CELL", "KIND", "STATE", "RTT", "WAITING")]
    for server in sorted(shown["servers"], key=lambda one: (one["cell"], one["used"])):
        others = [one["address"] for one in server["addresses"] if one["address"] != server["used"]]
        more = f" (+{len(others)})" if others else ""
        state = "answers" if server["up"] else "does not answer"
        rows.append(
            (server["used"] + more, server["cell"], "file", state, seconds(server["rtt"]),
             str(server["waiting"]))
        )  # fmt: skip
    for server in shown["location_servers"]:
        known = f"heard {duration(server['silent'])} ago" if server["silent"] < 1e6 else "silent"
        rows.append((server["address"], "", "location", known, seconds(server["rtt"]), ""))
    return rows


def calls(shown: Shown) -> list[tuple[str, ...]]:
    """A row for each operation under way, with a heading."""
    rows: list[tuple[str, ...]] = [("CALL", "VOLUME", "CELL", "SERVER", "FOR", "WHOSE")]
    for call in shown["calls"]:
        rows.append(
            (call["name"], call["volume"], call["cell"], call["server"] or "-",
             seconds(call["lasting"]), call["identity"])
        )  # fmt: skip
    return rows


def volumes(shown: Shown) -> list[tuple[str, ...]]:
    """A row for each volume in use, with a heading."""
    rows: list[tuple[str, ...]] = [("VOLUME", "CELL", "SERVERS", "AT")]
    for volume in shown["volumes"]:
        refused = {host: f" ({word})" for host, word in volume["refused"].items()}
        servers = ", ".join(host + refused.get(host, "") for host in volume["servers"]) or "-"
        rows.append((volume["volume"], volume["cell"], servers, printable(volume["path"])))
    return rows


def tokens(shown: Shown, now: float) -> list[tuple[str, ...]]:
    """A row for each token of who asks, with a heading."""
    rows: list[tuple[str, ...]] = [("TOKEN", "CELL", "ENDS")]
    for token in shown["tokens"]:
        left = token["end"] - now
        ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(token["end"]))
        words = f"{ends}, in {duration(left)}" if left > 0 else f"{ends}: expired"
        rows.append((printable(token["client"]), token["cell"], words))
    return rows


def sections(shown: Shown, now: float) -> Iterable[str]:
    """The tables that have anything in them."""
    for rows in (servers(shown), volumes(shown), calls(shown), tokens(shown, now)):
        if len(rows) > 1:
            yield table(rows)
