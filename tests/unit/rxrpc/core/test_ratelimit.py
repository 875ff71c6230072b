"""A bound on answers."""

from rxrpc.core.ratelimit import RateLimit


def test_a_burst_then_a_rate() -> None:
    limit = RateLimit(10)
    assert sum(limit.allow(5.0) for _ in range(50)) == 10
    assert sum(limit.allow(5.35) for _ in range(50)) == 3
    assert sum(limit.allow(99.0) for _ in range(50)) == 10
