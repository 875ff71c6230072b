"""What a test wants to go wrong, told to the cell before it happens.

Each order counts: it holds for the next so many calls of a procedure, in the order in which the
orders were given. Without an order everything is served as it should be.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from rxrpc import CallAborted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxrpc.rpc import Rpc

A = TypeVar("A")
R = TypeVar("R")


@dataclass
class _Order:
    """What is to happen to some calls of one procedure."""

    left: int
    delay: float = 0.0
    after: bool = False  # the delay comes behind the work, before the reply
    code: int | None = None
    change: Callable[[Any], Any] | None = None
    announce: Callable[[int], int] | None = None
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen to one call."""

    late: float = 0.0
    change: Callable[[Any], Any] | None = None
    announce: Callable[[int], int] | None = None
    cut: int | None = None

    def reply(self, reply: R) -> R:
        """What is answered in place of a reply."""
        return reply if self.change is None else self.change(reply)

    def announced(self, length: int) -> int:
        """How many bytes of data are said to follow."""
        return length if self.announce is None else self.announce(length)

    def sent(self, data: bytes) -> bytes:
        """The data that does follow."""
        return data if self.cut is None else data[: self.cut]


_AS_IT_SHOULD_BE = Plan()


class Faults:
    """The orders of one cell. `counts` has the calls of each procedure by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._orders: dict[str, deque[_Order]] = {}
        self._breaks: deque[int] = deque()

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()
        self._breaks.clear()

    def delay(self, rpc: Rpc[A, R], seconds: float, *, times: int = 1, after: bool = False) -> None:
        """Serve the next calls late; with `after` the work is done at once, and only the answer
        is late.
        """
        self._order(rpc, _Order(times, delay=seconds, after=after))

    def abort(self, rpc: Rpc[A, R], code: int, *, times: int = 1) -> None:
        """End the next calls with a code, such as VBUSY, VOFFLINE or VMOVED."""
        self._order(rpc, _Order(times, code=int(code)))

    def change(self, rpc: Rpc[A, R], change: Callable[[R], R], *, times: int = 1) -> None:
        """Answer with something else than what is true: a function of the reply."""
        self._order(rpc, _Order(times, change=change))

    def announce(self, rpc: Rpc[A, R], announce: Callable[[int], int], *, times: int = 1) -> None:
        """Say that more or less data follows than does: a function of its length."""
        self._order(rpc, _Order(times, announce=announce))

    def cut(self, rpc: Rpc[A, R], length: int, *, times: int = 1) -> None:
        """Send so many bytes of the data that was announced, then the reply."""
        self._order(rpc, _Order(times, cut=length))

    def spoil(
        self,
        rpc: Rpc[A, R],
        change: Callable[[R], R],
        *,
        announce: Callable[[int], int] | None = None,
        cut: int | None = None,
        times: int = 1,
    ) -> None:
        """`change`, `announce` and `cut` of the same calls."""
        self._order(rpc, _Order(times, change=change, announce=announce, cut=cut))

    def drop_breaks(self, times: int = 1) -> None:
        """Do not tell clients of the next broken promises."""
        self._breaks.extend([0] * times)

    def repeat_breaks(self, times: int = 1, *, repeats: int = 2) -> None:
        """Tell clients of the next broken promises more than once."""
        self._breaks.extend([repeats] * times)

    def breaks(self) -> int:
        """How often the next break is told."""
        return self._breaks.popleft() if self._breaks else 1

    async def begin(self, rpc: Rpc[Any, Any]) -> Plan:
        """A call has come: what is to happen to it. Raises what ends it at once."""
        self.counts[rpc.name] += 1
        orders = self._orders.get(rpc.name)
        if not orders:
            return _AS_IT_SHOULD_BE
        order = orders[0]
        order.left -= 1
        if not order.left:
            orders.popleft()
        if order.delay and not order.after:
            await trio.sleep(order.delay)
        if order.code is not None:
            raise CallAborted(order.code)
        late = order.delay if order.after else 0.0
        return Plan(late, order.change, order.announce, order.cut)

    def _order(self, rpc: Rpc[Any, Any], order: _Order) -> None:
        self._orders.setdefault(rpc.name, deque()).append(order)
