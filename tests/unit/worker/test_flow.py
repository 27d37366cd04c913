"""How much a worker takes, in which order, and when a burst ends."""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import FixedDelay, Motet, Priority, Size, TaskFailed
from motet.options import Lane


@pytest.mark.parametrize("concurrency", [1, 2, 7])
async def test_r57_what_runs_and_what_waits_here_never_exceeds_the_limit(app: Motet, concurrency: int) -> None:
    running = most = most_held = 0

    @app.task
    async def work() -> None:
        nonlocal running, most, most_held
        running += 1
        most = max(most, running)
        (info,) = [info for info in await app.backend.transport.queues() if info.queue == "default"]
        most_held = max(most_held, info.held)
        assert worker.active + len(worker.quarantine) <= concurrency
        await anyio.sleep(0.002)
        running -= 1

    async with app:
        await app.submit_many(work.s() for _ in range(40))
        worker = app.make_worker(burst=True, concurrency=concurrency)
        await worker.serve()

    assert most == concurrency
    assert most_held <= 2 * concurrency  # the other half has ended, and is being settled


async def test_r57_a_lone_slot_takes_one_message(app: Motet, until: Callable[..., Any]) -> None:
    @app.task
    async def endless() -> None:
        await anyio.sleep_forever()

    async with app:
        await app.submit_many(endless.s() for _ in range(5))
        async with app.worker(concurrency=1, grace=timedelta()) as worker:
            await until(lambda: worker.active)
            (info,) = await app.backend.transport.queues()
            assert (info.held, info.ready) == (1, 4)


async def test_r58_higher_priority_goes_first_through_a_backlog(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def note(priority: int) -> None:
        calls.append(priority)
        if len(calls) == 10:
            await app.submit_many(note.s(0).set(priority=Priority.REALTIME) for _ in range(3))
        await anyio.sleep(0.001)

    async with app:
        await app.submit_many(note.s(2).set(priority=Priority.BACKGROUND) for _ in range(20))
        await app.submit_many(note.s(1) for _ in range(20))
        await app.make_worker(burst=True, concurrency=4).serve()

    assert calls.index(0) <= 10 + 4
    assert (
        max(at for at, each in enumerate(calls) if each == 1) - min(at for at, each in enumerate(calls) if each == 2)
        < 4
    )


async def test_a_worker_takes_only_from_its_queues_and_sizes(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def note(name: str) -> None:
        calls.append(name)

    async with app:
        await note.s("other queue").submit(queue="other")
        await note.s("other size").submit(size=Size.LARGE)
        await note.s("mine").submit(size=Size.SMALL)
        await app.make_worker(burst=True, sizes=(Size.SMALL,)).serve()

    assert calls == ["mine"]


async def test_a_burst_ends_when_nothing_is_left(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def grow(depth: int) -> None:
        calls.append(depth)
        await anyio.sleep(0.001)
        if depth:
            await app.submit_many([grow.s(depth - 1), grow.s(depth - 1)])

    async with app:
        await grow.delay(5)
        await app.make_worker(burst=True, concurrency=3).serve()

        assert len(calls) == 63
        assert await app.backend.transport.queues() == []


async def test_a_burst_with_nothing_to_do_ends_at_once(app: Motet) -> None:
    async with app:
        with anyio.fail_after(1):
            await app.make_worker(burst=True).serve()


async def test_a_burst_leaves_what_is_parked_to_the_next_worker(app: Motet, calls: list[Any]) -> None:
    @app.task(retry_policy=FixedDelay(60, max_retries=1))
    async def fails() -> None:
        calls.append(1)
        raise ValueError

    async with app:
        run = await fails.delay()
        await app.make_worker(burst=True).serve()

        (info,) = [info for info in await app.backend.transport.queues() if info.queue == "default"]
        assert (calls, info.parked, await run.ready()) == ([1], 1, False)


async def test_a_burst_waits_for_what_another_worker_holds(app: Motet, calls: list[Any]) -> None:
    app.lease = timedelta(seconds=0.2)

    @app.task
    async def note() -> None:
        calls.append(1)

    async with app:
        await note.delay()
        await app.backend.transport.receive([Lane("default", "medium", 1)], 1, timedelta())  # and then it dies
        await app.make_worker(burst=True).serve()

    assert calls == [1]


async def test_context_variables_do_not_leak_between_deliveries(app: Motet, calls: list[Any]) -> None:
    seen: ContextVar[str] = ContextVar("seen", default="nothing")

    @app.task
    async def mark(number: int) -> None:
        calls.append(seen.get())
        seen.set(f"mark {number}")
        await anyio.sleep(0.001)
        assert seen.get() == f"mark {number}"

    async with app:
        await app.submit_many(mark.s(number) for number in range(50))
        await app.make_worker(burst=True, concurrency=3).serve()

    assert calls == ["nothing"] * 50


async def test_map_starmap_and_chunks_run_their_calls_in_one_message_each(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def add(x: int, y: int = 1) -> int:
        calls.append((x, y))
        return x + y

    @app.task
    def double(x: int) -> int:
        return 2 * x

    async with app, app.worker():
        assert await (await add.map([1, 2, 3]).submit()).result(5) == [2, 3, 4]
        assert await (await add.starmap([(1, 2), (3, 4)]).submit()).result(5) == [3, 7]
        assert await (await add.chunks([(1, 1), (2, 2), (3, 3)], 2).submit()).result(5) == [[2, 4], [6]]
        assert await (await double.map(range(100)).submit()).result(5) == [2 * x for x in range(100)]


async def test_a_map_fails_with_its_first_failure(app: Motet) -> None:
    @app.task
    async def inverse(x: float) -> float:
        return 1 / x

    async with app, app.worker():
        run = await inverse.map([1, 0, 2]).submit()
        with pytest.raises(TaskFailed, match="ZeroDivisionError"):
            await run.result(5)


async def test_a_worker_is_alive_while_it_asks_for_work_or_has_all_it_can_do(
    virtual: Motet, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = timedelta(seconds=30)

    @virtual.task
    async def endless() -> None:
        await anyio.sleep_forever()

    async with virtual, virtual.worker(concurrency=1) as worker:
        await clock.advance(120)
        assert worker.alive(limit)
        receive, away = virtual.backend.transport.receive, anyio.Event()

        async def hang(*args: Any) -> Any:
            await away.wait()
            return await receive(*args)

        monkeypatch.setattr(virtual.backend.transport, "receive", hang)
        await clock.advance(120)
        assert not worker.alive(limit)
        away.set()
        await clock.advance(6)
        assert worker.alive(limit)
        await endless.delay()
        await clock.advance(120)
        assert worker.active == 1
        assert worker.alive(limit)
