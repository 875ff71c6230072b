"""The daemon behind a toy mount: `python -m tests.mount.toyd DIR OPTIONS`.

Orders come in on standard input, one Python literal a line, and each is answered by one line on
standard output, after a first line that says that the mount is there. It ends at end of file, at
SIGTERM, or when the mount is removed.
"""

from __future__ import annotations

import ast
import logging
import os
import sys
from functools import partial
from typing import Any

import trio

from afsfuse.fuse.mount import MountOptions
from afsfuse.fuse.notify import KernelNotifier
from afsfuse.fuse.session import FuseSession, SessionLimits
from tests.mount.toyfs import ToyFileSystem


class ToyDaemon:
    """A session over a toy, and the orders that its test gives."""

    def __init__(self, directory: str, limits: dict[str, Any], options: dict[str, Any]) -> None:
        self.toy = ToyFileSystem()
        self.notifier = KernelNotifier()
        self.session = FuseSession(
            self.toy,
            directory,
            MountOptions(**{"source": "toy", "read_only": True, **options}),
            SessionLimits(**limits),
            self.notifier,
        )

    async def order(self, verb: str, *arguments: Any) -> object:
        return await getattr(self, f"do_{verb}")(*arguments)

    async def do_add(self, path: str, content: bytes, link: bytes | None = None) -> int:
        return self.toy.add(path, content, link).inode

    async def do_add_directory(self, path: str, files: int = 0) -> int:
        inode = self.toy.add(path, {}).inode
        for number in range(files):
            self.toy.add(f"{path}/{number}", b"%d\n" % number)
        return inode

    async def do_change(self, path: str, content: bytes) -> None:
        node = self.toy.at(path)
        node.content, node.version = content, node.version + 1

    async def do_remove(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        directory = self.toy.at(parent).content
        assert isinstance(directory, dict)
        del directory[name]

    async def do_behave(self, path: str, operation: str, how: str | None) -> None:
        node = self.toy.at(path)
        if how is None:
            node.behaviour.pop(operation, None)
        else:
            node.behaviour[operation] = how

    async def do_let_go(self, path: str) -> None:
        node = self.toy.at(path)
        node.behaviour.clear()
        node.gate.set()
        node.gate = trio.Event()

    async def do_invalidate_data(self, path: str) -> None:
        self.notifier.invalidate_data(self.toy.at(path).inode)

    async def do_invalidate_attributes(self, path: str) -> None:
        self.notifier.invalidate_attributes(self.toy.at(path).inode)

    async def do_invalidate_name(self, parent: str, name: bytes) -> None:
        self.notifier.invalidate_name(self.toy.at(parent).inode, name)

    async def do_settle(self, timeout: float) -> bool:
        return await self.notifier.settled(None, timeout)

    async def do_state(self) -> dict[str, object]:
        return {
            "waiting": self.session.waiting,
            "calls": dict(self.toy.calls),
            "asked": self.toy.asked,
            "handles": len(self.toy.handles),
            "lookups": {inode: count for inode, count in self.toy.lookups.items() if count},
        }

    async def obey(self) -> None:
        """Read orders until there are no more."""
        with os.fdopen(os.dup(0), "rb", buffering=0) as pipe:
            stream = trio.lowlevel.FdStream(os.dup(pipe.fileno()))
        buffer = b""
        async with stream:
            while chunk := await stream.receive_some(65536):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    answer = await self.order(*ast.literal_eval(line.decode()))
                    print(repr(answer), flush=True)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._serve, nursery.cancel_scope)
            print("mounted", flush=True)
            nursery.start_soon(self._wait_for_signal, nursery.cancel_scope)
            await self.obey()
            nursery.cancel_scope.cancel()

    async def _serve(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        await self.session.run(task_status=task_status)
        scope.cancel()

    async def _wait_for_signal(self, scope: trio.CancelScope) -> None:
        import signal

        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                scope.cancel()


def main() -> None:
    directory, limits, options = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    daemon = ToyDaemon(directory, ast.literal_eval(limits), ast.literal_eval(options))
    trio.run(partial(daemon.run))


if __name__ == "__main__":
    main()
