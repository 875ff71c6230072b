"""A service, its endpoint, a client, and a network in memory between them."""

import random

import trio
import trio.testing

from rxrpc import (
    Address,
    BaseService,
    Endpoint,
)
from tests.net import LossyNetwork

CLIENT: Address = ("192.0.2.1", 7001)
SERVER: Address = ("192.0.2.2", 7000)


class World:
    """A service, its endpoint, a client."""

    def __init__(self, nursery: trio.Nursery, service: BaseService) -> None:
        self.nursery = nursery
        self.service = service
        self.net = LossyNetwork(random.Random(1))
        self.server = Endpoint(socket=self.net.socket(SERVER))
        self.client = Endpoint(socket=self.net.socket(CLIENT))
        self.server.add_service(service)
        self.connection = self.client.connect(SERVER, service.service_id)

    async def start(self) -> "World":
        for run in (self.net.run, self.server.run, self.client.run):
            await self.nursery.start(run)
        return self
