"""A network in memory for endpoints under trio's autojump clock."""

import errno
import heapq
import random
from collections import Counter
from collections.abc import Sequence

import trio

from rxrpc.net.sockets import Datagram, SendError
from rxrpc.wire.packet import Address


class MemorySocket:
    """One socket of a `LossyNetwork`; a `rxrpc.DatagramSocket`."""

    def __init__(self, network: "LossyNetwork", address: Address) -> None:
        self._network = network
        self.local_address = address
        self.inbox: list[Datagram] = []
        self._errors: list[SendError] = []
        self._readable = trio.Event()
        self.closed = False

    async def wait_readable(self) -> None:
        await self._readable.wait()

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def receive(self, limit: int) -> list[Datagram]:
        batch, self.inbox = self.inbox[:limit], self.inbox[limit:]
        if not self.inbox and not self._errors:
            self._readable = trio.Event()
        return batch

    def send(self, datagrams: Sequence[Datagram]) -> int:
        for data, target in datagrams:
            self._network.route(data, self.local_address, target)
        return len(datagrams)

    def errors(self) -> list[SendError]:
        errors, self._errors = self._errors, []
        if not self.inbox:
            self._readable = trio.Event()
        return errors

    def put(self, datagram: Datagram) -> None:
        self.inbox.append(datagram)
        self._readable.set()

    def put_error(self, error: SendError) -> None:
        self._errors.append(error)
        self._readable.set()

    def close(self) -> None:
        self.closed = True
        self._network.forget(self)


class LossyNetwork:
    """Datagram sockets in memory. A seeded coin decides what is lost, doubled or late.

    Delays are drawn for each datagram, and that is what reorders. Start `run` before anything
    is sent. With ``icmp`` a datagram to an address where nobody listens is refused, else it is
    just gone.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        drop: float = 0.0,
        duplicate: float = 0.0,
        min_delay: float = 0.0,
        max_delay: float = 0.001,
        icmp: bool = False,
    ) -> None:
        self.drop = drop
        self.duplicate = duplicate
        self.min_delay = min_delay
        self.max_delay = max_delay
        self.icmp = icmp
        self.cut: set[tuple[Address, Address]] = set()  # (from, to): nothing passes
        self.largest = 65535  # bytes of a datagram; larger ones vanish without a word
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._sockets: dict[Address, MemorySocket] = {}
        self._late: list[tuple[float, int, bytes, Address, Address]] = []
        self._sent = 0
        self._scope = trio.CancelScope()

    def socket(self, address: Address) -> MemorySocket:
        """A socket that is bound to this address."""
        if address in self._sockets:
            raise OSError(errno.EADDRINUSE, "address in use")
        socket = self._sockets[address] = MemorySocket(self, address)
        return socket

    def forget(self, socket: MemorySocket) -> None:
        """The socket was closed."""
        if self._sockets.get(socket.local_address) is socket:
            del self._sockets[socket.local_address]

    def partition(self, one: Address, other: Address) -> None:
        """Let nothing pass between the two."""
        self.cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        """Undo every `partition`."""
        self.cut.clear()

    def route(self, data: bytes, source: Address, target: Address) -> None:
        """A datagram was sent."""
        self.counts["sent"] += 1
        lost = (source, target) in self.cut or len(data) > self.largest
        if lost or self._rng.random() < self.drop:
            self.counts["lost"] += 1
            return
        for _ in range(2 if self._rng.random() < self.duplicate else 1):
            at = trio.current_time() + self._rng.uniform(self.min_delay, self.max_delay)
            self._sent += 1
            heapq.heappush(self._late, (at, self._sent, data, source, target))
        self._scope.deadline = min(self._scope.deadline, self._late[0][0])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver, until cancelled: `await nursery.start(network.run)`."""
        task_status.started()
        while True:
            while self._late and self._late[0][0] <= trio.current_time():
                _at, _number, data, source, target = heapq.heappop(self._late)
                self._deliver(data, source, target)
            due = self._late[0][0] if self._late else float("inf")
            with trio.CancelScope(deadline=due) as self._scope:
                await trio.sleep_forever()

    def _deliver(self, data: bytes, source: Address, target: Address) -> None:
        socket = self._sockets.get(target)
        if socket is not None:
            self.counts["delivered"] += 1
            socket.put((data, source))
        elif self.icmp and source in self._sockets:
            self._sockets[source].put_error(SendError(target, errno.ECONNREFUSED))
