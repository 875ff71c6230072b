"""The same changes of names in the cell and in a local directory, and what comes of them."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from afsfuse.errors import AfsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.cell.walker import Walker

VERBS = ("create", "mkdir", "symlink", "link", "rename", "rename", "unlink", "rmdir")


class Step(NamedTuple):
    """One change: `link` and `rename` have two paths. `place` is where the volume is entered."""

    verb: str
    path: str
    other: str
    place: int


class Twin:
    """Paths are below `tops`, each of which is the same directory, and below `local`."""

    def __init__(self, walk: Walker, tops: Sequence[str], local: Path) -> None:
        self._walk = walk
        self._tops = tops
        self._local = local

    async def step(self, step: Step) -> None:
        """Make a change in both, and see that both say the same of it."""
        top = self._tops[step.place % len(self._tops)]
        if not self._can_be_reached(step):
            said = await self._in_cell(step, top)
            assert said in (errno.ENOENT, errno.ENOTDIR), (step, errno.errorcode.get(said))
            return
        expected = self._expected(step)
        said = await self._in_cell(step, top)
        if step.verb == "rename" and expected == errno.EEXIST:
            expected = errno.ENOTEMPTY
        assert said == expected, (step, errno.errorcode.get(said), errno.errorcode.get(expected))

    def _can_be_reached(self, step: Step) -> bool:
        """Whether the directories of its paths are there, without a symbolic link on the way."""
        paths = [step.path, step.other] if step.verb in ("link", "rename") else [step.path]
        parents = [parent for path in paths for parent in (self._local / path).parents]
        inside = [parent for parent in parents if parent.is_relative_to(self._local)]
        return all(parent.is_dir() and not parent.is_symlink() for parent in inside)

    async def compare(self) -> None:
        """See that the trees are the same, wherever they are entered."""
        for top in self._tops:
            await self._compare(top, self._local)

    async def _compare(self, path: str, local: Path) -> None:
        names = await self._walk.list(path, writable=True)
        assert names == set(os.listdir(local)), path
        for name in sorted(names):
            entry = await self._walk.entry(f"{path}/{name}", writable=True)
            there = (local / name).lstat()
            assert stat.S_IFMT(entry.mode) == stat.S_IFMT(there.st_mode), f"{path}/{name}"
            if not entry.is_directory:
                assert entry.nlink == there.st_nlink, f"{path}/{name}"
            else:
                subfolders = [one for one in (local / name).iterdir() if one.is_dir()]
                real = [one for one in subfolders if not one.is_symlink()]
                assert entry.nlink == 2 + len(real), f"{path}/{name}"
                await self._compare(f"{path}/{name}", local / name)
            if stat.S_ISLNK(entry.mode):
                body = await self._walk.readlink(f"{path}/{name}", writable=True)
                assert body == os.fsencode(os.readlink(local / name))

    async def _in_cell(self, step: Step, top: str) -> int:
        walk, path, other = self._walk, f"{top}/{step.path}", f"{top}/{step.other}"
        try:
            match step.verb:
                case "create" | "mkdir" | "unlink" | "rmdir":
                    await getattr(walk, step.verb)(path)
                case "symlink":
                    await walk.symlink(path, b"../" + os.fsencode(step.other))
                case _:
                    await getattr(walk, step.verb)(path, other)
        except FileNotFoundError:
            return errno.ENOENT
        except AfsError as exc:
            return exc.errno
        return 0

    def _expected(self, step: Step) -> int:
        path, other = self._local / step.path, self._local / step.other
        try:
            if step.verb in ("link", "rename") and self._leaves_its_directory(step, path, other):
                return errno.EXDEV
            if step.verb == "link" and path.is_symlink() and not os.path.lexists(other):
                return errno.EPERM  # servers link files only
            match step.verb:
                case "create":
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY))
                case "mkdir":
                    path.mkdir()
                case "symlink":
                    path.symlink_to("../" + step.other)
                case "link":
                    os.link(path, other, follow_symlinks=False)
                case "rename":
                    path.rename(other)
                case "unlink":
                    path.unlink()
                case "rmdir":
                    path.rmdir()
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0

    @staticmethod
    def _leaves_its_directory(step: Step, path: Path, other: Path) -> bool:
        """Whether AFS alone refuses it: names of one file are all in one directory."""
        if not os.path.lexists(path) or path.parent == other.parent or not other.parent.is_dir():
            return False
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return False
        if step.verb == "link":
            return not os.path.lexists(other)
        return status.st_nlink > 1
