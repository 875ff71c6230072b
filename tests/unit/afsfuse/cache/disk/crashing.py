"""Uses a cache on disk until it is killed: `crashing FOLDER SEED ROUNDS`, each round in a child.

The parent kills the child at a random moment, looks at everything that it left, and prints one
line a round; the last line is `all right`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from afsfuse.cache.disk.folder import measure
from tests.unit.afsfuse.cache.disk.desk import CHUNK, Desk, contents, opened

LIMIT = 16 << 20
LENGTHS = {vnode: random.Random(vnode).choice((100, CHUNK, 200_000, 3 << 20))
           for vnode in range(2, 80, 2)}  # fmt: skip
SLACK = 1 << 20
"""Bytes that a killed process may leave beyond what it counted, until the next start."""


def work(folder: Path, seed: int) -> None:
    """Put and get for ever."""
    from afsfuse.cache.disk import writer

    writer.COMMIT_SECONDS = 0.01  # so that a kill meets all moments of a transaction
    rng = random.Random(seed)
    desk = Desk(folder, LIMIT)
    while True:
        vnode = rng.choice(list(LENGTHS))
        if desk.get(vnode, LENGTHS[vnode]) not in (None, contents(vnode, 1, LENGTHS[vnode])):
            os._exit(3)
        desk.put(vnode, LENGTHS[vnode])
        if rng.random() < 0.05:
            desk.settle()


def look(folder: Path) -> int:
    """See that nothing is wrong; returns how many files are whole."""
    whole = 0
    assert measure(folder) <= LIMIT + SLACK, measure(folder)
    with opened(folder, LIMIT) as desk:
        assert measure(folder) <= LIMIT
        for vnode, length in LENGTHS.items():
            data = desk.get(vnode, length)
            assert data in (None, contents(vnode, 1, length)), f"file {vnode} is wrong"
            whole += data is not None
        assert not desk.cache.statistics().damaged, "what the index says was there"
    return whole


def main(folder: Path, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    for vnode, length in LENGTHS.items():
        contents(vnode, 1, length)  # children need not make them
    total = 0
    for number in range(rounds):
        child = os.fork()
        if not child:
            work(folder, rng.randrange(1 << 30) + number)
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"round {number}: a child read something wrong"
        whole = look(folder)
        total += whole
        print(f"round {number}: {whole} files", flush=True)
    assert total, "nothing ever came through"
    print("all right")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
