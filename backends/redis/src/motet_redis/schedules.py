"""Port C on Redis."""

from __future__ import annotations

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

SCHEDULES = Script.of("messages", "schedules")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RedisSchedules:
    """One client's schedules."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _call(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(SCHEDULES, op, encode(arguments))

    async def save(self, schedule: Schedule) -> Schedule | None:
        self._client.check()
        check_each((schedule,), Schedule)
        if schedule.due is not None:
            check_aware(schedule.due)
        given = schedule.name, _text(schedule.due), schedule.version, schedule.paused, raw(schedule.spec)
        return _schedule(await self._call("save", *given))

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        self._client.check()
        check_text(name)
        check_parcels(parcels)
        check_aware(due)
        if following is not None:
            check_aware(following)
        fired = await self._call("fire", name, _text(due), _text(following), [parcel(each) for each in parcels])
        return bool(fired == 1)

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        self._client.check()
        check_text(*names)
        return [_schedule(found) for found in await self._call("get", names)]

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        self._client.check()
        check_aware(until)
        check_count(limit, "limit")
        found = map(_schedule, await self._call("due", _text(until), limit))
        return [schedule for schedule in found if schedule is not None]

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        self._client.check()
        check_count(limit, "limit")
        found = map(_schedule, await self._call("page", after or "", limit))
        return [schedule for schedule in found if schedule is not None]

    async def remove(self, name: str) -> bool:
        self._client.check()
        check_text(name)
        return bool(await self._call("remove", name))


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
