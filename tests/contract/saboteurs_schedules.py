"""Saboteurs of port C."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, saboteur

from motet.memory import MemoryBackend
from motet.message import Parcel
from motet.ports import Schedule

replaced = msgspec.structs.replace


@saboteur("C1")
def a_new_schedule_takes_the_place_of_another(backend: MemoryBackend) -> None:
    async def save(real: Any, schedule: Schedule) -> Any:
        stored = backend.world.schedules.get(schedule.name)
        if schedule.version == 0 and stored is not None:
            return await real(replaced(schedule, version=stored.version))
        return await real(schedule)

    instead(backend.schedules, "save")(save)


@saboteur("C1")
def a_paused_schedule_is_edited_whatever_its_version(backend: MemoryBackend) -> None:
    async def save(real: Any, schedule: Schedule) -> Any:
        stored = backend.world.schedules.get(schedule.name)
        if stored is not None and stored.paused:
            return await real(replaced(schedule, version=stored.version))
        return await real(schedule)

    instead(backend.schedules, "save")(save)


@saboteur("C2")
def of_many_at_once_several_fire(backend: MemoryBackend) -> None:
    async def fire(real: Any, name: str, due: datetime, *given: Any) -> bool:
        before = backend.world.schedules.get(name)
        await anyio.lowlevel.checkpoint()
        if before is not None and before.due == due:
            backend.world.schedules[name] = before
        fired: bool = await real(name, due, *given)
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C2")
def a_due_time_fires_again_when_its_message_is_gone(backend: MemoryBackend) -> None:
    last: dict[str, datetime] = vars(backend.world).setdefault("last", {})

    async def fire(real: Any, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        if last.get(name) == due and not any(parcel.id in backend.world.letters.all for parcel in parcels):
            await backend.transport.publish(parcels)
            return True
        fired: bool = await real(name, due, following, parcels)
        if fired:
            last[name] = due
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C2")
def after_its_last_due_time_a_schedule_is_gone(backend: MemoryBackend) -> None:
    async def fire(real: Any, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        fired: bool = await real(name, due, following, parcels)
        if fired and following is None:
            del backend.world.schedules[name]
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C3")
def a_paused_schedule_fires(backend: MemoryBackend) -> None:
    async def fire(real: Any, name: str, *given: Any) -> bool:
        kept = backend.world.schedules.get(name)
        if kept is not None:
            backend.world.schedules[name] = replaced(kept, paused=False)
        fired: bool = await real(name, *given)
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C3")
def what_was_removed_fires(backend: MemoryBackend) -> None:
    async def fire(real: Any, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        if name not in backend.world.schedules:
            await backend.transport.publish(parcels)
            return True
        fired: bool = await real(name, due, following, parcels)
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C3")
def what_was_edited_fires_at_its_former_time(backend: MemoryBackend) -> None:
    former: dict[str, datetime | None] = vars(backend.world).setdefault("former", {})

    async def save(real: Any, schedule: Schedule) -> Any:
        before = backend.world.schedules.get(schedule.name)
        saved = await real(schedule)
        if before is not None and saved != before:
            former[schedule.name] = before.due
        return saved

    async def fire(real: Any, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        if former.get(name) == due:
            await backend.transport.publish(parcels)
        fired: bool = await real(name, due, following, parcels)
        return fired

    instead(backend.schedules, "save")(save)
    instead(backend.schedules, "fire")(fire)


@saboteur("C4")
def firing_forgets_the_spec(backend: MemoryBackend) -> None:
    async def fire(real: Any, name: str, *given: Any) -> bool:
        fired: bool = await real(name, *given)
        if fired:
            backend.world.schedules[name] = replaced(backend.world.schedules[name], spec=b"")
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C4")
def firing_keeps_the_version(backend: MemoryBackend) -> None:
    async def fire(real: Any, name: str, *given: Any) -> bool:
        fired: bool = await real(name, *given)
        if fired:
            fired_one = backend.world.schedules[name]
            backend.world.schedules[name] = replaced(fired_one, version=fired_one.version - 1)
        return fired

    instead(backend.schedules, "fire")(fire)


@saboteur("C5")
def what_is_paused_is_due(backend: MemoryBackend) -> None:
    async def due(real: Any, until: datetime, limit: int) -> Any:
        paused = [each for each in backend.world.schedules.values() if each.paused and each.due and each.due <= until]
        return (paused + await real(until, limit))[:limit]

    instead(backend.schedules, "due")(due)


@saboteur("C5")
def what_is_due_at_that_very_time_is_not_listed(backend: MemoryBackend) -> None:
    async def due(real: Any, until: datetime, limit: int) -> list[Schedule]:
        return [each for each in await real(until, limit) if each.due != until]

    instead(backend.schedules, "due")(due)


@saboteur("C5")
def what_is_due_is_listed_by_name(backend: MemoryBackend) -> None:
    async def due(real: Any, until: datetime, limit: int) -> list[Schedule]:
        return sorted(await real(until, limit), key=lambda each: each.name, reverse=True)

    instead(backend.schedules, "due")(due)


@saboteur("C5")
def what_is_due_later_is_listed(backend: MemoryBackend) -> None:
    async def due(real: Any, until: datetime, limit: int) -> list[Schedule]:
        found: list[Schedule] = await real(until.replace(year=until.year + 1), limit)
        return found

    instead(backend.schedules, "due")(due)


@saboteur("C5")
def what_is_due_is_listed_without_limit(backend: MemoryBackend) -> None:
    async def due(real: Any, until: datetime, limit: int) -> Any:
        return await real(until, limit) and await real(until, 1000)

    instead(backend.schedules, "due")(due)


@saboteur("C6")
def schedules_are_listed_in_the_order_of_their_making(backend: MemoryBackend) -> None:
    async def page(real: Any, after: str | None, limit: int) -> list[Schedule]:
        names = list(backend.world.schedules)
        start = names.index(after) + 1 if after in names else 0
        return list(backend.world.schedules.values())[start : start + limit]

    instead(backend.schedules, "page")(page)


@saboteur("C6")
def what_has_ended_is_not_listed(backend: MemoryBackend) -> None:
    async def page(real: Any, after: str | None, limit: int) -> list[Schedule]:
        return [each for each in await real(after, 1000) if each.due is not None][:limit]

    instead(backend.schedules, "page")(page)


@saboteur("C6")
def what_is_paused_is_not_listed(backend: MemoryBackend) -> None:
    async def page(real: Any, after: str | None, limit: int) -> list[Schedule]:
        return [each for each in await real(after, 1000) if not each.paused][:limit]

    instead(backend.schedules, "page")(page)


@saboteur("C6")
def a_page_of_schedules_skips_one(backend: MemoryBackend) -> None:
    async def page(real: Any, after: str | None, limit: int) -> list[Schedule]:
        found: list[Schedule] = await real(after, limit + 1)
        return found[1:] if after in backend.world.schedules else found[:limit]

    instead(backend.schedules, "page")(page)


@saboteur("C7")
def removing_always_says_that_there_was_one(backend: MemoryBackend) -> None:
    async def remove(real: Any, name: str) -> bool:
        await real(name)
        return True

    instead(backend.schedules, "remove")(remove)


@saboteur("C7")
def removing_takes_what_begins_alike(backend: MemoryBackend) -> None:
    async def remove(real: Any, name: str) -> bool:
        removed = [await real(each) for each in list(backend.world.schedules) if each.startswith(name)]
        return any(removed)

    instead(backend.schedules, "remove")(remove)


@saboteur("C7")
def an_edit_brings_a_removed_schedule_back(backend: MemoryBackend) -> None:
    async def save(real: Any, schedule: Schedule) -> Any:
        known = schedule.name in backend.world.schedules
        return await real(schedule if known else replaced(schedule, version=0))

    instead(backend.schedules, "save")(save)


@saboteur("C7")
def a_new_schedule_counts_on_from_the_one_before(backend: MemoryBackend) -> None:
    last: dict[str, int] = vars(backend.world).setdefault("last", {})

    async def save(real: Any, schedule: Schedule) -> Any:
        new = schedule.name not in backend.world.schedules and schedule.version == 0
        saved = await real(schedule)
        if new and saved is not None and schedule.name in last:
            saved = backend.world.schedules[schedule.name] = replaced(saved, version=last[schedule.name] + 1)
        return saved

    async def remove(real: Any, name: str) -> bool:
        if name in backend.world.schedules:
            last[name] = backend.world.schedules[name].version
        removed: bool = await real(name)
        return removed

    instead(backend.schedules, "save")(save)
    instead(backend.schedules, "remove")(remove)


@saboteur("C8")
def schedules_go_with_the_client_that_made_them(backend: MemoryBackend) -> None:
    made: set[str] = set()

    async def save(real: Any, schedule: Schedule) -> Any:
        if schedule.version == 0:
            made.add(schedule.name)
        return await real(schedule)

    def close(real: Any) -> None:
        for name in made:
            backend.world.schedules.pop(name, None)
        real()

    instead(backend.schedules, "save")(save)
    instead(backend, "close")(close)
