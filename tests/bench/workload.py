"""What a benchmark does to a mount, in a process of its own so that nobody pays for it twice.

Run as `python workload.py NAME PATH [ARGUMENT]`. It prints a JSON object: `seconds`, `units` done
in them (bytes for one large file, files for everything else), and `ended`, the monotonic clock. It
imports nothing of the project, so that it measures every file system alike.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable

BLOCK = 1 << 20
RANDOM_READS = 2000
RANDOM_SIZE = 4096
REWRITES = 20
SMALL_FILES, SMALL_SIZE = 2000, 3000
TREE_FILES = 1000


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


def block_of(path: str) -> bytes:
    """What is written to a file, block for block: so its name tells what has to be there."""
    return random.Random(os.path.basename(path)).randbytes(BLOCK)


def write(path: str, size: str) -> int:
    """Write a new file, and close it; bytes written."""
    block = block_of(path)
    with open(path, "wb", buffering=0) as file:
        for _ in range(int(size) // BLOCK):
            file.write(block)
    return int(size)


def rewrite(path: str) -> int:
    """Change one byte in the middle of a large file, and close it; times that was done."""
    for _ in range(REWRITES):
        with open(path, "r+b", buffering=0) as file:
            file.seek(file.seek(0, os.SEEK_END) // 2)
            file.write(b"x")
    return REWRITES


def create(path: str) -> int:
    """Make a folder of small files; files made."""
    os.mkdir(path)
    for number in range(SMALL_FILES):
        name = f"{path}/f{number:04}"
        with open(name, "wb", buffering=0) as file:
            file.write(name.encode().ljust(SMALL_SIZE))
    return SMALL_FILES


def unlink(path: str) -> int:
    """Remove what `create` made; files removed."""
    names = os.listdir(path)
    for name in names:
        os.unlink(f"{path}/{name}")
    os.rmdir(path)
    return len(names)


def clone(path: str, source: str) -> int:
    """`git clone` of a local repository; files in its tree."""
    run("git", "-c", "protocol.file.allow=always", "clone", "--quiet", f"file://{source}", path)
    return TREE_FILES


def untar(path: str, source: str) -> int:
    """`tar x` into a new folder; files in it."""
    os.mkdir(path)
    run("tar", "--no-same-owner", "--no-same-permissions", "--touch", "-xf", source, "-C", path)
    return TREE_FILES


def run(*command: str) -> None:
    """A program that must do its work; what it complains of goes with the failure."""
    subprocess.run(command, check=True, env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1"})


WORKLOADS: dict[str, Callable[..., int]] = {
    "sequential": sequential,
    "walk": walk,
    "small-files": small_files,
    "random-reads": random_reads,
    "write": write,
    "rewrite": rewrite,
    "create": create,
    "unlink": unlink,
    "clone": clone,
    "untar": untar,
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    begin = time.perf_counter()
    units = WORKLOADS[name](*arguments)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "units": units, "ended": time.monotonic()}))


if __name__ == "__main__":
    main()
