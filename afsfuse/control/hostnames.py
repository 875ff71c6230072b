"""Names of hosts for addresses, and the other way round, within a bound: the DNS may be dead."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = 3.0


def names_of(addresses: Iterable[str]) -> dict[str, str]:
    """What the system calls each of these addresses; those without a name by themselves."""
    wanted = list(dict.fromkeys(addresses))
    names = {address: address for address in wanted}

    def ask(address: str) -> None:
        try:
            names[address] = socket.gethostbyaddr(address)[0]
        except OSError:  # socket.herror, and bytes that are no name
            return

    _all_at_once([(ask, address) for address in wanted])
    return dict(names)


def address_of(host: str) -> str | None:
    """The IPv4 address of a host; None if nobody knows one."""
    found: list[str] = []

    def ask(host: str) -> None:
        try:
            found.append(socket.gethostbyname(host))
        except (OSError, UnicodeError):
            return

    _all_at_once([(ask, host)])
    return found[0] if found else None


def _all_at_once(jobs: Iterable[tuple[object, str]]) -> None:
    threads = [
        threading.Thread(target=function, args=(word,), daemon=True)  # type: ignore[arg-type]
        for function, word in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
