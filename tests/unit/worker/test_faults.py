"""A broker that is away, and errors where none is expected: nothing ends a worker, nothing is lost."""

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from motet import Context, Motet, Rejected, TaskFailed, Unavailable, group, injected
from motet.memory.clock import VirtualClock


@pytest.mark.parametrize("call", ["receive", "settle", "flags", "queues"])
async def test_r62_a_broker_that_is_away_delays_and_loses_nothing(
    virtual: Motet, clock: VirtualClock, faults: Any, call: str, calls: list[Any]
) -> None:
    @virtual.task
    async def note(number: int) -> int:
        calls.append(number)
        return number

    async with virtual:
        faulty = faults(virtual)
        runs = await virtual.submit_many(note.s(number) for number in range(10))
        faulty.errors[call] = [Unavailable("away")] * 3
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(virtual.make_worker(burst=True, concurrency=4).serve)
            await clock.advance(30)

        assert [await run.result(0) for run in runs] == list(range(10))
        assert sorted(calls) == list(range(10))
        assert faulty.errors[call] == []


async def test_r62_the_pause_after_a_failed_receive_grows(virtual: Motet, clock: VirtualClock, faults: Any) -> None:
    async with virtual:
        faulty = faults(virtual)
        faulty.errors["receive"] = [Unavailable("away")] * 1000
        async with virtual.worker():
            await clock.advance(60)
            faulty.errors.clear()
            await clock.advance(10)

        assert 8 <= faulty.made.count("receive") <= 25


@pytest.mark.parametrize("error", [Unavailable("away"), Rejected("no space")])
async def test_a_store_that_is_away_while_a_plan_is_read_delays_the_slot(
    virtual: Motet, clock: VirtualClock, faults: Any, error: Exception
) -> None:
    @virtual.task
    async def one(n: int) -> int:
        return n

    @virtual.task
    async def total(ns: list[int]) -> int:
        return sum(ns)

    async with virtual:
        faulty = faults(virtual)
        run = await (group(one.s(n) for n in range(40)) | total.s()).submit()
        faulty.errors["get"] = [error] * 5
        async with virtual.worker():
            await clock.advance(30)

        assert await run.result(0) == sum(range(40))
        assert faulty.errors["get"] == []


async def test_an_unexpected_error_while_a_plan_is_read_fails_the_run_and_not_the_worker(
    virtual: Motet, clock: VirtualClock, faults: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual.task
    async def one(n: int) -> int:
        return n

    async with virtual:
        faulty = faults(virtual)
        run = await group(one.s(n) for n in range(3000)).submit()
        faulty.errors["get"] = [ZeroDivisionError("a bug")]
        with caplog.at_level(logging.ERROR):
            async with virtual.worker():
                await clock.advance(5)
                ok = await one.delay(1)
                await clock.advance(5)
                assert await ok.result(0) == 1
                assert await run.failed()
    assert run.id in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("part", ["look", "check"])
async def test_a_bug_before_a_task_starts_is_its_runs_failure(
    app: Motet, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    async def one() -> int:
        return 1

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    async with app, app.worker() as worker:
        monkeypatch.setattr(worker.handler.resolver, part, broken)
        run = await one.delay()
        with caplog.at_level(logging.ERROR), pytest.raises(TaskFailed) as caught:
            await run.result(5)
        monkeypatch.undo()
        assert caught.value.error.kind == "settle_error"
        assert run.id in caplog.text
        assert await (await one.delay()).result(5) == 1
        assert worker.active == 0


async def test_a_bug_in_deciding_is_its_runs_failure(
    app: Motet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from motet.worker.settle import Decider

    @app.task
    async def one() -> int:
        return 1

    @app.task
    def plain() -> int:
        return 1

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    async with app, app.worker() as worker:
        monkeypatch.setattr(Decider, "succeeded", broken)
        for task in (one, plain):
            run = await task.delay()
            with caplog.at_level(logging.ERROR), pytest.raises(TaskFailed) as caught:
                await run.result(5)
            assert caught.value.error.kind == "settle_error"
        monkeypatch.undo()
        assert await (await one.delay()).result(5) == 1
        assert not worker.active


async def test_a_bug_in_everything_leaves_the_message_to_its_lease(
    app: Motet, monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from motet.worker.settle import Decider

    @app.task
    async def one() -> int:
        return 1

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    async with app, app.worker() as worker:
        with caplog.at_level(logging.ERROR):
            monkeypatch.setattr(Decider, "program", broken)
            await one.delay()
            await until(lambda: "deciding failed" in caplog.text and not worker.active)
        assert not worker.held
        monkeypatch.undo()
        assert await (await one.delay()).result(5) == 1


async def test_one_refused_settlement_does_not_spoil_its_batch(
    virtual: Motet, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual.task
    async def one(n: int) -> int:
        return n

    async with virtual:
        runs = await virtual.submit_many(one.s(n) for n in range(5))
        settle = virtual.backend.settler.settle

        async def picky(entries: Any) -> Any:
            if any(entry.delivery is not None and entry.delivery.id.startswith(runs[2].id) for entry in entries):
                raise Rejected("too large")
            return await settle(entries)

        monkeypatch.setattr(virtual.backend.settler, "settle", picky)
        with caplog.at_level(logging.ERROR):
            async with virtual.worker() as worker:
                await clock.advance(1)
                assert [await run.ready() for run in runs] == [True, True, False, True, True]
                assert not worker.held
    assert runs[2].id in caplog.text


async def test_progress_is_written_when_the_store_is_back(virtual: Motet, clock: VirtualClock, faults: Any) -> None:
    from motet.message import Key

    @virtual.task
    async def work(ctx: Context = injected) -> None:
        ctx.progress(3, 9)
        await clock.sleep(100)

    async with virtual:
        faulty = faults(virtual)
        run = await work.delay()
        async with virtual.worker():
            faulty.errors["put"] = [Unavailable("away")] * 2
            await clock.advance(5)
            (raw,) = await virtual.backend.store.get([Key(run.id, "g.0")])
            assert raw == b"\x92\x03\x09"
            await clock.advance(100)
