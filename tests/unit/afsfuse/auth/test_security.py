from afsfuse.auth.identity import ANONYMOUS, DAEMON, Caller
from afsfuse.auth.security import security_for
from rxrpc import NULL


def test_everybody_is_anonymous_to_the_servers() -> None:
    for caller in (ANONYMOUS, DAEMON, Caller(1000, 1000, 4711)):
        assert security_for(caller, "example.org") is NULL
