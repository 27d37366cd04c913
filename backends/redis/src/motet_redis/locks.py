"""Port L on Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from motet.engine.wellformed import check_count, check_each, check_text
from motet.errors import UsageError
from motet.ports import Busy, Grant, Holding, Lock, Locks
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import encode, milliseconds

__all__ = ["RedisLocks"]

LOCKS = Script.of("holders", "locks")


class RedisLocks:
    """One client's locks. Leases are by the server's clock."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _call(self, op: str, *arguments: Any) -> Any:
        self._client.check()
        return await self._client.call(LOCKS, op, encode(arguments))

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        check_each(locks, Lock)
        check_text(owner)
        for lock in locks:
            check_count(lock.limit, "limit", 1)
            if lock.kind == "rate" and lock.window <= timedelta():
                raise UsageError(f"the rate {lock.name} needs a window")
        wanted = [(lock.name, lock.kind, lock.limit, milliseconds(lock.window)) for lock in locks]
        granted, *said = await self._call("acquire", wanted, owner, milliseconds(lease))
        return Grant(said[0]) if granted else Busy(said[0].decode(), timedelta(milliseconds=said[1]))

    async def renew(self, owner: str, lease: timedelta) -> bool:
        check_text(owner)
        return bool(await self._call("renew", owner, milliseconds(lease)))

    async def release(self, owner: str) -> None:
        check_text(owner)
        await self._call("release", owner)

    async def held(self, prefix: str) -> list[Holding]:
        check_text(prefix)
        found = await self._call("held", prefix)
        return sorted(
            (
                Holding(lock.decode(), owner.decode(), fence, timedelta(milliseconds=left))
                for lock, owner, fence, left in found
            ),
            key=lambda holding: (holding.name, holding.owner),
        )

    async def free(self, name: str) -> bool:
        check_text(name)
        return bool(await self._call("free", name))


_: type[Locks] = RedisLocks
