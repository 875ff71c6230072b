"""The loopback figures come, whatever they are."""

from tests.bench import loopback


def test_all_cases() -> None:
    figures = loopback.measure(rounds=1, seconds=0.05)
    assert len(figures) == len(loopback.CASES + loopback.ENCRYPTED_CASES)
    for one in figures:
        assert 0 < one.least <= one.median <= one.most
        assert one.client_us > 0
    table = loopback.as_table(figures).splitlines()
    assert len(table) == 2 + len(figures)
    assert {row.count("|") for row in table} == {9}
