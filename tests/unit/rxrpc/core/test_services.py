"""Who serves a connection."""

import pytest

from rxrpc.core.services import ServiceEntry, Services
from rxrpc.errors import LocalError
from rxrpc.security.null import NULL
from rxrpc.wire.packet import UPGRADE
from tests.pair.toy_security import TOY_INDEX, ToyServer
from tests.unit.rxrpc.core.test_endpoint import REQUEST

PLAIN = {NULL.index: NULL}
TOY = {TOY_INDEX: ToyServer()}


def services() -> Services:
    table = Services()
    table.add(ServiceEntry(1, {**PLAIN, **TOY}))
    table.add(ServiceEntry(2501, PLAIN))
    table.add(ServiceEntry(3, PLAIN))
    table.offer_upgrade(1, 2501)
    return table


@pytest.mark.parametrize(
    ("service_id", "status", "security", "served"),
    [
        (1, 0, 0, 1),
        (1, UPGRADE, 0, 2501),
        (1, 3, 0, 1),  # OpenAFS sends such bytes, and means nothing by them
        (1, UPGRADE, TOY_INDEX, 1),  # the better service does not know the class
        (2501, UPGRADE, 0, 2501),
        (3, UPGRADE, 0, 3),
        (3, 0, TOY_INDEX, None),
        (4, UPGRADE, 0, None),
    ],
)
def test_who_is_found(service_id: int, status: int, security: int, served: int | None) -> None:
    header = REQUEST._replace(service_id=service_id, user_status=status, security_index=security)
    found = services().find(header)
    assert (found[0].service_id if found else None) == served


def test_an_upgrade_waits_for_the_first_packet() -> None:
    table = services()
    assert table.waits_for_first(REQUEST._replace(service_id=1, seq=2))
    assert not table.waits_for_first(REQUEST._replace(service_id=1, seq=1))
    assert not table.waits_for_first(REQUEST._replace(service_id=3, seq=2))


def test_mistakes() -> None:
    table = services()
    with pytest.raises(LocalError, match="there already"):
        table.add(ServiceEntry(3, PLAIN))
    for pair in ((1, 4), (4, 1)):
        with pytest.raises(LocalError, match="service 4 is not here"):
            table.offer_upgrade(*pair)


def test_room() -> None:
    entry = ServiceEntry(1, PLAIN, calls=1000)
    assert not entry.full
    entry.limit = 1000
    assert entry.full
    entry.calls -= 1
    assert not entry.full
