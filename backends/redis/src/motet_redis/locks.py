"""Port L on Redis."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from motet.engine.wellformed import check_count, check_each, check_text
from motet.errors import UsageError
from motet.ports import Busy, Grant, Holding, Lock, Locks
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import encode

__all__ = ["RedisLocks"]

LOCKS = Script.of("holders", "repeats", "locks")
MICROSECOND = timedelta(microseconds=1)
LONGEST = timedelta(days=36_500)
MANY = 2**31


class RedisLocks:
    """One client's locks. Leases and windows are by the server's clock, in microseconds."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _call(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(LOCKS, op, encode(arguments))

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        self._client.check()
        check_each(locks, Lock)
        check_text(owner)
        for lock in locks:
            check_count(lock.limit, "limit", 1)
            if lock.kind == "rate" and lock.window <= timedelta():
                raise UsageError(f"the rate {lock.name} needs a window")
        wanted = [(lock.name, lock.kind, min(lock.limit, MANY), _micro(lock.window)) for lock in locks]
        granted, *said = await self._call("acquire", wanted, owner, _micro(lease))
        return Grant(said[0]) if granted else Busy(said[0].decode(), timedelta(microseconds=said[1]))

    async def renew(self, owner: str, lease: timedelta) -> bool:
        self._client.check()
        check_text(owner)
        return bool(await self._call("renew", owner, _micro(lease)))

    async def release(self, owner: str) -> None:
        self._client.check()
        check_text(owner)
        await self._call("release", owner)

    async def held(self, prefix: str) -> list[Holding]:
        self._client.check()
        check_text(prefix)
        found: dict[tuple[str, str], Holding] = {}
        cursor = "0"
        while True:
            following, *holdings = await self._call("held", prefix, cursor)
            for name, owner, fence, left in holdings:
                holding = Holding(name.decode(), owner.decode(), fence, timedelta(microseconds=left))
                found[holding.name, holding.owner] = holding
            cursor = following.decode()
            if cursor == "0":
                return [found[key] for key in sorted(found)]

    async def free(self, name: str) -> bool:
        self._client.check()
        check_text(name)
        return bool(await self._client.call(LOCKS, "free", encode((name,)), secrets.token_hex(8)))


def _micro(duration: timedelta) -> int:
    return max(0, min(duration, LONGEST) // MICROSECOND)


_: type[Locks] = RedisLocks
