"""Port X on Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.message import DeadLetter, Parcel
from motet.ports import DeadLetters, Filter
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import encode, letter, microseconds, pairs, parcel

__all__ = ["RedisDeadLetters"]

LETTERS = Script.of("messages", "letters", "deadletters")
SLICE = 100
"""Letters of one script call; a filter is applied here, where a letter can be read."""
EVER = 2**53

_letter = msgspec.msgpack.Decoder(DeadLetter)


class RedisDeadLetters:
    """One client's dead letters."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _call(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(LETTERS, op, encode(arguments))

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._client.check()
        check_each(letters, DeadLetter)
        for first in range(0, len(letters), SLICE):
            await self._call("bury", [letter(each) for each in letters[first : first + SLICE]])

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        self._client.check()
        check_text(*ids)
        found = [
            raw for first in range(0, len(ids), SLICE) for raw in await self._call("get", ids[first : first + SLICE])
        ]
        return [None if raw is None else _letter.decode(raw) for raw in found]

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        self._client.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        return await self._chosen(filter, after or "", limit, newest=True)

    async def _chosen(self, filter: Filter, after: str, limit: int, *, newest: bool) -> list[DeadLetter]:
        """Read letters, slice by slice, until enough of them agree with a filter."""
        since, before = _micro(filter.since, 0), _micro(filter.before, EVER)
        found: list[DeadLetter] = []
        while len(found) < limit:
            reply = await self._call("slice", newest, after, str(since), str(before), SLICE)
            for name, raw in pairs(reply):
                after = name.decode()
                if raw is not None and _agrees(each := _letter.decode(raw), filter):
                    found.append(each)
            if len(reply) < 2 * SLICE:
                break
        return found[:limit]

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        self._client.check()
        check_parcels(each for _, each in replays)
        check_text(*(name for name, _ in replays))
        coded = [(name, parcel(each)) for name, each in replays]
        return [
            done == 1
            for first in range(0, len(coded), SLICE)
            for done in await self._call("replay", coded[first : first + SLICE])
        ]

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        self._client.check()
        check_text(*ids)
        return [
            done == 1
            for first in range(0, len(ids), SLICE)
            for done in await self._call("remove", ids[first : first + SLICE])
        ]

    async def purge(self, filter: Filter, limit: int) -> int:
        self._client.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        chosen = await self._chosen(filter, "", limit, newest=False)
        return sum(await self.remove([each.id for each in chosen]))


def _micro(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else microseconds(moment)


def _agrees(letter: DeadLetter, filter: Filter) -> bool:
    """Say whether a filter chooses a letter (X4); the time has been looked at."""
    return (
        filter.queue in (None, letter.lane.queue)
        and filter.task in (None, letter.task)
        and filter.kind in (None, letter.error.kind)
    )


_: type[DeadLetters] = RedisDeadLetters
