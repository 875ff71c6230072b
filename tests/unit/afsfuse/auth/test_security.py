from afsfuse.auth.identity import NOBODY, Identity
from afsfuse.auth.security import security_for
from rxrpc import NULL


def test_everybody_is_anonymous_to_the_servers() -> None:
    for identity in (NOBODY, Identity(0), Identity(1000), Identity(pag="0123456789abcdef")):
        assert security_for(identity, "example.org") is NULL
