"""R59 and C10: whose message it is, what a dead worker's message does, and what poison may not do."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import FixedDelay, Motet, TaskFailed
from motet.memory.clock import VirtualClock
from motet.options import Lane
from motet.worker import execute
from motet.worker.lease import LeaseKeeper

LANE = Lane("default", "medium", 1)


async def die_with(app: Motet, clock: VirtualClock, count: int = 1) -> None:
    """Be a worker that takes messages and dies: they come back after their lease."""
    taken = await app.backend.transport.receive([LANE], count, timedelta())
    assert len(taken) == count
    clock.elapsed += 60


async def test_r59_a_task_that_blocks_the_loop_for_three_leases_runs_once(app: Motet, calls: list[Any]) -> None:
    app.lease = timedelta(seconds=0.3)

    @app.task
    async def blocks() -> None:
        calls.append(1)
        time.sleep(0.9)  # noqa: ASYNC251 - the point

    @app.task
    async def waits() -> None:
        calls.append(2)

    async with app:
        await app.submit_many([blocks.s(), waits.s()])
        async with app.worker(concurrency=2):
            await (await waits.delay()).result(5)
            await app.make_worker(burst=True).serve()

    assert sorted(calls) == [1, 2, 2]


async def test_r59_a_long_task_keeps_its_lease(app: Motet, calls: list[Any]) -> None:
    app.lease = timedelta(seconds=0.3)

    @app.task
    async def long() -> None:
        calls.append(1)
        await anyio.sleep(1.0)

    async with app:
        await long.delay()
        async with app.worker():
            await app.make_worker(burst=True).serve()

    assert calls == [1]


def test_a_loop_that_is_silent_too_long_loses_its_leases_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    extended: list[float] = []

    class Transport:
        def extend(self, receipts: list[str]) -> list[bool]:
            extended.append(time.monotonic() - begun)
            return [True] * len(receipts)

    transport: Any = Transport()
    keeper = LeaseKeeper(transport, timedelta(seconds=0.06), timedelta(seconds=0.1), lambda: ["receipt"])
    begun = time.monotonic()
    with caplog.at_level(logging.CRITICAL):
        keeper.start()
        keeper.thread.join(0.3)
        keeper.stop()
        keeper.thread.join(1)

    assert extended
    assert max(extended) < 0.2
    assert caplog.text.count("was silent for") == 1


def test_leases_that_cannot_be_renewed_are_tried_again_and_those_refused_are_told() -> None:
    answers: list[Any] = [OSError("away"), [True, False]]

    class Transport:
        def extend(self, receipts: list[str]) -> list[bool]:
            answer = answers.pop(0) if answers else [True] * len(receipts)
            if isinstance(answer, Exception):
                raise answer
            return list(answer)

    transport: Any = Transport()
    keeper = LeaseKeeper(transport, timedelta(seconds=0.03), timedelta(seconds=60), lambda: ["mine", "lost"])
    keeper.start()
    keeper.thread.join(0.1)
    keeper.stop()

    assert list(keeper.lost) == ["lost"]


async def test_a_task_whose_lease_is_lost_is_stopped_and_settles_nothing(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    async def work() -> int:
        calls.append("begun")
        if len(calls) > 1:
            return 2
        try:
            await anyio.sleep_forever()
        finally:
            calls.append("stopped")
        return 1

    async with app:
        run = await work.delay()
        async with app.worker(lease_thread=False) as worker:
            await until(lambda: calls)
            (receipt,) = worker.held
            worker.leases.lost.append(receipt)
            await until(lambda: calls == ["begun", "stopped"])
            await until(lambda: not worker.active)
            assert not worker.held
            assert not await run.ready()


async def test_a_late_settlement_of_a_lost_message_changes_nothing(virtual: Motet, clock: VirtualClock) -> None:
    attempts: list[int] = []
    late = anyio.Event()

    @virtual.task
    async def work() -> int:
        attempts.append(len(attempts))
        mine = attempts[-1]
        if mine == 0:
            await late.wait()  # nobody renews its lease, as if its process were stopped
        return mine

    async with virtual:
        run = await work.delay()
        async with virtual.worker(concurrency=1), virtual.worker(concurrency=1):
            await clock.advance(20)
            assert await run.result(0) == 1
            late.set()
            await clock.advance(1)
            assert await run.result(0) == 1
        assert await virtual.backend.transport.queues() == []
    assert attempts == [0, 1]


async def test_c10_a_message_that_comes_back_runs_alone_after_a_strike(virtual: Motet, clock: VirtualClock) -> None:
    running: set[str] = set()
    beside: dict[str, set[str]] = {}

    @virtual.task
    async def work(name: str) -> None:
        running.add(name)
        beside.setdefault(name, set()).update(running)
        await clock.sleep(1)
        running.discard(name)

    async with virtual:
        await virtual.submit_many([work.s("a"), work.s("b")])
        await die_with(virtual, clock, 2)
        await virtual.submit_many([work.s("c"), work.s("d")])
        async with virtual.worker():
            await clock.advance(20)

    assert beside["a"] == {"a"}
    assert beside["b"] == {"b"}
    assert set(beside) == {"a", "b", "c", "d"}


async def test_c10_quarantine_waits_no_longer_than_a_lease_for_a_long_task(
    virtual: Motet, clock: VirtualClock, calls: list[Any]
) -> None:
    @virtual.task
    async def long() -> None:
        await clock.sleep(1000)

    @virtual.task
    async def note(name: str) -> None:
        calls.append((name, clock.monotonic()))

    async with virtual:
        await note.delay("back")
        await die_with(virtual, clock)
        await virtual.backend.transport.pause("default")
        await long.s().submit(queue="other")
        async with virtual.worker(queues=("other", "default")) as worker:
            await clock.advance(1)
            await virtual.backend.transport.pause("default", paused=False)
            await note.delay("fresh")
            for _ in range(10):
                await clock.advance(4)
                worker.leases.renew()

    assert dict(calls)["back"] == pytest.approx(61 + 15, abs=1)


async def test_c10_what_has_killed_its_worker_too_often_fails_with_its_reason(
    virtual: Motet, clock: VirtualClock, calls: list[Any]
) -> None:
    @virtual.task(retry_policy=FixedDelay(1, max_retries=9))
    async def poison() -> None:
        calls.append("ran")

    async with virtual:
        run = await poison.delay()
        for _ in range(3):
            (delivery,) = await virtual.backend.transport.receive([LANE], 1, timedelta())
            await virtual.backend.transport.strike(delivery)
            clock.elapsed += 60
        # The next strike is the fourth: one more than `max_deliveries`.
        async with virtual.worker():
            await clock.advance(1)
            with pytest.raises(TaskFailed) as caught:
                await run.result(0)

    assert caught.value.error.kind == "worker_lost"
    assert calls == []


@pytest.mark.parametrize(("allowed", "runs"), [(1, 1), (3, 3)])
async def test_c10_a_task_may_kill_exactly_max_deliveries_workers(
    virtual: Motet, clock: VirtualClock, calls: list[Any], allowed: int, runs: int
) -> None:
    class Killed(BaseException):
        """The process is gone."""

    @virtual.task(max_deliveries=allowed)
    async def poison() -> None:
        calls.append(1)
        raise Killed

    passing = execute.not_the_tasks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "not_the_tasks", lambda error: error if isinstance(error, Killed) else passing(error))
        async with virtual:
            run = await poison.delay()
            for _ in range(runs + 1):
                worker = virtual.make_worker(burst=True)
                worker.backend = _dead_after(worker.backend)
                try:
                    async with anyio.create_task_group() as group:
                        group.start_soon(worker.serve)
                        await clock.advance(1)
                        group.cancel_scope.cancel()
                except BaseExceptionGroup as crash:
                    assert crash.subgroup(Killed) is not None  # noqa: PT017 - what serve was killed by
                clock.elapsed += 60
            with pytest.raises(TaskFailed) as caught:
                await run.result(0)

    assert caught.value.error.kind == "worker_lost"
    assert len(calls) == runs


def _dead_after(backend: Any) -> Any:
    """A dead process gives nothing back."""

    class Dead:
        def __init__(self, port: Any) -> None:
            self.port = port

        def __getattr__(self, name: str) -> Any:
            return getattr(self.port, name)

        @property
        def transport(self) -> Any:
            return Dead(self.port.transport)

        async def release(self, *args: Any) -> None: ...

    return Dead(backend)


async def test_c10_giving_back_is_no_strike(virtual: Motet, clock: VirtualClock) -> None:
    @virtual.task
    async def endless() -> None:
        await anyio.sleep_forever()

    async with virtual:
        await endless.delay()
        for _ in range(5):
            async with virtual.worker():
                await clock.advance(1)

        (delivery,) = await virtual.backend.transport.receive([LANE], 1, timedelta())
        assert delivery.deliveries == 1
        assert await virtual.backend.transport.strike(delivery) == 1
