"""Plain functions: off the loop, in threads that nobody can kill."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import Context, FixedDelay, Motet, TaskCancelled, TaskFailed, injected


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocks threads until the test lets them go."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_thousand_calls_run_in_threads_while_the_loop_turns(app: Motet, calls: list[Any]) -> None:
    turns = 0

    @app.task
    def work(number: int) -> int:
        calls.append(threading.current_thread().name)
        time.sleep(0.0001)
        return number

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0.001)
            turns += 1

    async with app, anyio.create_task_group() as group:
        group.start_soon(turn)
        runs = await app.submit_many(work.s(number) for number in range(1000))
        await app.make_worker(burst=True, threads=8).serve()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            assert [await run.result(0) for run in runs] == list(range(1000))

    assert len(calls) == 1000
    assert len(set(calls)) <= 8
    assert all(name.startswith("motet-task") for name in calls)
    assert turns > 5


async def test_context_variables_are_copied_into_the_thread_and_do_not_come_back(app: Motet, calls: list[Any]) -> None:
    colour: ContextVar[str] = ContextVar("colour", default="none")

    @app.task
    def paint(name: str) -> None:
        calls.append(colour.get())
        colour.set(name)

    colour.set("white")
    async with app:
        await app.submit_many(paint.s(str(number)) for number in range(10))
        await app.make_worker(burst=True, threads=1).serve()

    assert calls == ["white"] * 10
    assert colour.get() == "white"


async def test_a_thread_out_of_time_is_settled_and_counted_until_it_returns(
    app: Motet, gate: threading.Event, until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(timeout=0.05)
    def stuck() -> str:
        gate.wait(5)
        return "too late"

    async with app, app.worker(concurrency=2) as worker:
        run = await stuck.delay()
        with caplog.at_level(logging.WARNING), pytest.raises(TaskFailed) as caught:
            await run.result(5)
        await until(lambda: not worker.held)

        assert caught.value.error.kind == "timeout"
        assert "goes on in its thread" in caplog.text
        assert (worker.stuck, worker.active, worker.room) == (1, 1, 1)
        gate.set()
        await until(lambda: (worker.stuck, worker.active) == (0, 0))
        with pytest.raises(TaskFailed):
            await run.result(0)


async def test_waiting_for_a_thread_does_not_count_as_running(app: Motet) -> None:
    @app.task(timeout=0.3)
    def work() -> None:
        time.sleep(0.1)

    async with app, app.worker(threads=1):
        runs = await app.submit_many(work.s() for _ in range(6))
        assert [await run.result(5) for run in runs] == [None] * 6


async def test_a_cancelled_thread_is_told_and_one_that_waits_never_starts(
    app: Motet, gate: threading.Event, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    def work(number: int, ctx: Context = injected) -> None:
        calls.append(number)
        while not ctx.cancelled and not gate.is_set():
            time.sleep(0.001)
        calls.append(f"{number} told")

    async with app, app.worker(threads=1) as worker:
        runs = await app.submit_many([work.s(0), work.s(1)])
        await until(lambda: calls)
        for run in reversed(runs):
            await run.cancel()
            with pytest.raises(TaskCancelled):
                await run.result(5)
        await until(lambda: not worker.active and not worker.held)

    assert calls == [0, "0 told"]


async def test_a_failure_in_a_thread_is_retried(app: Motet, calls: list[Any]) -> None:
    @app.task(retry_policy=FixedDelay(0.01, max_retries=2, on=(LookupError,)))
    def fails() -> None:
        calls.append(1)
        raise KeyError("nothing")

    async with app, app.worker():
        with pytest.raises(TaskFailed) as caught:
            await (await fails.delay()).result(5)

    assert (caught.value.error.type, caught.value.error.attempts, len(calls)) == ("KeyError", 3, 3)


async def test_stopping_gives_back_what_waits_for_a_thread_and_what_outlives_the_grace(
    app: Motet, gate: threading.Event, until: Callable[..., Any]
) -> None:
    begun: list[int] = []

    @app.task
    def work(number: int) -> None:
        begun.append(number)
        gate.wait(5)

    async with app:
        await app.submit_many(work.s(number) for number in range(3))
        async with app.worker(threads=1, grace=timedelta(seconds=0.05)):
            await until(lambda: begun)

        (info,) = await app.backend.transport.queues()
        assert (info.ready, info.held) == (3, 0)
        gate.set()
        await app.make_worker(burst=True).serve()

    assert sorted(begun) == [0, 0, 1, 2]


async def test_a_thread_that_returns_after_its_worker_has_ended_changes_nothing(
    app: Motet, gate: threading.Event, until: Callable[..., Any]
) -> None:
    begun: list[int] = []

    @app.task
    def work() -> int:
        begun.append(1)
        gate.wait(5)
        return len(begun)

    async with app:
        run = await work.delay()
        async with app.worker(grace=timedelta()) as worker:
            await until(lambda: begun)
        gate.set()
        await until(lambda: not worker.handler.in_threads)

        assert not await run.ready()
        await app.make_worker(burst=True).serve()
        assert await run.result(0) == 2
