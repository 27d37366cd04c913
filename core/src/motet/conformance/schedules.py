"""Clauses C1 to C8: each due time fires once, whoever asks."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import Stage
from motet.ports import Backend, Schedule

__all__ = ["SchedulesContract"]

HOUR = timedelta(hours=1)


def at(stage: Stage, seconds: float) -> datetime:
    """Return an instant of whole milliseconds, which every backend can keep."""
    moment = stage.clock.now() + timedelta(seconds=seconds)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


async def made(
    stage: Stage, name: str, due: datetime | None, *, spec: bytes = b"spec", paused: bool = False
) -> Schedule:
    """Save a new schedule."""
    saved = await stage.a.schedules.save(Schedule(stage.name(name), due, spec, paused))
    assert saved is not None
    return saved


async def fire(stage: Stage, backend: Backend, schedule: Schedule, following: datetime | None) -> bool:
    """Fire a schedule as a worker does."""
    assert schedule.due is not None
    parcel = stage.parcel(f"{schedule.name}@{schedule.due.timestamp():.3f}:1")
    return await backend.schedules.fire(schedule.name, schedule.due, following, [parcel])


class SchedulesContract(Contract):
    """Port C."""

    @proves("C1")
    async def test_c1_save_compares_versions(self, stage: Stage) -> None:
        first = await made(stage, "s", at(stage, 60))
        edited = Schedule(first.name, at(stage, 90), b"edited", True, first.version)

        saved = await stage.b.schedules.save(edited)
        refused = await stage.a.schedules.save(Schedule(first.name, None, b"late", False, first.version))

        assert (first.version, first.spec, first.paused) == (1, b"spec", False)
        assert saved == Schedule(first.name, edited.due, b"edited", True, 2)
        assert refused == saved
        assert await stage.b.schedules.get([first.name, stage.name("unknown")]) == [saved, None]

    @proves("C1")
    async def test_c1_of_two_that_make_a_schedule_one_does(self, stage: Stage) -> None:
        first = await made(stage, "s", None)

        second = await stage.b.schedules.save(Schedule(first.name, None, b"second"))

        assert second == first

    @proves("C2")
    async def test_c2_of_many_at_once_one_fires(self, stage: Stage) -> None:
        schedule = await made(stage, "s", at(stage, -1))
        following = at(stage, 3600)
        answers: list[bool] = []

        async def try_it(number: int) -> None:
            answers.append(await fire(stage, (stage.a, stage.b)[number % 2], schedule, following))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(try_it, number)

        assert sorted(answers) == [False] * 9 + [True]
        assert len(await stage.taken(stage.b)) == 1
        [moved] = await stage.b.schedules.get([schedule.name])
        assert moved is not None
        assert moved.due == following

    @proves("C2")
    async def test_c2_a_due_time_does_not_fire_again_after_its_message_is_gone(self, stage: Stage) -> None:
        schedule = await made(stage, "s", at(stage, -1))
        assert await fire(stage, stage.a, schedule, at(stage, 3600))
        await stage.a.transport.ack(await stage.take(stage.a))

        assert not await fire(stage, stage.b, schedule, at(stage, 7200))

        assert await stage.taken(stage.b) == []

    @proves("C2")
    async def test_c2_the_last_due_time_leaves_the_schedule_at_its_end(self, stage: Stage) -> None:
        schedule = await made(stage, "s", at(stage, -1))

        assert await fire(stage, stage.a, schedule, None)

        [ended] = await stage.b.schedules.get([schedule.name])
        assert ended is not None
        assert ended.due is None
        assert schedule.name not in [each.name for each in await stage.b.schedules.due(at(stage, 9e6), 1000)]

    @proves("C3")
    async def test_c3_what_is_paused_removed_or_moved_on_does_not_fire(self, stage: Stage) -> None:
        due = at(stage, -1)
        paused = await made(stage, "paused", due, paused=True)
        removed = await made(stage, "removed", due)
        moved = await made(stage, "moved", due)
        await stage.b.schedules.remove(removed.name)
        await stage.b.schedules.save(Schedule(moved.name, at(stage, 60), b"", version=moved.version))

        for schedule in (paused, removed, moved):
            assert not await fire(stage, stage.a, schedule, at(stage, 3600))

        assert await stage.taken(stage.b) == []

    @proves("C4")
    async def test_c4_firing_keeps_the_rest_and_fails_an_older_edit(self, stage: Stage) -> None:
        schedule = await made(stage, "s", at(stage, -1), spec=b"\x00\xff kept")
        following = at(stage, 3600)

        await fire(stage, stage.a, schedule, following)
        answer = await stage.b.schedules.save(Schedule(schedule.name, None, b"old", version=schedule.version))

        assert answer == Schedule(schedule.name, following, b"\x00\xff kept", False, schedule.version + 1)

    @proves("C5")
    async def test_c5_due_lists_what_shall_fire_the_longest_due_first(self, stage: Stage) -> None:
        now = at(stage, 0)
        for name, seconds in (("b", -20.0), ("c", 0.0), ("a", -30.0), ("later", 60.0)):
            await made(stage, name, now + timedelta(seconds=seconds))
        await made(stage, "paused", at(stage, -40), paused=True)
        await made(stage, "ended", None)

        found = [each.name for each in await stage.b.schedules.due(now, 1000)]
        mine = [name for name in found if name.startswith(stage.name(""))]

        assert mine == [stage.name(name) for name in "abc"]
        assert len(await stage.b.schedules.due(at(stage, 0), 2)) == 2

    @proves("C6")
    async def test_c6_page_lists_all_by_name(self, stage: Stage) -> None:
        names = sorted(stage.name(name) for name in ("b", "a", "d", "c", "e"))
        for number, name in enumerate(reversed(names)):
            due = None if number == 1 else at(stage, 60)
            await stage.a.schedules.save(Schedule(name, due, b"", paused=number == 2))

        found: list[str] = []
        after: str | None = stage.name("")
        while page := [each.name for each in await stage.b.schedules.page(after, 2)]:
            assert len(page) <= 2
            found += page
            after = page[-1]

        assert [name for name in found if name in names] == names

    @proves("C7")
    async def test_c7_remove_forgets_a_schedule(self, stage: Stage) -> None:
        schedule = await made(stage, "s", at(stage, 60))
        other = await made(stage, "s2", at(stage, 60))

        assert await stage.b.schedules.remove(schedule.name)
        assert not await stage.a.schedules.remove(schedule.name)
        assert await stage.b.schedules.get([schedule.name, other.name]) == [None, other]
        assert await stage.b.schedules.save(schedule) is None
        again = await made(stage, "s", at(stage, 60))
        assert again.version == 1

    @proves("C8")
    async def test_c8_schedules_survive_whoever_made_them(self, stage: Stage) -> None:
        schedule = Schedule(stage.name("s"), at(stage, 60), b"spec")
        async with stage.client() as maker:
            await maker.schedules.save(schedule)

        [found] = await stage.b.schedules.get([schedule.name])

        assert found == Schedule(schedule.name, schedule.due, b"spec", False, 1)
