"""Port W on Redis."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from motet.engine.wellformed import check_each, check_text
from motet.ports import Present, Workers
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import milliseconds, pairs

__all__ = ["RedisWorkers"]

WORKERS = Script.of("workers")
SLICE = 500
"""Workers of one script call."""


class RedisWorkers:
    """One client's view of the roll."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        self._client.check()
        check_each((worker,), Present)
        await self._client.call(WORKERS, "beat", worker.id, worker.about, milliseconds(ttl))

    async def leave(self, id: str) -> None:
        self._client.check()
        check_text(id)
        await self._client.call(WORKERS, "leave", id)

    async def present(self) -> list[Present]:
        self._client.check()
        found: dict[str, Present] = {}
        part: list[Any] = [None]
        first = 0
        while part:
            part = await self._client.call(WORKERS, "present", first, SLICE)
            found.update((name.decode(), Present(name.decode(), about)) for name, about in pairs(part))
            first += SLICE
        return [found[name] for name in sorted(found)]


_: type[Workers] = RedisWorkers
