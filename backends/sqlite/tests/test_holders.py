"""Locks and rates by the boot clock, and what is remembered of them."""

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from motet.ports import Busy, Grant, Lock, Present
from motet.ports.ambient import SystemClock
from motet_sqlite import SqliteBackend, holders, uptime, workers
from motet_sqlite.database import Database

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

LONG = timedelta(minutes=1)
MUTEX = Lock("m", "mutex")


class Shifted(SystemClock):
    """The machine's clock, set wrong by somebody."""

    shift = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift


async def fence(backend: SqliteBackend, owner: str, *locks: Lock, lease: timedelta = LONG) -> int:
    answer = await backend.locks.acquire(locks, owner, lease)
    assert isinstance(answer, Grant)
    return answer.fence


async def busy(backend: SqliteBackend, owner: str, *locks: Lock) -> bool:
    return isinstance(await backend.locks.acquire(locks, owner, LONG), Busy)


def restart(patch: pytest.MonkeyPatch, by: int) -> None:
    """Let this be another start of the machine."""
    other = uptime.boot() + by
    for module in (holders, workers):
        patch.setattr(module, "boot", lambda: other)


@pytest.mark.parametrize("by", [-1, 1])
async def test_a_lock_of_another_start_of_the_machine_is_over(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, by: int
) -> None:
    async with connect() as backend:
        before = await fence(backend, "before", MUTEX)
        await backend.workers.beat(Present("w", b""), LONG)

        restart(monkeypatch, by)

        assert await backend.locks.held("") == []
        assert not await backend.locks.renew("before", LONG)
        assert await fence(backend, "after", MUTEX) > before
        assert await backend.workers.present() == []


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_jump_of_the_wall_clock_ends_no_lock_and_no_window(connect: Connect, hours: int) -> None:
    clock = Shifted()
    rate = Lock("r", "rate", 1, timedelta(minutes=10))
    async with connect(clock=clock) as backend:
        await fence(backend, "one", MUTEX, rate)

        clock.shift = timedelta(hours=hours)

        assert await busy(backend, "two", MUTEX)
        assert await busy(backend, "two", rate)
        assert await backend.locks.renew("one", LONG)


async def test_a_window_goes_on_over_a_restart_of_the_machine(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Shifted()
    rate = Lock("r", "rate", 1, timedelta(minutes=10))
    async with connect(clock=clock) as backend:
        await fence(backend, "one", rate)
        restart(monkeypatch, 1)

        clock.shift = timedelta(minutes=9)
        assert await busy(backend, "two", rate)
        clock.shift = timedelta(minutes=11)
        assert not await busy(backend, "two", rate)


@pytest.mark.parametrize("seed", range(3))
async def test_l5_a_rate_is_exact_in_every_window(connect: Connect, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng, limit, window = random.Random(seed), 4, 10.0
    rate = Lock("r", "rate", limit, timedelta(seconds=window))
    granted: list[float] = []
    moment = uptime.uptime()
    monkeypatch.setattr(holders, "uptime", lambda: moment)
    async with connect(query="?synchronous=off") as backend:
        for number in range(200):
            moment += rng.expovariate(0.7)

            refused = await busy(backend, f"o{number}", rate)

            recent = [at for at in granted if at > moment - window]
            assert refused == (len(recent) >= limit)
            granted += [] if refused else [moment]
            if number % 20 == 0:
                await backend.desk.look(lambda database: sweep(database, 0.0))
        assert len(granted) > 50


def sweep(database: Database, wall: float) -> None:
    with database.transaction():
        while holders.forget(database, wall, 100) == 100:
            pass


async def test_l4_what_was_lost_is_remembered_as_long_as_anything_is_held(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = uptime.uptime()
    monkeypatch.setattr(holders, "uptime", lambda: moment)
    async with connect() as backend:
        await fence(backend, "o", MUTEX, Lock("s", "semaphore", 2), Lock("r", "rate", 1, timedelta(days=1)))
        await backend.locks.free("m")
        await backend.desk.look(lambda database: sweep(database, 0.0))
        assert not await backend.locks.renew("o", LONG)

        moment += 120
        await backend.desk.look(lambda database: sweep(database, 0.0))

        assert not await backend.locks.renew("o", LONG)
        rows = "SELECT (SELECT count(*) FROM {holder}), (SELECT count(*) FROM {spent})"
        assert await backend.desk.look(lambda database: database.rows(rows)) == [(0, 1)]


async def test_l8_more_than_is_held_has_a_new_fence(connect: Connect) -> None:
    other, rate = Lock("n", "mutex"), Lock("r", "rate", 1, LONG)
    async with connect() as backend:
        first = await fence(backend, "o", MUTEX, rate)
        assert await fence(backend, "o", MUTEX, rate) == first

        second = await fence(backend, "o", other, MUTEX, rate)

        assert second > first
        assert await fence(backend, "o", MUTEX, other, rate) == second
        assert {holding.fence for holding in await backend.locks.held("")} == {second}


async def test_l6_a_reader_becomes_a_writer_when_it_is_alone(connect: Connect) -> None:
    read, write = Lock("rw", "read"), Lock("rw", "write")
    async with connect() as backend:
        await fence(backend, "one", read)
        await fence(backend, "two", read)
        assert await busy(backend, "one", write)

        await backend.locks.release("two")

        await fence(backend, "one", read, write)
        await fence(backend, "one", read)
        assert await busy(backend, "two", read)


async def test_a_release_that_is_asked_after_an_acquire_undoes_it(connect: Connect) -> None:
    async with connect() as backend, anyio.create_task_group() as group:
        group.start_soon(backend.locks.acquire, [MUTEX], "o", LONG)
        group.start_soon(backend.locks.release, "o")
    async with connect() as backend:
        assert await backend.locks.held("") == []
