"""R60: a stop loses nothing, waits for what runs, and charges nobody."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import Motet, TaskFailed, Unavailable
from motet.options import Lane

LANE = Lane("default", "medium", 1)


async def take(app: Motet) -> Any:
    return await app.backend.transport.receive([LANE], 10, timedelta())


async def test_r60_untouched_messages_are_given_back_at_once(app: Motet, until: Callable[..., Any]) -> None:
    started: list[int] = []

    @app.task
    async def endless(number: int) -> None:
        started.append(number)
        worker.stop()
        await anyio.sleep_forever()

    async with app, anyio.create_task_group() as group:
        await app.submit_many(endless.s(number) for number in range(90))
        worker = app.make_worker(grace=timedelta(seconds=30))
        group.start_soon(worker.serve)
        await until(lambda: 0 < len(worker.held) < 90)

        given_back = await app.backend.transport.receive([LANE], 90, timedelta())
        assert len(started) + len(given_back) == 90
        assert {(each.deliveries, each.suspect) for each in given_back} == {(1, False)}
        group.cancel_scope.cancel()


async def test_r60_what_runs_may_end_within_the_grace(app: Motet, calls: list[Any], until: Callable[..., Any]) -> None:
    @app.task
    async def work() -> int:
        calls.append("begun")
        await anyio.sleep(0.1)
        return 1

    async with app:
        run = await work.delay()
        async with app.worker(grace=timedelta(seconds=5)):
            await until(lambda: calls)

        assert await run.result(0) == 1


async def test_r60_what_outlives_the_grace_is_cancelled_and_given_back_uncharged(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    async def endless() -> None:
        calls.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            assert await _ready(app) == 0  # given back only after it has cleaned up
            calls.append("cleaned up")

    async with app:
        run = await endless.delay()
        async with app.worker(grace=timedelta(seconds=0.05)):
            await until(lambda: calls)

        assert calls == ["begun", "cleaned up"]
        assert not await run.ready()
        (again,) = await take(app)
        assert again.deliveries == 1


async def _ready(app: Motet) -> int:
    with anyio.CancelScope(shield=True):
        return sum(info.ready for info in await app.backend.transport.queues())
    raise AssertionError("a shield lets nothing through")


async def test_a_task_that_ends_well_while_it_is_cancelled_is_settled(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    async def stubborn() -> int:
        calls.append("begun")
        try:
            await anyio.sleep(60)
        except BaseException:  # noqa: BLE001 - the point
            return 3
        return 4

    async with app:
        run = await stubborn.delay()
        async with app.worker(grace=timedelta()):
            await until(lambda: calls)

        assert await run.result(0) == 3


async def test_what_may_start_at_most_once_fails_when_its_worker_ends_before_it(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task(delivery="at_most_once")
    async def endless() -> None:
        calls.append("begun")
        await anyio.sleep_forever()

    async with app:
        run = await endless.delay()
        async with app.worker(grace=timedelta(seconds=0.05)):
            await until(lambda: calls)

        with pytest.raises(TaskFailed) as caught:
            await run.result(0)
        assert caught.value.error.kind == "stopped"


async def test_stop_ends_a_worker_that_waits_for_messages(app: Motet) -> None:
    async with app:
        with anyio.fail_after(1):
            async with app.worker():
                await anyio.sleep(0.01)


async def test_stop_ends_a_worker_whose_slots_are_all_busy(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    async def endless() -> None:
        calls.append(1)
        await anyio.sleep_forever()

    async with app:
        await app.submit_many(endless.s() for _ in range(4))
        with anyio.fail_after(3):
            async with app.worker(concurrency=2, grace=timedelta()):
                await until(lambda: len(calls) == 2)

        assert await _ready(app) == 4


async def test_a_worker_that_is_cancelled_itself_settles_and_gives_back(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    async def endless() -> None:
        calls.append(1)
        await anyio.sleep_forever()

    async with app:
        await app.submit_many(endless.s() for _ in range(3))
        async with anyio.create_task_group() as group:
            group.start_soon(app.make_worker(concurrency=2).serve)
            await until(lambda: len(calls) == 2)
            group.cancel_scope.cancel()

        assert [each.deliveries for each in await take(app)] == [1, 1, 1]


async def test_stop_while_the_broker_is_away_ends_too(
    app: Motet, calls: list[Any], until: Callable[..., Any], faults: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    async def endless() -> None:
        calls.append(1)
        await anyio.sleep_forever()

    async with app:
        faulty = faults(app)
        await endless.delay()
        with caplog.at_level(logging.WARNING), anyio.fail_after(5):
            async with app.worker(grace=timedelta()):
                await until(lambda: calls)
                faulty.errors["release"] = [Unavailable("away")] * 9

    assert "could not be given back" in caplog.text
