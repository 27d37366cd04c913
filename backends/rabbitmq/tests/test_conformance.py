"""motet-rabbitmq keeps every clause of every port that it declares."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio
import pytest
from rabbitmq_server import RabbitServer, RunningServer

from motet.conformance import BackendContract
from motet.ports import Backend, Settings
from motet_rabbitmq import open as open_rabbitmq
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import locate
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.names import Names
from motet_rabbitmq.ownership import Ownership
from motet_rabbitmq.roll import Roll

KNOWN = 2.0
"""Seconds until a broker that is killed still knows a queue: RabbitMQ writes down which it has every half second.

One that is younger is there after the restart, and never has a leader: docs/decisions/0014-rabbitmq.md.
"""
pytestmark = pytest.mark.timeout(60)  # a restart alone takes up to ten seconds on a busy machine
NAMESPACES = ("contract", "patient")


class TestRabbitMQ(BackendContract):
    server: ClassVar[RunningServer]
    used: ClassVar[set[str]]

    @pytest.fixture(autouse=True)
    @classmethod
    def _server(cls, file_server: RabbitServer, standing: None) -> Iterator[None]:
        """Remove the lanes of each test, which have names of their own: a broker with thousands of queues is slow."""
        cls.server, cls.used = file_server, set()
        yield
        asyncio.run(removed(file_server, cls.used))

    @asynccontextmanager
    async def connect(self, settings: Settings) -> AsyncIterator[Backend]:
        async with open_rabbitmq(place(self.server), settings) as backend:
            lanes: Any = backend.transport.lanes
            yield backend
            published = await backend.asking.ask(CONTROL, Roll.known, None)
            self.used.update(lanes.names.lane(lane) for lane in (*lanes._known, *published) if lane.queue[0] == "t")

    async def restart(self) -> None:
        """Kill the server, and start it on what its folder holds."""
        if not isinstance(self.server, RabbitServer):
            await super().restart()  # somebody else's: that this is unproven is for the contract to say
        else:
            await anyio.sleep(KNOWN)
            await anyio.to_thread.run_sync(self.server.restart)


def place(server: RunningServer) -> str:
    return f"{server.url}?shards=2"


async def removed(server: RunningServer, queues: set[str]) -> None:
    link = Link(locate(place(server)), timeout=15)
    await asyncio.gather(*(link.topology.delete_queue(queue) for queue in queues))
    await link.close()


@pytest.fixture(scope="module")
def standing(file_server: RabbitServer) -> Iterator[None]:
    """Workers that own the shards while tests come and go, as where Motet is at home."""
    owners = [Ownership(locate(place(file_server)), Names(each, 2), time.time) for each in NAMESPACES]
    for owner in owners:
        owner.begin(worker=True)
    yield
    for owner in owners:
        asyncio.run(owner.close())
