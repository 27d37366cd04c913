"""Port C in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from motet.engine.wellformed import check_aware, check_count, check_each, check_parcels, check_text
from motet.memory.world import World
from motet.message import Parcel
from motet.ports import Schedule, Schedules

__all__ = ["MemorySchedules"]


class MemorySchedules:
    """One client's schedules."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def save(self, schedule: Schedule) -> Schedule | None:
        kept = self.world.schedules
        check_each((schedule,), Schedule)
        if schedule.due is not None:
            check_aware(schedule.due)
        stored = kept.get(schedule.name)
        if (0 if stored is None else stored.version) == schedule.version:
            stored = kept[schedule.name] = msgspec.structs.replace(schedule, version=schedule.version + 1)
        return stored

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        world = self.world
        check_parcels(parcels)
        check_aware(due)
        if following is not None:
            check_aware(following)
        stored = world.schedules.get(name)
        if stored is None or stored.paused or stored.due != due:
            return False
        world.letters.publish(parcels)
        world.schedules[name] = msgspec.structs.replace(stored, due=following, version=stored.version + 1)
        return True

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        kept = self.world.schedules
        check_text(*names)
        return [kept.get(name) for name in names]

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        kept = self.world.schedules
        check_aware(until)
        check_count(limit, "limit")
        found = [(each.due, each.name) for each in kept.values() if each.due and each.due <= until and not each.paused]
        return [kept[name] for _, name in sorted(found)[:limit]]

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        kept = self.world.schedules
        check_count(limit, "limit")
        names = sorted(name for name in kept if after is None or name > after)
        return [kept[name] for name in names[:limit]]

    async def remove(self, name: str) -> bool:
        kept = self.world.schedules
        check_text(name)
        return kept.pop(name, None) is not None


_: type[Schedules] = MemorySchedules
