"""Port X on Redis."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from motet.engine.deadletters import agrees
from motet.engine.wellformed import check_aware, check_count, check_each, check_parcels, check_text
from motet.message import DeadLetter, Parcel
from motet.ports import DeadLetters, Filter
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import encode, letter, pairs, parcel, sortable

__all__ = ["RedisDeadLetters"]

LETTERS = Script.of("messages", "letters", "repeats", "deadletters")
SLICE = 100
"""Letters of one script call. A filter is applied here, where a letter can be read."""
PLACE = 33
"""Digits before the id in what a slice lists: see `lua/letters.lua`."""

_letter = msgspec.msgpack.Decoder(DeadLetter)


class RedisDeadLetters:
    """One client's dead letters."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _look(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(LETTERS, op, encode(arguments))

    async def _once(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(LETTERS, op, encode(arguments), secrets.token_hex(8))

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._client.check()
        check_each(letters, DeadLetter)
        coded = [letter(each) for each in letters]
        for first in range(0, len(coded), SLICE):
            await self._look("bury", coded[first : first + SLICE])

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        self._client.check()
        check_text(*ids)
        found: list[DeadLetter | None] = []
        while len(found) < len(ids):
            answer = await self._look("get", ids[len(found) : len(found) + SLICE])
            found += [None if raw is None else _letter.decode(raw) for raw in answer]
        return found

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        self._check(filter, limit)
        check_text(after or "")
        return [each async for each in self._chosen(filter, after or "", limit, newest=True)]

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        self._client.check()
        check_text(*(name for name, _ in replays))
        check_parcels(each for _, each in replays)
        return await self._done("replay", [(name, parcel(each)) for name, each in replays])

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        self._client.check()
        check_text(*ids)
        return await self._done("remove", ids)

    async def purge(self, filter: Filter, limit: int) -> int:
        self._check(filter, limit)
        ids = [each.id async for each in self._chosen(filter, "", limit, newest=False)]
        return sum(await self._done("remove", ids))

    def _check(self, filter: Filter, limit: int) -> None:
        self._client.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        for moment in (filter.since, filter.before):
            if moment is not None:
                check_aware(moment)

    async def _chosen(
        self, filter: Filter, after: str, limit: int, *, newest: bool
    ) -> AsyncGenerator[DeadLetter, None]:
        """Read letters, slice by slice, until enough of them agree with a filter."""
        times = _text(filter.since), _text(filter.before)
        selective = (filter.queue, filter.task, filter.kind) != (None, None, None)
        place, more = "", limit > 0
        while more:
            count = SLICE if selective else min(SLICE, limit)
            more, *listed = await self._look("slice", newest, after, place, *times, count)
            for member, raw in pairs(listed):
                place = member[:PLACE].decode()
                if raw is not None and agrees(each := _letter.decode(raw), filter):
                    yield each
                    limit -= 1
                    if not limit:
                        return

    async def _done(self, op: str, given: Sequence[Any]) -> list[bool]:
        return [
            done == 1
            for first in range(0, len(given), SLICE)
            for done in await self._once(op, given[first : first + SLICE])
        ]


def _text(moment: datetime | None) -> str:
    return "" if moment is None else sortable(moment)


_: type[DeadLetters] = RedisDeadLetters
