"""A repository to be cloned, the same each time."""

from __future__ import annotations

import random

COMMITS = 5


def history(files: int) -> tuple[bytes, dict[str, bytes]]:
    """A stream for `git fast-import`, and what the last of its commits has."""
    rng = random.Random(20)
    stream, tree = [], {}
    for commit in range(1, COMMITS + 1):
        stream.append(b"commit refs/heads/main\nmark :%d\n" % commit)
        stream.append(
            b"committer T <t@example.org> %d +0000\ndata 2\nc\n" % (1_700_000_000 + commit)
        )
        if commit > 1:
            stream.append(b"from :%d\n" % (commit - 1))
        for number in range(files) if commit == 1 else rng.sample(range(files), files // 10):
            path = f"d{number % 17}/e{number % 5}/file-{number}"
            data = rng.randbytes(rng.choice((0, 30, 700, 5000))).hex().encode()
            tree[path] = data
            stream.append(b"M 644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data))
    return b"".join(stream), tree
