"""Port L in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from motet.engine.wellformed import check_count, check_each, check_text
from motet.errors import UsageError
from motet.memory.world import World
from motet.ports import Busy, Grant, Holding, Lock, Locks

__all__ = ["MemoryLocks"]


class MemoryLocks:
    """One client's locks."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        holders = self.world.holders
        check_each(locks, Lock)
        check_text(owner)
        for lock in locks:
            check_count(lock.limit, "limit", 1)
            if lock.kind == "rate" and lock.window <= timedelta():
                raise UsageError(f"the rate {lock.name} needs a window")
        return holders.acquire(locks, owner, lease)

    async def renew(self, owner: str, lease: timedelta) -> bool:
        return self.world.holders.renew(owner, lease)

    async def release(self, owner: str) -> None:
        self.world.holders.release(owner)

    async def held(self, prefix: str) -> list[Holding]:
        holders = self.world.holders
        check_text(prefix)
        return holders.held(prefix)

    async def free(self, name: str) -> bool:
        return self.world.holders.free(name)


_: type[Locks] = MemoryLocks
