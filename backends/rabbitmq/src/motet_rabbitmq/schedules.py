"""Port C on RabbitMQ: records of the control shard, which fires each due time in one step with moving on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from motet.engine.wellformed import check_aware, check_count, check_each, check_parcels, check_text
from motet.message import Parcel
from motet.ports import Schedule, Schedules
from motet_rabbitmq import ops
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.calendar import Calendar, Entry
from motet_rabbitmq.machine import CONTROL

__all__ = ["RabbitSchedules"]


class RabbitSchedules:
    """One client's schedules."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def save(self, schedule: Schedule) -> Schedule | None:
        self.asking.check()
        check_each((schedule,), Schedule)
        if schedule.due is not None:
            check_aware(schedule.due)
        stored = await self.asking.ask(CONTROL, Calendar.save, Entry.of(schedule))
        return None if stored is None else stored.port

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        self.asking.check()
        check_parcels(parcels)
        check_aware(due)
        if following is not None:
            check_aware(following)
        wired = [ops.parcel(parcel) for parcel in parcels]
        return await self.asking.ask(CONTROL, Calendar.fire, name, due, following, wired)

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        self.asking.check()
        check_text(*names)
        found = await self.asking.ask(CONTROL, Calendar.get, list(names))
        return [None if entry is None else entry.port for entry in found]

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        self.asking.check()
        check_aware(until)
        check_count(limit, "limit")
        return [entry.port for entry in await self.asking.ask(CONTROL, Calendar.due, until, limit)]

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        self.asking.check()
        check_count(limit, "limit")
        return [entry.port for entry in await self.asking.ask(CONTROL, Calendar.page, after, limit)]

    async def remove(self, name: str) -> bool:
        self.asking.check()
        check_text(name)
        return await self.asking.ask(CONTROL, Calendar.remove, name)


_: type[Schedules] = RabbitSchedules
