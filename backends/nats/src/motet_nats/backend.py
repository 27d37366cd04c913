"""All ports on one server or cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from motet.capabilities import Capabilities
from motet.ports import Backend, Settings
from motet_nats.client import Client
from motet_nats.deadletters import NatsDeadLetters
from motet_nats.events import NatsEvents
from motet_nats.link import Link
from motet_nats.location import locate
from motet_nats.locks import NatsLocks
from motet_nats.news import News
from motet_nats.pauses import Pauses
from motet_nats.records import Records
from motet_nats.schedules import NatsSchedules
from motet_nats.settler import NatsSettler
from motet_nats.signals import NatsSignals
from motet_nats.store import NatsStore
from motet_nats.streams import Streams
from motet_nats.timers import NatsTimers
from motet_nats.transport import NatsTransport
from motet_nats.workers import NatsWorkers

__all__ = ["NatsBackend", "open"]


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[NatsBackend, None]:  # noqa: A001 - its name in every backend
    """Open `nats://` or `tls://`, with several servers of one cluster separated by commas.

    Raises:
        BadBackend: The URL names no server.
        Unavailable: Nobody answers.
        Rejected: The server is too old, has no JetStream, or lets nobody in who comes so.
    """
    client = Client(locate(url), settings)
    backend = NatsBackend(client)
    try:
        await backend.start()
        yield backend
    finally:
        with anyio.CancelScope(shield=True):
            await backend.close()


class NatsBackend:
    """One client of a server."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.streams = Streams(client)
        records = Records(client, self.streams)
        self.pauses = Pauses(client, self.streams, records)
        self.capabilities = Capabilities(
            name="nats", shared=True, atomic=False, lease=True, locks=True, events=True, durable=True
        )
        news = News(client.names)
        self.transport = NatsTransport(client, self.streams, records, self.pauses, news)
        self.store = NatsStore(client, self.streams, records, news)
        self.timers = NatsTimers(self.transport)
        self.signals = NatsSignals(client, news)
        self.schedules = NatsSchedules(self.transport, records)
        self.deadletters = NatsDeadLetters(self.transport, records)
        self.workers = NatsWorkers(records)
        self.locks = NatsLocks(records)
        self.events = NatsEvents(client, self.streams)
        self.settler = NatsSettler(self.transport, self.store, self.timers, self.deadletters, self.locks)
        client.ready = self._follow

    async def start(self) -> None:
        """Connect, and see to it that the streams are there."""
        await self.client.keep_asking(_nothing)
        await self.streams.make()

    async def _follow(self, link: Link) -> None:
        """Listen on a new connection to what this client waits for."""
        await self.pauses.follow(link)
        await self.signals.follow(link)

    async def close(self) -> None:
        """Give back what nobody took, and hang up."""
        await self.transport.close()
        self.signals.close()
        await self.client.close()


async def _nothing(_: Link) -> None:
    """Need no more than a connection."""


_: type[Backend] = NatsBackend
