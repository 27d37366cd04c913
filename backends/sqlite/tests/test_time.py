"""Two clocks: due times follow the wall, leases the machine (M4)."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports.ambient import SystemClock
from motet.program import Flag, Put
from motet_sqlite import SqliteBackend, messages, uptime

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

LANE = Lane("q", "small", 1)
NOW = timedelta()


class Shifted(SystemClock):
    """The machine's clock, set wrong by somebody."""

    shift = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift


async def test_m4_a_lease_of_another_start_of_the_machine_is_over(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in (uptime.boot() - 1, uptime.boot() + 1):
        async with connect() as backend:
            await backend.transport.publish([Parcel(f"run:{other}", LANE, b"")])
            with monkeypatch.context() as patch:
                patch.setattr(messages, "boot", lambda other=other: other)
                [taken] = await backend.transport.receive([LANE], 10, NOW)

            assert backend.transport.extend([taken.receipt]) == [False]
            [again] = await backend.transport.receive([LANE], 10, NOW)
            await backend.transport.ack([again])

        assert (again.deliveries, again.suspect) == (2, True)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_m4_a_jump_of_the_wall_clock_ends_no_lease(connect: Connect, hours: int) -> None:
    clock = Shifted()
    async with connect(clock=clock) as backend:
        await backend.transport.publish([Parcel("run:1", LANE, b"")])
        [taken] = await backend.transport.receive([LANE], 10, NOW)

        clock.shift = timedelta(hours=hours)

        assert await backend.transport.receive([LANE], 10, timedelta(seconds=0.3)) == []
        assert backend.transport.extend([taken.receipt]) == [True]


async def test_due_times_follow_the_wall_clock(connect: Connect) -> None:
    clock = Shifted()
    async with connect(clock=clock) as backend:
        due = clock.now() + timedelta(minutes=30)
        await backend.timers.park([Parcel("run:1", LANE, b"", due)])
        assert await backend.transport.receive([LANE], 10, NOW) == []

        async with anyio.create_task_group() as group:
            with anyio.fail_after(1):
                group.start_soon(backend.transport.receive, [LANE], 10, timedelta(seconds=10))
                await anyio.sleep(0.05)
                clock.shift = timedelta(hours=1)


async def test_s9_flags_are_kept_for_an_hour(connect: Connect) -> None:
    clock = Shifted()
    async with connect(clock=clock) as backend:
        await backend.store.flag([Flag("old", "", 0, 1)])
        clock.shift = timedelta(minutes=50)
        await backend.store.flag([Flag("new", "", 0, 1)])

        clock.shift = timedelta(minutes=61)

        assert [flag.run for flag in (await backend.store.flags(None))[1]] == ["new"]


async def test_runs_go_on_where_a_run_was_swept(connect: Connect) -> None:
    async with connect() as backend:
        for run in ("a", "b", "c", "d"):
            await backend.store.put([Put(Key(run, "r"), run.encode())])
        await backend.store.sweep("c", 10)

        assert await backend.store.runs("c", 10) == [("b", b"b"), ("a", b"a")]


async def test_more_than_a_slice_comes_due_at_once(connect: Connect) -> None:
    async with connect(query="?synchronous=off") as backend:
        due = datetime.now(UTC) - timedelta(seconds=1)
        await backend.timers.park([Parcel(f"run:{number}", LANE, b"", due) for number in range(1300)])

        taken = 0
        with anyio.fail_after(5):
            while taken < 1300:
                taken += len(await backend.transport.receive([LANE], 400, timedelta(seconds=1)))
