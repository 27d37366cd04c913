"""Port X on RabbitMQ: letters are rows of the shards, by their ids; no queue is emptied to be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.message import DeadLetter, Parcel
from motet.ports import DeadLetters, Filter
from motet_rabbitmq import ops
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.burials import Burials, Place

__all__ = ["RabbitDeadLetters"]

T = TypeVar("T")


class RabbitDeadLetters:
    """One client's dead letters."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.of = asking.names.layout.of

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self.asking.check()
        check_each(letters, DeadLetter)
        await asyncio.gather(*(self.asking.ask(self.of(letter.id), Burials.bury, [letter]) for letter in letters))

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        self.asking.check()
        check_text(*ids)
        found = await asyncio.gather(*(self.asking.ask(self.of(name), Burials.get, [name]) for name in ids))
        return [letter for [letter] in found]

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        self.asking.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        before = None if after is None else await self.asking.ask(self.of(after), Burials.place, after)
        return [letter for _, letter in await self._chosen(filter, before, limit, oldest=False)]

    async def _chosen(
        self, filter: Filter, before: Place | None, limit: int, *, oldest: bool
    ) -> list[tuple[Place, DeadLetter]]:
        shards = range(self.asking.names.shards)
        found = await asyncio.gather(
            *(self.asking.ask(shard, Burials.page, filter, before, limit, oldest) for shard in shards)
        )
        letters = sorted((each for part in found for each in part), key=lambda each: each[0], reverse=not oldest)
        return letters[:limit]

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        self.asking.check()
        check_text(*(name for name, _ in replays))
        check_parcels(parcel for _, parcel in replays)
        found = await asyncio.gather(
            *(self.asking.ask(self.of(name), Burials.replay, [(name, ops.parcel(parcel))]) for name, parcel in replays)
        )
        return [gone for [gone] in found]

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        self.asking.check()
        check_text(*ids)
        found = await asyncio.gather(*(self.asking.ask(self.of(name), Burials.remove, [name]) for name in ids))
        return [gone for [gone] in found]

    async def purge(self, filter: Filter, limit: int) -> int:
        self.asking.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        chosen = await self._chosen(filter, None, limit, oldest=True)
        return sum(await self.remove([letter.id for _, letter in chosen]))


_: type[DeadLetters] = RabbitDeadLetters
