"""A bound on answers."""

from rxrpc.core.ratelimit import RateLimit


def test_a_burst_then_a_rate() -> None:
    limit = RateLimit(10)
    assert sum(limit.allow(5.0) for _ in range(50)) == 10
    assert sum(limit.allow(5.35) for _ in range(50)) == 3
    assert sum(limit.allow(99.0) for _ in range(50)) == 10


def test_large_pieces_take_many_tokens_or_none() -> None:
    limit = RateLimit(100)
    assert limit.allow(5.0, 90)
    assert not limit.allow(5.0, 11)
    assert limit.allow(5.0, 10)
    assert not limit.allow(99.0, 101)
