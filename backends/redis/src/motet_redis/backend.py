"""All ports on one server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from motet.capabilities import Capabilities
from motet.ports import Backend, Settings
from motet_redis.client import Client
from motet_redis.deadletters import RedisDeadLetters
from motet_redis.events import RedisEvents
from motet_redis.location import locate
from motet_redis.locks import RedisLocks
from motet_redis.schedules import RedisSchedules
from motet_redis.settler import RedisSettler
from motet_redis.settling import Settling
from motet_redis.signals import RedisSignals
from motet_redis.store import RedisStore
from motet_redis.timers import RedisTimers
from motet_redis.transport import RedisTransport
from motet_redis.workers import RedisWorkers

__all__ = ["RedisBackend", "open"]


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[RedisBackend, None]:  # noqa: A001 - its name in every backend
    """Open `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`.

    Raises:
        BadBackend: The URL names no server.
        Unavailable: Nobody answers.
        Rejected: The server is too old, evicts keys, or lets nobody in who comes so.
    """
    client = Client(locate(url), settings)
    backend: RedisBackend | None = None
    try:
        await client.start()
        backend = RedisBackend(client)
        yield backend
    finally:
        with anyio.CancelScope(shield=True):
            if backend is not None:
                await backend.close()
            await client.close()


class RedisBackend:
    """One client of a server."""

    def __init__(self, client: Client) -> None:
        self.client = client
        settling = Settling(client)
        self.capabilities = Capabilities(
            name="redis", shared=True, atomic=True, lease=True, locks=True, events=True, durable=True
        )
        self.transport = RedisTransport(client, settling)
        self.store = RedisStore(client)
        self.timers = RedisTimers(self.transport)
        self.signals = RedisSignals(client)
        self.settler = RedisSettler(settling)
        self.schedules = RedisSchedules(client)
        self.deadletters = RedisDeadLetters(client)
        self.workers = RedisWorkers(client)
        self.locks = RedisLocks(client)
        self.events = RedisEvents(client)

    async def close(self) -> None:
        """Give back what nobody took, and stop listening."""
        await self.transport.close()
        await self.signals.close()


_: type[Backend] = RedisBackend
