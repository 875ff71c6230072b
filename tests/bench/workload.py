"""What a benchmark does to a mount, in a process of its own so that nobody pays for it twice.

Run as `python workload.py NAME PATH [LIMIT]`. It prints a JSON object: `seconds`, and `units` done
in them (bytes for reads of one large file, files for everything else). It imports nothing of the
project, so that it measures every file system alike.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable

BLOCK = 1 << 20
RANDOM_READS = 2000
RANDOM_SIZE = 4096


def sequential(path: str, limit: str = "0") -> int:
    """Read a file from its start to its end, or until `limit` bytes were read; bytes read."""
    total = 0
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(BLOCK)
        while count := file.readinto(buffer):
            total += count
            if total == int(limit):
                break
    return total


def walk(path: str) -> int:
    """List a directory and stat each entry; entries seen."""
    count = 0
    with os.scandir(path) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            count += 1
    return count


def small_files(path: str) -> int:
    """Open, read and close each file of a directory in the order of their names; files read."""
    names = sorted(os.listdir(path))
    for name in names:
        with open(f"{path}/{name}", "rb", buffering=0) as file:
            file.read()
    return len(names)


def random_reads(path: str) -> int:
    """Read 4 KiB at places all over a large file; reads done."""
    rng = random.Random(4096)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(RANDOM_READS):
            os.pread(file.fileno(), RANDOM_SIZE, rng.randrange(size - RANDOM_SIZE))
    return RANDOM_READS


WORKLOADS: dict[str, Callable[..., int]] = {
    "sequential": sequential,
    "walk": walk,
    "small-files": small_files,
    "random-reads": random_reads,
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    begin = time.perf_counter()
    units = WORKLOADS[name](*arguments)
    print(json.dumps({"seconds": time.perf_counter() - begin, "units": units}))


if __name__ == "__main__":
    main()
