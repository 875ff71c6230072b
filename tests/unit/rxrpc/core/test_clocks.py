"""The clocks of a call."""

from rxrpc.core.clocks import CallTimeouts, Clocks
from rxrpc.core.parameters import Parameters
from rxrpc.core.timers import NEVER

PARAMETERS = Parameters(dead_time=20.0, idle_time=100.0, hard_time=None, ping_interval=4.0)


def test_defaults_come_from_the_parameters() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(), now=0.0)
    assert clocks.next(heard=0.0, progress=0.0) == 20.0
    assert clocks.next(heard=200.0, progress=0.0) == 100.0
    assert clocks.next(heard=200.0, progress=NEVER) == 220.0
    assert clocks.expired(19.9, 0.0, 0.0) is None
    assert clocks.expired(20.0, 0.0, 0.0) == "dead peer"
    assert clocks.expired(100.0, 90.0, 0.0) == "idle"
    assert clocks.expired(1e9, 1e9, NEVER) is None


def test_a_call_may_have_its_own() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(dead=1.0, idle=2.0, hard=3.0), now=10.0)
    assert clocks.next(10.0, 10.0) == 11.0
    assert clocks.expired(12.0, 11.5, 10.0) == "idle"
    assert clocks.expired(13.0, 13.0, 13.0) == "hard"


def test_no_idle_time_at_all() -> None:
    clocks = Clocks(Parameters(idle_time=None), CallTimeouts(), now=0.0)
    assert clocks.expired(1e9, 1e9, 0.0) is None


def test_pings_follow_silence() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(), now=10.0)
    assert clocks.ping_due(heard=12.0) == 16.0
    clocks.pinged = 16.0
    assert clocks.ping_due(heard=12.0) == 20.0


def test_a_peer_in_doubt_has_to_be_heard_of_soon() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(), now=10.0)
    clocks.pinged = 14.0
    clocks.doubt(15.0)
    assert clocks.ping_due(heard=12.0) == 14.5  # at once, and again and again
    assert clocks.next(heard=12.0, progress=NEVER) == 18.0
    assert clocks.expired(17.9, 12.0, NEVER) is None
    assert clocks.expired(18.0, 12.0, NEVER) == "forgotten"
    assert clocks.expired(18.0, 15.1, NEVER) is None
    assert clocks.next(heard=15.1, progress=NEVER) == 35.1
    assert clocks.ping_due(heard=15.1) == 19.1


def test_who_must_answer_soon_is_asked_in_time() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(dead=2.0, busy=7.0), now=0.0)
    assert clocks.ping_due(heard=0.0) == 0.5
    assert clocks.busy_time == 7.0
    assert Clocks(PARAMETERS, CallTimeouts(), now=0.0).busy_time == PARAMETERS.busy_time


def test_a_pace_is_looked_at_once_in_an_idle_time() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(pace=10.0), now=0.0)
    assert clocks.next(heard=99.0, progress=99.0) == 100.0
    assert clocks.expired(100.0, 99.0, 99.0, 5) is None, "it may have begun just now"
    assert clocks.expired(200.0, 199.0, 199.0, 1005) is None
    assert clocks.expired(299.0, 298.0, 298.0, 1006) is None
    assert clocks.expired(300.0, 299.0, 299.0, 2004) == "slow"


def test_a_pace_is_not_for_who_works_or_waits_for_us() -> None:
    clocks = Clocks(PARAMETERS, CallTimeouts(pace=10.0), now=0.0)
    assert clocks.expired(100.0, 99.0, 99.0, 5) is None
    assert clocks.expired(200.0, 199.0, 199.0, None) is None
    assert clocks.expired(300.0, 299.0, 299.0, 6) is None, "whatever it was between"
    assert clocks.expired(400.0, 399.0, 399.0, 6) == "slow"
