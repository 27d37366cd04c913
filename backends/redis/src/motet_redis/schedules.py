"""Port C on Redis."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from motet.engine.wellformed import check_aware, check_count, check_each, check_parcels, check_text
from motet.message import Parcel
from motet.ports import Schedule, Schedules
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import encode, microseconds, parcel, raw

__all__ = ["RedisSchedules"]

SCHEDULES = Script.of("messages", "repeats", "schedules")
SLICE = 500
"""Schedules of one script call."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RedisSchedules:
    """One client's schedules."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _look(self, op: str, *arguments: Any) -> list[Schedule | None]:
        return [_schedule(found) for found in await self._client.call(SCHEDULES, op, encode(arguments))]

    async def _once(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(SCHEDULES, op, encode(arguments), secrets.token_hex(8))

    async def save(self, schedule: Schedule) -> Schedule | None:
        self._client.check()
        check_each((schedule,), Schedule)
        if schedule.due is not None:
            check_aware(schedule.due)
        given = schedule.name, _text(schedule.due), schedule.version, schedule.paused, raw(schedule.spec)
        return _schedule(await self._once("save", *given))

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        self._client.check()
        check_text(name)
        check_parcels(parcels)
        check_aware(due)
        if following is not None:
            check_aware(following)
        fired = await self._once("fire", name, _text(due), _text(following), [parcel(each) for each in parcels])
        return bool(fired == 1)

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        self._client.check()
        check_text(*names)
        slices = [names[first : first + SLICE] for first in range(0, len(names), SLICE)]
        return [found for part in slices for found in await self._look("get", part)]

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        self._client.check()
        check_aware(until)
        check_count(limit, "limit")
        found: list[Schedule] = []
        while len(found) < limit:
            count = min(SLICE, limit - len(found))
            part = await self._look("due", _text(until), len(found), count)
            found += filter(None, part)
            if len(part) < count:
                break
        return found

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        self._client.check()
        check_text(after or "")
        check_count(limit, "limit")
        found: list[Schedule] = []
        while len(found) < limit:
            count = min(SLICE, limit - len(found))
            part = await self._look("page", found[-1].name if found else after or "", count)
            found += filter(None, part)
            if len(part) < count:
                break
        return found

    async def remove(self, name: str) -> bool:
        self._client.check()
        check_text(name)
        return bool(await self._once("remove", name))


def _text(moment: datetime | None) -> str:
    """Write an instant so that it is compared exactly; a score of a set holds microseconds exactly too."""
    return "" if moment is None else str(microseconds(moment))


def _schedule(found: Any) -> Schedule | None:
    if found is None:
        return None
    name, due, version, paused, spec = found
    moment = EPOCH + timedelta(microseconds=int(due)) if due else None
    return Schedule(name.decode(), moment, spec, paused == 1, version)


_: type[Schedules] = RedisSchedules
