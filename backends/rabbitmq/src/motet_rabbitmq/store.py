"""Port S on RabbitMQ: every run's records are one shard's, and every call is a record in that shard's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

from motet.engine.wellformed import check_count, check_each, check_keys, check_program, check_text
from motet.errors import UsageError
from motet.message import Key
from motet.ports import Barrier, Store
from motet.program import Arrival, Flag, Once, Open, Put
from motet_rabbitmq import ops
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.calls import Method
from motet_rabbitmq.feeds import Feeds, as_flag
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.runs import Runs

__all__ = ["RabbitStore", "cursor"]

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 128 * 1024


class RabbitStore:
    """One client's store."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.of: Callable[[str], int] = asking.names.layout.of

    async def _each(
        self, items: Sequence[T], run: Callable[[T], str], method: Method[Runs, [list[T]], list[R]]
    ) -> list[R]:
        """Ask the shards of all items, and bring the answers into the order of the items."""
        by_shard: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            by_shard.setdefault(self.of(run(item)), []).append(place)
        answers: dict[int, R] = {}

        async def ask(shard: int, places: list[int]) -> None:
            found = await self.asking.ask(shard, method, [items[place] for place in places])
            answers.update(zip(places, found, strict=True))

        await asyncio.gather(*(ask(shard, places) for shard, places in by_shard.items()))
        return [answers[place] for place in range(len(items))]

    async def _all(self, items: Iterable[T], run: Callable[[T], str], method: Method[Runs, [list[T]], None]) -> None:
        by_shard: dict[int, list[T]] = {}
        for item in items:
            by_shard.setdefault(self.of(run(item)), []).append(item)
        await asyncio.gather(*(self.asking.ask(shard, method, part) for shard, part in by_shard.items()))

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        self.asking.check()
        check_program(records)
        return await self._each([ops.once(record) for record in records], lambda op: op.key.run, Runs.put_once)

    async def put(self, records: Sequence[Put]) -> None:
        self.asking.check()
        check_program(records)
        for part in chunks(records):
            await self._all(part, lambda op: op.key.run, Runs.put)

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        self.asking.check()
        check_keys(keys)
        return await self._each(keys, lambda key: key.run, Runs.get)

    async def drop(self, keys: Sequence[Key]) -> None:
        self.asking.check()
        check_keys(keys)
        await self._all(keys, lambda key: key.run, Runs.drop)

    async def add(self, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        self.asking.check()
        check_keys((key,))
        if type(amount) is not int:
            raise UsageError(f"a counter counts integers, not {amount!r}")
        return await self.asking.ask(self.of(key.run), Runs.add, key, amount, ttl)

    async def open(self, barriers: Sequence[Open]) -> None:
        self.asking.check()
        check_each(barriers, Open)
        await self._all([ops.opened(each) for each in barriers], lambda op: op.key.run, Runs.open)

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        self.asking.check()
        check_keys((key,))
        check_count(slot, "slot")
        check_count(failed, "failed")
        return await self.asking.ask(self.of(key.run), Runs.arrive, key, slot, failed)

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        self.asking.check()
        check_keys(keys)
        return await self._each(keys, lambda key: key.run, Runs.read_barriers)

    async def flag(self, scopes: Sequence[Flag]) -> None:
        self.asking.check()
        check_each(scopes, Flag)
        await self.asking.ask(CONTROL, Feeds.flag, [ops.flag(scope) for scope in scopes])

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        self.asking.check()
        last, found = await self.asking.ask(CONTROL, Feeds.flags, cursor(since, "flags"))
        return str(last), [as_flag(flag) for flag in found]

    async def names(self, run: str, prefix: str) -> list[str]:
        self.asking.check()
        check_text(run, prefix)
        return await self.asking.ask(self.of(run), Runs.names, run, prefix)

    async def sweep(self, run: str, limit: int) -> bool:
        self.asking.check()
        check_text(run)
        check_count(limit, "limit", 1)
        return await self.asking.ask(self.of(run), Runs.sweep, run, limit)

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        self.asking.check()
        check_count(limit, "limit")
        began = None if before is None else await self.asking.ask(self.of(before), Runs.began, before)
        shards = range(self.asking.names.shards)
        found = await asyncio.gather(*(self.asking.ask(shard, Runs.runs, began, limit) for shard in shards))
        newest = sorted((each for of_shard in found for each in of_shard), reverse=True)
        return [(run, raw) for _, run, raw in newest[:limit]]


def cursor(given: str | None, what: str) -> int | None:
    """Read a cursor, which counts.

    Raises:
        UsageError: It is none of ours.
    """
    if given is None:
        return None
    if type(given) is not str or not given.isdecimal():
        raise UsageError(f"no cursor of {what}: {given!r}")
    return int(given)


def chunks(records: Sequence[Put]) -> Iterable[list[ops.WirePut]]:
    """Cut records into calls."""
    part: list[ops.WirePut] = []
    size = 0
    for record in records:
        if part and size + len(record.value) > CHUNK:
            yield part
            part, size = [], 0
        part.append(ops.put(record))
        size += len(record.value)
    if part:
        yield part


_: type[Store] = RabbitStore
