"""Port S in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from motet.engine.wellformed import check_count, check_each, check_keys, check_program, check_text
from motet.errors import UsageError
from motet.memory.records import Slots
from motet.memory.world import World
from motet.message import Key
from motet.ports import Barrier, Store
from motet.program import Arrival, Flag, Once, Open, Put

__all__ = ["MemoryStore"]


class MemoryStore:
    """One client's store."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        world = self.world
        check_program(records)
        world.records.expire()
        return [world.put_once(record) for record in records]

    async def put(self, records: Sequence[Put]) -> None:
        kept = self.world.records
        check_program(records)
        for record in records:
            kept.put(record)

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        records = self.world.records
        check_keys(keys)
        records.expire()
        return [records.get(key) for key in keys]

    async def drop(self, keys: Sequence[Key]) -> None:
        records = self.world.records
        check_keys(keys)
        for key in keys:
            records.remove(key)

    async def add(self, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        records = self.world.records
        check_keys((key,))
        if type(amount) is not int:
            raise UsageError(f"a counter counts integers, not {amount!r}")
        records.expire()
        return records.add(key, amount, ttl)

    async def open(self, barriers: Sequence[Open]) -> None:
        records = self.world.records
        check_each(barriers, Open)
        for barrier in barriers:
            records.barriers.setdefault(barrier.key, Slots(barrier))

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        records = self.world.records
        check_keys((key,))
        check_count(slot, "slot")
        check_count(failed, "failed")
        slots = records.barriers.get(key)
        return None if slots is None else slots.arrive(slot, failed)

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        records = self.world.records
        check_keys(keys)
        return [records.barrier(key) for key in keys]

    async def flag(self, scopes: Sequence[Flag]) -> None:
        records = self.world.records
        check_each(scopes, Flag)
        for scope in scopes:
            records.flag(scope)

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        return self.world.records.flags_since(since)

    async def names(self, run: str, prefix: str) -> list[str]:
        records = self.world.records
        check_text(run, prefix)
        records.expire()
        return sorted(name for name in records.values.get(run, ()) if name.startswith(prefix))

    async def sweep(self, run: str, limit: int) -> bool:
        records = self.world.records
        check_text(run)
        check_count(limit, "limit", 1)
        return records.sweep(run, limit)

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        records = self.world.records
        check_count(limit, "limit")
        records.expire()
        return records.runs(before, limit)


_: type[Store] = MemoryStore
