"""The limit, and who uses how much of it."""

from __future__ import annotations

import threading

from afsfuse.cache.disk.budget import SLACK, Budget

MIB = 1 << 20


def test_parts_leave_the_journal_what_is_to_be_spared() -> None:
    budget = Budget(10 * MIB, spare=2 * MIB)
    room = 10 * MIB - SLACK - 2 * MIB
    assert not budget.take_for_parts(room + 1)
    assert budget.take_for_parts(room)
    assert budget.excess(1) == 1
    assert not budget.take_for_parts(1)
    assert budget.take_for_journal(2 * MIB)
    assert not budget.take_for_journal(1)
    assert budget.used == 10 * MIB - SLACK
    assert budget.excess(0) == 2 * MIB, "parts are to make room for the next piece of it"


def test_what_is_freed_can_be_taken_again() -> None:
    budget = Budget(10 * MIB, spare=0)
    assert budget.take_for_parts(8 * MIB)
    budget.free_parts(MIB)
    assert budget.take_for_journal(MIB)
    budget.free_journal(MIB)
    assert budget.take_for_parts(MIB)
    budget.index = 1
    assert budget.excess(0) == 1


def test_two_threads_never_take_more_than_there_is() -> None:
    budget = Budget(SLACK + 1000, spare=0)
    taken = [0, 0]

    def take(which: int) -> None:
        ask = (budget.take_for_parts, budget.take_for_journal)[which]
        for _ in range(2000):
            taken[which] += ask(1)

    threads = [threading.Thread(target=take, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == budget.used == 1000
