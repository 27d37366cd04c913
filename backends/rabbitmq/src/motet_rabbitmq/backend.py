"""All ports on one broker, or one of a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import attrs

from motet.capabilities import Capabilities
from motet.ports import Backend, Settings
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.deadletters import RabbitDeadLetters
from motet_rabbitmq.events import RabbitEvents
from motet_rabbitmq.lanes import Lanes
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import Location, locate
from motet_rabbitmq.locks import RabbitLocks
from motet_rabbitmq.names import Names
from motet_rabbitmq.ownership import Ownership
from motet_rabbitmq.pauses import Pauses
from motet_rabbitmq.schedules import RabbitSchedules
from motet_rabbitmq.settler import RabbitSettler
from motet_rabbitmq.signals import RabbitSignals
from motet_rabbitmq.store import RabbitStore
from motet_rabbitmq.timers import RabbitTimers
from motet_rabbitmq.transport import RabbitTransport
from motet_rabbitmq.workers import RabbitWorkers

__all__ = ["RabbitBackend", "open"]

SHORTEST = 5
"""Seconds of a heartbeat that follows from a short lease; one that a URL gives may be shorter."""


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[RabbitBackend, None]:  # noqa: A001 - its name in every backend
    """Open `amqp://` or `amqps://`, with several brokers of one cluster separated by commas.

    Raises:
        BadBackend: The URL names no broker.
        Unavailable: Nobody answers.
        Rejected: The broker lets nobody in who comes so, or has queues of ours that are not as they must be.
    """
    backend = RabbitBackend(locate(url), settings)
    try:
        await backend.asking.apart(backend.asking.connected())
        yield backend
    finally:
        with anyio.CancelScope(shield=True):
            await backend.close()


class RabbitBackend:
    """One client of a broker. It publishes on one connection, and consumes on another."""

    def __init__(self, location: Location, settings: Settings) -> None:
        timeout = settings.timeout.total_seconds()
        location = self.location = beating(location, settings.lease)
        names = Names(settings.namespace, location.shards)
        self.publishing = Link(location, timeout=timeout, label="motet-publish")
        self.consuming = Link(location, timeout=timeout, label="motet-consume")
        self.owners = Ownership(location, names, lambda: settings.clock.now().timestamp())
        self.asking = Asking(self.publishing, names, self.owners, timeout)
        self.pauses = Pauses(self.asking)
        self.capabilities = Capabilities(
            name="rabbitmq", shared=True, atomic=False, lease=False, locks=True, events=True, durable=True
        )
        lanes = Lanes(self.consuming, names)
        self.transport = RabbitTransport(self.asking, lanes, self.pauses, settings.lease, location.consumer_timeout / 3)
        self.store = RabbitStore(self.asking)
        self.timers = RabbitTimers(self.transport)
        self.schedules = RabbitSchedules(self.asking)
        self.deadletters = RabbitDeadLetters(self.asking)
        self.workers = RabbitWorkers(self.asking)
        self.signals = RabbitSignals(self.asking)
        self.locks = RabbitLocks(self.asking)
        self.events = RabbitEvents(self.asking)
        self.settler = RabbitSettler(self.transport, self.store, self.timers, self.deadletters, self.locks)

    async def close(self) -> None:
        """Give back what nobody has settled, leave the shards, and hang up."""
        await self.asking.close()
        await self.owners.close()
        await self.consuming.close()
        await self.publishing.close()


def beating(location: Location, lease: timedelta) -> Location:
    """Have a connection that is gone noticed within a lease (M13), but not because a machine is busy for a moment."""
    return attrs.evolve(location, heartbeat=min(location.heartbeat, max(SHORTEST, int(lease.total_seconds() * 2 / 3))))


_: type[Backend] = RabbitBackend
