"""`afsfuse why`: what a path hangs on, or where its answer came from. Touches nothing in AFS.

Outside AFS symbolic links are followed here; from the root of the mount on the daemon follows the
path through what it has in memory. So the command answers also when every server is dead, where
`stat` would hang.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from afsfuse.errors import printable
from afsfuse.tools import daemons
from afsfuse.tools.common import EXIT_OK, Parser
from afsfuse.tools.figures import seconds
from afsfuse.tools.mounts import duration, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    Shown = dict[str, Any]

LINKS_MAX = 40
SILENT_SECONDS = 3.0
"""A server that has not been heard for so long, while operations wait for it, is silent."""
STALE_SECONDS = 5.0
"""What a server said longer ago may not be so any more."""
_EPILOG = """\
exit status:
  0   told
  1   wrong command line, or PATH is in no mount of ours
  4   a bug of afsfuse
  8   interrupted by the user
  32  no daemon is running, or it did not answer
"""
_ENDINGS = {
    "unknown": "{rest}: nothing of it is in memory: whoever asks for it waits for a server",
    "absent": "{rest}: there is no such name in the directory, as it was last seen",
    "closed": "{rest}: it is not known that you may look into this directory, so nothing is told",
    "unresolved": "it is not known yet where this mount point leads",
    "leaves": "a symbolic link leads out of the mount: {rest}",
    "loop": "{rest}: too many symbolic links",
    "no directory": "{rest}: what is above it is no directory",
}


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "why",
        "Say what PATH hangs on, or where its answer came from: volume, servers, promise, your "
        "token, the last error, calls under way, data that is not stored. Nothing is asked of a "
        "server, so it answers while all of them are dead.",
        _EPILOG,
    )
    known.add_argument("path", metavar="PATH", help="in a mount, or what leads into one")
    known.add_argument("--json", action="store_true", help="for programs")
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    shown = ask(given.path)
    if given.json:
        print(json.dumps(shown, indent=2))
        return EXIT_OK
    print(printable(shown["path"]))
    for word, text in said(shown, time.time()):
        print(f"  {word:<12}{printable(text)}")
    return EXIT_OK


def ask(path: str) -> Shown:
    """What the daemon of a path knows of it. Raises `Elsewhere` and what asking raises."""
    for _ in range(LINKS_MAX):
        daemon, below = daemons.around(outside(path))
        shown = daemon.ask("why", path=below)
        if shown["ending"] != "leaves":
            break
        try:  # from one of our mounts into another, or out and in again
            daemons.around(outside(shown["rest"]))
        except daemons.Elsewhere:
            break
        path = shown["rest"]
    return shown


def outside(path: str) -> str:
    """A path without symbolic links as far as it leads through no FUSE mount: such are not touched.

    Source: path_resolution(7)
    """
    mounts = daemons.fuse_mounts()
    left = os.path.abspath(path).split("/")[1:]
    done = "/"
    for _ in range(LINKS_MAX * 100):
        if not left or any(done == one or done.startswith(f"{one}/") for one in mounts):
            break
        name = left.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)
            continue
        step = os.path.join(done, name)
        if step in mounts:
            done = step
            continue
        try:
            target = os.readlink(step)
        except OSError:
            done = step
            continue
        left = target.split("/") + left
        if target.startswith("/"):
            done = "/"
    return os.path.normpath(os.path.join(done, *left))


def said(shown: Shown, now: float) -> list[tuple[str, str]]:
    """What is said of a path, as pairs of a word and a line: first what matters most."""
    lines = [("so", verdict(shown))]
    if shown["ending"] in _ENDINGS and shown["ending"] != "unresolved":
        lines.append(("followed", _ENDINGS[shown["ending"]].format(rest=shown["rest"])))
    lines += _place(shown)
    lines += [("server", _server(one)) for one in shown["servers"]]
    lines += [("refused", _refusal(one)) for one in shown["servers"] if one["refusal"] is not None]
    if not shown["servers"]:
        lines += [("locations", _location_server(one)) for one in shown["location_servers"]]
    if shown["fid"] is not None:
        lines += [("promise", _promise(shown["promise"])), ("in memory", _cached(shown))]
        lines.append(("rights", shown["rights"] or _no_rights(shown)))
    if shown["cell"] is not None:
        lines.append(("token", _token(shown, now)))
    if shown["failure"] is not None:
        failure = shown["failure"]
        ago = duration(max(0.0, now - failure["at"]))
        lines.append(("last error", f"{failure['name']}, {ago} ago: {failure['error']}"))
    for call in shown["calls"]:
        at = f" at {call['server']}" if call["server"] else ""
        lines.append(("under way", f"{call['name']}{at}, for {seconds(call['lasting'])}"))
    if shown["calls_of_others"]:
        lines.append(
            ("under way", f"{shown['calls_of_others']} operations of others on the volume")
        )
    lines += [("not stored", _unstored(file, now)) for file in shown["files"]]
    return lines


def verdict(shown: Shown) -> str:
    """In one sentence, where it hangs or where it is answered from."""
    point, promise, servers = shown["mount_point"], shown["promise"], shown["servers"]
    if shown["volume"] is None:
        if shown["ending"] == "leaves":
            return "it leads out of the mount"
        if point is None:
            return "this shows cells: no server is asked for it"
        if point["failure"] is not None:
            return str(point["failure"])
        word = "is being looked for" if point["searching"] else "was not looked for yet"
        return f"the volume behind this mount point {word} ({point['target'] or 'not read yet'})"
    down = [one for one in servers if one["up"] is False]
    silent = [
        one
        for one in servers
        if one["up"] and one["waiting"] and (one["seen"] is None or one["seen"] > SILENT_SECONDS)
    ]
    if silent and (shown["calls"] or shown["calls_of_others"]):
        hosts = ", ".join(f"{_host(one)}, silent {_since(one)}" for one in silent)
        known = " (its status is in memory)" if promise is not None and promise["counts"] else ""
        return f"operations hang on {hosts}{known}"
    waiting = shown["calls"] or shown["calls_of_others"]
    refusing = [one for one in servers if one["refusal"] is not None]
    if waiting and refusing and len(refusing) == len(servers):
        return f"operations wait: {_host(refusing[0])} says: {refusing[0]['refusal']['said']}"
    if promise is not None and promise["counts"] and shown["ending"] in ("found", "absent"):
        what = "there is no such name, and " if shown["ending"] == "absent" else ""
        return (
            f"answered from memory: {what}{promise['server'] or 'the server'} has promised to tell "
            f"of changes, for {duration(promise['left'])} more"
        )
    if shown["ending"] == "closed":
        return "it is not known whether you may: who asks waits for a server"
    if down and len(down) == len(servers):
        hosts = ", ".join(map(_host, down))
        hangs = "it hangs on" if waiting else "it fails, or hangs, on"
        return f"{hangs} {hosts}: no server of the volume answers"
    if waiting:
        return "a server is being asked just now"
    return "nothing hangs: the next use asks a server"


def _place(shown: Shown) -> list[tuple[str, str]]:
    lines = []
    volume, point = shown["volume"], shown["mount_point"]
    if volume is not None:
        cell = f"of cell {shown['cell']}"
        lines.append(("volume", f"{volume['name']} ({volume['id']}, {volume['type']}) {cell}"))
    elif shown["cell"] is not None:
        lines.append(("cell", shown["cell"]))
    if point is not None and point["failure"] is not None and volume is not None:
        lines.append(("mount point", point["failure"]))
    if shown["fid"] is not None:
        lines.append(("fid", f"{shown['fid']}, a {shown['kind']}"))
    return lines


def _host(server: Shown) -> str:
    return str(server["used"] or (server["addresses"] or ["a server without address"])[0])


def _since(server: Shown) -> str:
    return "ever since" if server["seen"] is None else f"for {duration(server['seen'])}"


def _server(server: Shown) -> str:
    where = _host(server)
    state = {True: "answers", False: "does not answer", None: "was not asked yet"}[server["up"]]
    words = [f"{where}: {state}"]
    if server["seen"] is not None:
        words.append(f"heard {duration(server['seen'])} ago")
    if server["rtt"] is not None:
        words.append(f"round trip {seconds(server['rtt'])}")
    if server["waiting"]:
        one = server["waiting"] == 1
        words.append(
            "1 operation waits for it" if one else f"{server['waiting']} operations wait for it"
        )
    return ", ".join(words)


def _refusal(server: Shown) -> str:
    refusal = server["refusal"]
    lately = refusal["last"] < STALE_SECONDS
    when = f"for {duration(refusal['since'])}" if lately else f"{duration(refusal['last'])} ago"
    return f"by {_host(server)}, {when}: {refusal['said']}"


def _location_server(server: Shown) -> str:
    if server["silent"] is None:
        return f"{server['address']}: was not asked yet"
    if server["silent"] > 1e6:
        return f"{server['address']}: has never answered"
    return f"{server['address']}: heard {duration(server['silent'])} ago"


def _promise(promise: Shown | None) -> str:
    if promise is None:
        return "none: the next use asks the server"
    if promise["left"] <= 0:
        return f"ended {duration(-promise['left'])} ago: the next use asks the server"
    return f"of {promise['server'] or 'the server'}, {duration(promise['left'])} left"


def _cached(shown: Shown) -> str:
    cached = shown["cached"]
    if cached["names"] is not None:
        return f"{cached['names']} names"
    return size(cached["bytes"]) if shown["kind"] == "file" else "its status"


def _no_rights(shown: Shown) -> str:
    return "not known at the moment" if shown["promise"] else "not known: there is no promise"


def _token(shown: Shown, now: float) -> str:
    token = shown["token"]
    if token is None:
        return f"none of {shown['identity']}: calls go as nobody"
    left = token["end"] - now
    if left <= 0:
        return f"{token['client']}: expired {duration(-left)} ago: calls go as nobody"
    return f"{token['client']}, for {duration(left)} more"


def _unstored(file: Shown, now: float) -> str:
    text = f"{file['bytes']} bytes, since {duration(max(0.0, now - file['since']))}"
    if file["error"] is None:
        return f"{text}: being stored"
    return f"{text}: {file['error']}; next try in {round(file['next_try'])} s"
