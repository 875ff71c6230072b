"""Mount tables, and who may write into them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from afsfuse import mounttable
from afsfuse.mounttable import Line

if TYPE_CHECKING:
    from pathlib import Path

TABLE = rb"""28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
43 28 0:47 /a\011b /mnt/with\040space ro - fuse.afs \043cell:vol. rw,user_id=1000
44 28 0:48 / /afs rw shared:3 master:1 - fuse host:/dir rw
45 28 0:49 / /empty rw - tmpfs  rw
46 28 0:50 / /none rw - tmpfs none
a line that is none
"""


def test_lines_are_read() -> None:
    assert mounttable.parse(TABLE) == [
        Line(28, 1, "254:0", b"/", b"/", "ext4", b"/dev/vda1", "rw"),
        Line(43, 28, "0:47", b"/a\tb", b"/mnt/with space", "fuse.afs", b"#cell:vol.",
             "rw,user_id=1000"),
        Line(44, 28, "0:48", b"/", b"/afs", "fuse", b"host:/dir", "rw"),
        Line(45, 28, "0:49", b"/", b"/empty", "tmpfs", b"", "rw"),
        Line(46, 28, "0:50", b"/", b"/none", "tmpfs", b"none", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("blank", ["\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\u2003", "\u2028"])
def test_a_path_is_one_word_of_one_line(blank: str) -> None:
    """Somebody who mounts in a directory of his own must not write lines of others' mounts."""
    path = blank.join(
        ["/home/eve/x", "99", "28", "0:99", "/", "/afs", "rw", "-", "fuse", "x", "rw"]
    )
    table = b"50 28 0:51 / %b rw - fuse eve rw\n" % path.encode()
    assert mounttable.parse(table) == [
        Line(50, 28, "0:51", b"/", path.encode(), "fuse", b"eve", "rw")
    ]


def test_it_is_what_the_kernel_writes(tmp_path: Path) -> None:
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root to mount something")
    directory = tmp_path / "a b\tc\nd\\e\r\u2028\xa0f#"
    directory.mkdir()
    script = 'mount -t tmpfs none "$1" && cat /proc/self/mountinfo'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", directory], capture_output=True, check=True
    )
    points = [line.point for line in mounttable.parse(done.stdout)]
    assert os.fsencode(directory.resolve()) in points
