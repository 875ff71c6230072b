from afsfuse.auth.identity import ANONYMOUS, DAEMON, Caller, security_for
from rxrpc import NULL


def test_everybody_is_anonymous_to_the_servers() -> None:
    for caller in (ANONYMOUS, DAEMON, Caller(1000, 1000, 4711)):
        assert security_for(caller, "example.org") is NULL


def test_nobody_waits_behind_the_constants() -> None:
    assert ANONYMOUS.tid == DAEMON.tid == 0
