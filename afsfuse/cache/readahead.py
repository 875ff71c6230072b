"""How far to read ahead, in how many calls, of what size.

A file server has at most 32 packets of one call under way, so one call moves 44 KiB a round trip
at best: 430 MiB/s where a round trip takes 0.1 ms, 3.4 MiB/s where it takes 12.5 ms. On a short
line two or three large calls keep the server busy (the gaps between calls taken one by one cost a
third); on a long one it takes sixteen and more. How many are right is not configured but seen:
while calls take about as long as the round trips that they need, the line has room for more calls;
when they take several times as long they only queue behind each other. Where packets are lost by
chance calls take long, too; that is told apart by the round trip, which is not longer then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from afsfuse.auth.identity import NOBODY

if TYPE_CHECKING:
    from afsfuse.auth.identity import Identity

SERVER_WINDOW = 32 * 1412  # bytes of one call under way. Source: rx_maxSendWindow in rx_globals.h

MIN_CALLS = 3  # in flight for one reader, whatever is measured
RESERVED_CHANNELS = 8  # to each server, that read-ahead leaves to everybody else
# Bytes of one call. A server begins each call with one packet and doubles that with each round
# trip (rxi_ResetCall in rx.c), so that on a long line a call of 512 KiB takes a third longer than
# its share of one of 4 MiB, and one of 1 MiB a sixth.
MAX_CALL = 1 << 20
LEAST_CALL = 64 << 10  # while the window opens
LEAST_SHORT_CALL = 256 << 10  # ... on a short line, where a call more costs more than it saves
FIRST_READ = 128 << 10  # what the first read at the start of a file fetches; also: a small file
_FIRST_WINDOW = 256 << 10
_SLACK = 512 << 10  # how far reads of one sequential reader may stray: the kernel reorders them
_TARGET_RATE = 64 << 20  # bytes a second for which the first number of calls is chosen
_LONG_LINE = 0.003  # seconds of round trip
_UNKNOWN_RTT = 0.001
_LOSS = 0.003  # share of packets lost, from which on it decides
# A call's rate goes with the inverse of the root of what is lost (Mathis and others, 1997), so that
# with so many more calls for the root of that the line carries about the same. On a short line it
# takes fewer, and there each connection more costs more than it saves: at its first call a server
# asks us who we are, and when that question is lost no call of ours ends for 0.6 s.
_CALLS_PER_ROOT = 160
_SHORT_CALLS_PER_ROOT = 60
_MUCH_LOSS = 0.03
_CLEAR, _CROWDED = 2.0, 4.0  # duration of calls in terms of the round trips that they need


class Pace:
    """What calls to one file server have taken, and what that allows a reader."""

    __slots__ = ("calls", "in_flight", "loss", "most", "rtt")

    def __init__(self, channels: int) -> None:
        """Nothing measured yet of a server to which so many calls can be in flight."""
        self.rtt = 0.0  # seconds, the least seen lately; 0: none seen
        self.most = max(MIN_CALLS, channels - RESERVED_CHANNELS)  # calls of all readers
        self.calls = float(MIN_CALLS)  # that one sequential reader keeps in flight
        self.in_flight = 0  # read-ahead calls of all readers
        self.loss = 0.0  # share of packets that are lost on a line that is not crowded

    @property
    def much_loss(self) -> bool:
        """Whether so much is lost that a call of usual size takes seconds."""
        return self.loss >= _MUCH_LOSS

    def window(self) -> int:
        """Bytes that one sequential reader may have ahead of it.

        A third more than are under way, since calls do not end in the order of the file: what has
        come out of order must not keep the next call from being sent.
        """
        return int(self.calls) * MAX_CALL * 4 // 3

    def measured(self, rtt: float | None, size: int, elapsed: float, loss: float = 0.0) -> None:
        """A call that brought `size` bytes took `elapsed` seconds; `rtt` is the connection's.

        `loss`: the share of packets that is lost although the line is not crowded.
        """
        if rtt:
            if not self.rtt:
                self.rtt = rtt
                wanted = math.ceil(_TARGET_RATE * rtt / SERVER_WINDOW)
                self.calls = float(min(max(wanted, MIN_CALLS), self.most))
            # Follow a line that became longer slowly: queues look like that too.
            self.rtt = min(rtt, self.rtt + (rtt - self.rtt) / 64)
        if self.lost(loss) or size < LEAST_CALL:
            return
        needed = (self.rtt or _UNKNOWN_RTT) * (1 + size / SERVER_WINDOW)
        if elapsed < _CLEAR * needed:
            self.calls = min(self.calls + 1, self.most)
        elif elapsed > _CROWDED * needed:
            self.calls = max(self.calls - 1, MIN_CALLS)

    def lost(self, loss: float) -> bool:
        """This share of packets is lost by chance; whether that decides how many calls there are.

        Each waits for what it has lost, and sends little meanwhile, so the line has room for more.
        """
        self.loss = loss if loss >= _LOSS else 0.0
        if self.loss:
            each = _CALLS_PER_ROOT if self.rtt > _LONG_LINE else _SHORT_CALLS_PER_ROOT
            self.calls = min(MIN_CALLS + each * math.sqrt(loss), float(self.most))
        return self.loss > 0


class ReadState:
    """Where one open file is being read, and whether in sequence.

    `position` is where the next read of a sequential reader begins, `edge` how far has been read
    ahead (a chunk border or the end), `window` how far that may be: 0 while reads look random.
    """

    __slots__ = ("_grow_at", "edge", "in_flight", "last_used", "position", "run", "who", "window")

    def __init__(self, who: Identity = NOBODY) -> None:
        """A file just opened: a read at its start counts as the beginning of a sequence.

        Everything is read in the name of `who` opened it.
        """
        self.who = who
        self.position = 0
        self.edge = 0
        self.window = 0
        self.run = 0  # sequential reads in a row
        self.in_flight = 0  # calls ahead of this reader
        self.last_used = -math.inf
        self._grow_at = 0

    def note(self, offset: int, end: int, limit: int, *, wide: bool = False) -> None:
        """The bytes from `offset` to `end` are being read; `limit` is the widest window.

        `wide`: open it at once, since each call takes long.
        """
        if abs(offset - self.position) > (_SLACK if self.run else 0):
            self.run = 0
            self.window = 0
            self.position = self.edge = end
            return
        self.run += 1
        self.position = max(self.position, end)
        self.edge = max(self.edge, self.position)
        if self.run == 1:
            return
        if not self.window:
            self.window = limit if wide else min(_FIRST_WINDOW, limit)
            self._grow_at = self.position
        elif wide:
            self.window = limit
        elif self.position >= self._grow_at:
            self.window = min(self.window * 2, limit)
            self._grow_at = self.position + self.window // 2
        else:
            self.window = min(self.window, limit)

    def call_size(self, pace: Pace, window: int) -> int:
        """Bytes of the next read-ahead call: small while the window is, so that calls share it."""
        if pace.much_loss:
            return LEAST_SHORT_CALL
        least = LEAST_CALL if pace.rtt > _LONG_LINE else LEAST_SHORT_CALL
        return max(least, min(window * 3 // 4 // int(pace.calls), MAX_CALL))
