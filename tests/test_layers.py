"""The arrows between the rooms: who may import whom.

A module may import its own room and rooms that stand lower; anything else fails here. The orders
below are the ones that `docs/architecture.md` draws.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first. Rooms of one tuple are neighbours that do not know each other.
RXRPC: list[tuple[str, ...]] = [
    ("errors",),
    ("xdr",),
    ("rpc",),
    ("wire",),
    ("trace",),
    ("jsontrace",),
    ("security",),
    ("core",),
    ("net",),
    ("__init__",),
    ("programs",),
    ("__main__",),
]
AFSFUSE: list[tuple[str, ...]] = [
    ("abortcodes", "refusals"),
    ("errors", "mounttable"),
    ("interfaces",),
    ("model",),
    ("acl",),
    ("auth", "democell"),
    ("cell",),
    ("fileserver",),
    ("cache",),
    ("vfs",),
    ("fuse", "callback_service", "control"),
    ("config", "lingering", "logs", "memory", "systemd"),
    ("configfile", "checks"),
    ("tools", "reloading"),
    ("composition",),
    ("daemon",),
    ("demo", "starting", "ending"),
    ("helper",),
    ("cli",),
    ("manual",),
    ("__main__",),
]
# Modules with no arrows of their own may be used by everyone in the package.
COMMON = {"afsfuse": {"__init__"}, "rxrpc": set[str]()}
# Rooms that are not for all that stand above them: a client has no business in its servers.
GUESTS = {"democell": {"democell", "demo"}}
# What only some rooms may touch at all.
RESERVED = {
    "pyfuse3": {("afsfuse", "fuse")},
    "socket": {
        ("rxrpc", "net"),
        *(("afsfuse", room) for room in ("cell", "fuse", "control", "systemd")),
    },
    "trio": {("rxrpc", "net"), ("rxrpc", "programs"), ("afsfuse", "*")},
    "time": {("rxrpc", "net"), ("rxrpc", "programs"), ("afsfuse", "*")},
    "dns": {("afsfuse", "cell")},
}


def room_of(path: Path) -> tuple[str, str]:
    """Package and room of a source file: `rxrpc/core/call.py` is in `("rxrpc", "core")`."""
    package, *inside = path.relative_to(ROOT).with_suffix("").parts
    return package, inside[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of each import in a file, relative ones resolved."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module or "")))
            if module in ("rxrpc", "afsfuse"):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def violations(path: Path) -> Iterator[str]:
    """What is wrong with the imports of one file, a line each."""
    package, room = room_of(path)
    order = {name: height for height, row in enumerate(globals()[package.upper()]) for name in row}
    if room in COMMON[package]:
        order[room] = -1  # it may import nothing of ours
    if room not in order:
        yield f"{path}: the room {room!r} stands nowhere in the order"
        return
    for line, name in imports(path):
        top, *rest = name.split(".")
        where = f"{path.relative_to(ROOT)}:{line}"
        if top in RESERVED and not {(package, room), (package, "*")} & RESERVED[top]:
            yield f"{where}: {top} is not for {package}/{room}"
        if top == "afsfuse" and package == "rxrpc":
            yield f"{where}: rxrpc knows nothing of afsfuse"
        if top == package and rest and room not in GUESTS.get(rest[0], {room}):
            yield f"{where}: {rest[0]} is not for {room}"
        if top != package or not rest or rest[0] == room or rest[0] in COMMON[package]:
            continue
        if rest[0] not in order:
            continue  # a name of the package itself, such as a re-exported class
        if order[rest[0]] >= order[room]:
            yield f"{where}: {room} must not import {rest[0]}"


def sources() -> list[Path]:
    return sorted(p for package in ("rxrpc", "afsfuse") for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    assert not list(violations(path))


def test_a_wrong_arrow_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    bad = tmp_path / "rxrpc" / "wire" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("import socket\nfrom rxrpc.core import call\nfrom afsfuse import model\n")
    assert len(list(violations(bad))) == 3
