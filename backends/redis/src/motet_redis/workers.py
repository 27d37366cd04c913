"""Port W on Redis."""

from __future__ import annotations

from datetime import timedelta

from motet.engine.wellformed import check_each, check_text
from motet.ports import Present, Workers
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import milliseconds, pairs

__all__ = ["RedisWorkers"]

WORKERS = Script.of("workers")


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
        found = await self._client.call(WORKERS, "present", "")
        return sorted((Present(name.decode(), about) for name, about in pairs(found)), key=lambda worker: worker.id)


_: type[Workers] = RedisWorkers
