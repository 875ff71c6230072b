"""`afsfuse top`: what the mounts do, live. With rich a full screen, else plain text."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Protocol

from afsfuse.control.feeds import follow_each
from afsfuse.errors import NoDaemon
from afsfuse.tools import complain
from afsfuse.tools.common import EXIT_OK, Parser
from afsfuse.tools.topview import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from afsfuse.control.feeds import Feed
    from afsfuse.tools.topview import Line

LOOK_SECONDS = 0.25
"""Between two looks at the size of the terminal."""
ADVICE = "for the live view install rich: pip install 'afsfuse[top]'"
_HOME = "\x1b[H\x1b[2J"
_EPILOG = """\
keys: q quits, n shows the next mount. NO_COLOR in the environment: no colours. Times under
`latency` are those of requests whose answer was not in memory, under `calls` those of operations
at servers.

exit status:
  0   ended by q or Ctrl-C
  1   wrong command line
  4   a bug of afsfuse
  8   interrupted by the user before it began
  32  no daemon is running, or the last one has ended
"""


class Screen(Protocol):
    """Something to draw on."""

    def size(self) -> tuple[int, int]: ...

    def draw(self, lines: Sequence[Line]) -> None: ...


def parser() -> Parser:
    """The command line."""
    known = Parser(
        "top",
        "Watch the mounts of this machine live: throughput, latency, hit rates, servers, your "
        "calls under way (to root: all), data that is not stored.",
        _EPILOG,
    )
    known.add_argument(
        "--every", metavar="SECONDS", type=float, default=1.0, help="between two pictures; else 1"
    )
    return known


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    given = parser().parse_args(arguments)
    with (
        follow_each("watch", every=given.every) as feed,
        _ending_on(signal.SIGTERM, signal.SIGHUP),
        contextlib.suppress(KeyboardInterrupt),
        _screen() as screen,
        _keyboard(feed) as pressed,
    ):
        _run(feed, screen, pressed)
    return EXIT_OK


def _run(feed: Feed, screen: Screen, pressed: Callable[[], str]) -> None:
    """Draw whenever there is something new, until somebody has seen enough."""
    views: dict[int, View] = {}
    chosen = 0
    drawn: tuple[int, int] | None = None
    while True:
        told = feed.wait(LOOK_SECONDS)
        for source, shown in told:
            if "dropped" not in shown:
                views.setdefault(source, View()).add(shown)
        keys = pressed()
        if "q" in keys:
            return
        chosen += keys.count("n")
        if not feed.lives:
            raise NoDaemon("the daemon has ended")
        size = screen.size()
        if views and (told or keys or size != drawn):
            view = list(views.values())[chosen % len(views)]
            screen.draw(view.lines(*size, more=len(views) - 1))
            drawn = size


class _Plain:
    """Text, one picture after the other."""

    def size(self) -> tuple[int, int]:
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[Line]) -> None:
        text = "\n".join(line.text.rstrip() for line in lines)
        print(_HOME + text if sys.stdout.isatty() else f"{text}\n", flush=True)


@contextlib.contextmanager
def _screen() -> Iterator[Screen]:
    """The best screen that there is; a terminal is left as it was."""
    if not sys.stdout.isatty():
        yield _Plain()
        return
    try:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        try:
            yield _Plain()
        finally:
            complain(ADVICE)
        return

    class Rich:
        def size(self) -> tuple[int, int]:
            return console.size.width, console.size.height

        def draw(self, lines: Sequence[Line]) -> None:
            texts = [
                Text(line.text, style=line.style, no_wrap=True, overflow="crop") for line in lines
            ]
            live.update(Group(*texts), refresh=True)

    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield Rich()


@contextlib.contextmanager
def _keyboard(feed: Feed) -> Iterator[Callable[[], str]]:
    """What is pressed, at once and unseen, where there is a keyboard; it is left as it was."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield lambda: ""
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    feed.watch(descriptor)

    def pressed() -> str:
        if not select.select([descriptor], [], [], 0)[0]:
            return ""
        return os.read(descriptor, 64).decode("ascii", "ignore") or "q"  # its other end is gone

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _ending_on(*numbers: int) -> Iterator[None]:
    """Let these signals end it as Ctrl-C does, so that the terminal is put in order."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
