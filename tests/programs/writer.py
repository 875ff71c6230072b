"""A program that writes and says what it may rely on: `writer.py FOLDER SEED [NAME=SIZE:SHA256 …]`.

It prints `begin ACTION NAME` before it touches a file, and `sure NAME SIZE SHA256` (or `gone NAME`)
once `close`, `fsync` or `rename` has confirmed what it did. Files are told by what they have, so
that another writer can go on after this one. It ends when the file system does.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys

NAMES = [f"file-{number}" for number in range(10)]
SIZES = (0, 1, 100, 4096, 40_000, 300_000, 1_500_000)


class Writer:
    """Knows what is in each file that nobody interrupted."""

    def __init__(self, folder: str, seed: int) -> None:
        os.chdir(folder)
        self._rng = random.Random(seed)
        self._known: dict[str, bytes] = {}
        self._held: list[int] = []

    def run(self) -> None:
        """Write until the file system is gone."""
        while True:
            for name in NAMES:
                self._act(self._rng.choice(("close", "fsync", "replace", "append", "unlink")), name)

    def _act(self, action: str, name: str) -> None:
        print("begin", action, name, flush=True)
        data = self._rng.randbytes(self._rng.choice(SIZES))
        if action == "unlink":
            self._unlink(name)
            return
        if action == "append" and name in self._known:
            self._write(name, os.O_APPEND, data, sync=False)
            data = self._known[name] + data
        elif action == "replace":
            self._write("new", os.O_CREAT | os.O_TRUNC, data, sync=False)
            os.rename("new", name)
        else:
            self._write(name, os.O_CREAT | os.O_TRUNC, data, sync=action == "fsync")
        self._known[name] = data
        print("sure", name, len(data), hashlib.sha256(data).hexdigest(), flush=True)

    def _write(self, name: str, flags: int, data: bytes, *, sync: bool) -> None:
        file = os.open(name, flags | os.O_WRONLY, 0o644)
        for at in range(0, len(data), 100_000):
            os.write(file, data[at : at + 100_000])
        if sync:
            os.fsync(file)
            self._hold(file)
        else:
            os.close(file)

    def _unlink(self, name: str) -> None:
        """Some while they are open, and stay so: their data is kept under another name."""
        if name not in self._known:
            return
        if self._rng.random() < 0.5:
            self._hold(os.open(name, os.O_RDWR))
        os.unlink(name)
        del self._known[name]
        print("gone", name, flush=True)

    def _hold(self, file: int) -> None:
        """Close files some time after they were opened."""
        self._held.append(file)
        if len(self._held) > 4:
            os.close(self._held.pop(0))


def main() -> None:
    folder, seed = sys.argv[1:3]
    try:
        Writer(folder, int(seed)).run()
    except OSError as exc:
        print("end", exc, flush=True)


if __name__ == "__main__":
    main()
