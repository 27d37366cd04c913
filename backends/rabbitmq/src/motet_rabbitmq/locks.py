"""Port L on RabbitMQ: all locks of a namespace are one shard's, so that taking several is one record (H10)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from motet.engine.wellformed import check_count, check_each, check_text
from motet.errors import UsageError
from motet.ports import Busy, Grant, Holding, Lock, Locks
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.holders import Holders, WireLock
from motet_rabbitmq.machine import CONTROL

__all__ = ["RabbitLocks"]


class RabbitLocks:
    """One client's locks."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        self.asking.check()
        check_each(locks, Lock)
        check_text(owner)
        for lock in locks:
            check_count(lock.limit, "limit", 1)
            if lock.kind == "rate" and lock.window <= timedelta():
                raise UsageError(f"the rate {lock.name} needs a window")
        wanted = [WireLock(lock.name, lock.kind, lock.limit, lock.window) for lock in locks]
        return (await self.asking.ask(CONTROL, Holders.acquire, wanted, owner, lease)).port

    async def renew(self, owner: str, lease: timedelta) -> bool:
        return await self.asking.ask(CONTROL, Holders.renew, owner, lease)

    async def release(self, owner: str) -> None:
        await self.asking.ask(CONTROL, Holders.release, [owner])

    async def held(self, prefix: str) -> list[Holding]:
        check_text(prefix)
        return await self.asking.ask(CONTROL, Holders.held, prefix)

    async def free(self, name: str) -> bool:
        return await self.asking.ask(CONTROL, Holders.free, name)


_: type[Locks] = RabbitLocks
