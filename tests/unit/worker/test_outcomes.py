"""What a task does, and what its run comes to."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import Fail, FixedDelay, Motet, Retry, TaskCancelled, TaskFailed, group
from motet.memory.clock import VirtualClock
from motet.message import VERSION, DeadLetter, Message, Order, Parcel, pack
from motet.options import CONTROL, Lane
from motet.ports import Filter

LANE = Lane("default", "medium", 1)


async def letters(app: Motet) -> list[DeadLetter]:
    return await app.backend.deadletters.page(Filter(), None, 100)


async def failure(run: Any) -> Any:
    with pytest.raises(TaskFailed) as caught:
        await run.result(5)
    return caught.value.error


async def test_a_timeout_ends_a_task_and_its_slot_goes_on(app: Motet, calls: list[Any]) -> None:
    @app.task(timeout=0.1)
    async def endless() -> None:
        calls.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            calls.append("cleaned up")

    @app.task
    async def quick() -> int:
        return 1

    async with app, app.worker(concurrency=1):
        run, following = await endless.delay(), await quick.delay()

        assert (await failure(run)).kind == "timeout"
        assert await following.result(5) == 1
    assert calls == ["begun", "cleaned up"]


async def test_a_timeout_is_the_outcome_whatever_the_task_raises_for_it(app: Motet) -> None:
    @app.task(timeout=0.05)
    async def bitter() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            raise ValueError from error

    async with app, app.worker():
        assert (await failure(await bitter.delay())).kind == "timeout"


async def test_a_task_that_ends_well_after_its_timeout_has_succeeded(app: Motet) -> None:
    @app.task(timeout=0.05)
    async def stubborn() -> int:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.3)
        return 7

    async with app, app.worker():
        run = await stubborn.delay()
        assert await run.result(5) == 7


async def test_a_timeout_is_retried_by_the_policy(app: Motet, calls: list[Any]) -> None:
    @app.task(timeout=0.05, retry_policy=FixedDelay(0.01, max_retries=2, on=(TimeoutError,)))
    async def slow() -> int:
        calls.append(1)
        if len(calls) < 3:
            await anyio.sleep_forever()
        return len(calls)

    async with app, app.worker():
        assert await (await slow.delay()).result(5) == 3


async def test_a_task_that_raises_cancelled_itself_has_failed(app: Motet, anyio_backend: str, calls: list[Any]) -> None:
    if anyio_backend == "trio":
        pytest.skip("trio gives nobody a Cancelled to raise")

    @app.task
    async def torn() -> None:
        raise asyncio.CancelledError

    @app.task
    async def whole() -> int:
        return 1

    async with app, app.worker(concurrency=1):
        assert (await failure(await torn.delay())).type == "CancelledError"
        assert await (await whole.delay()).result(5) == 1


@pytest.mark.parametrize("plain", [False, True])
async def test_a_task_that_exits_has_failed(app: Motet, plain: bool) -> None:
    @app.task(name="here:leave_soon")
    async def leave_soon() -> None:
        sys.exit(3)

    @app.task(name="here:leave")
    def leave() -> None:
        sys.exit(3)

    async with app, app.worker():
        run = await (leave if plain else leave_soon).delay()
        assert (await failure(run)).type == "SystemExit"


async def test_a_cancelled_run_stops_its_task_and_records_nothing_else(
    app: Motet, calls: list[Any], until: Callable[..., Any]
) -> None:
    @app.task
    async def endless() -> None:
        calls.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            calls.append("stopped")

    async with app, app.worker() as worker:
        run = await endless.delay()
        await until(lambda: calls == ["begun"])
        await run.cancel("enough")

        with pytest.raises(TaskCancelled, match="enough"):
            await run.result(5)
        await until(lambda: calls == ["begun", "stopped"])
        await until(lambda: not worker.held)
        assert worker.active == 0


async def test_what_is_cancelled_before_it_starts_never_starts(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def note(number: int) -> None:
        calls.append(number)

    async with app:
        runs = [await note.delay(number) for number in range(3)]
        await runs[1].cancel()
        await app.make_worker(burst=True).serve()

        with pytest.raises(TaskCancelled):
            await runs[1].result(0)
    assert calls == [0, 2]


async def test_retry_and_fail_say_what_happens_next(app: Motet, calls: list[Any]) -> None:
    @app.task(retry_policy=FixedDelay(60, max_retries=2))
    async def impatient() -> str:
        calls.append("again")
        if len(calls) < 3:
            raise Retry("not yet", delay=0.01)
        raise Fail("never")

    async with app, app.worker():
        error = await failure(await impatient.delay())

    assert (error.type, error.message, error.attempts) == ("Fail", "never", 3)
    assert calls == ["again"] * 3


async def test_a_retry_beyond_the_budget_is_a_failure(app: Motet) -> None:
    @app.task(retry_policy=FixedDelay(0.01, max_retries=1))
    async def hopeless() -> None:
        raise Retry("once more", delay=0)

    async with app, app.worker():
        assert (await failure(await hopeless.delay())).attempts == 2


async def test_what_expired_before_it_started_does_not_start(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def note() -> None:
        calls.append(1)

    async with app:
        run = await note.s().submit(expires=0)
        async with app.worker():
            assert (await failure(run)).kind == "expired"
    assert calls == []


async def test_an_unknown_task_fails_with_its_callbacks_and_is_kept_as_a_dead_letter(
    app: Motet, calls: list[Any]
) -> None:
    @app.task(name="old:gone")
    async def gone() -> None: ...

    @app.task
    async def tell(error: Any) -> None:
        calls.append(error["kind"])

    async with app:
        run = await gone.s().on_failure(tell.s()).submit()
        del app.registry.definitions["old:gone"]
        await app.make_worker(burst=True).serve()

        error = await failure(run)
        assert (error.kind, error.task) == ("unknown_task", "old:gone")
        assert [letter.error.kind for letter in await letters(app)] == ["unknown_task"]
    assert calls == ["unknown_task"]


async def test_a_group_learns_of_a_member_that_nobody_knows(app: Motet) -> None:
    @app.task(name="old:gone")
    async def gone() -> None: ...

    @app.task
    async def here() -> int:
        return 1

    async with app:
        run = await group(here.s(), gone.s()).submit()
        del app.registry.definitions["old:gone"]
        async with app.worker():
            error = await failure(run)

    assert [cause.kind for cause in error.causes] == ["unknown_task"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"not msgpack at all",
        pack(Message(VERSION + 1, Order.RUN, "run")),
        pack(Message(VERSION, Order.RUN, "run", plan=b"\x93broken")),
        pack(Message(VERSION, Order.RUN, "run", plan=b"\x93broken"))[:-3],
        b"\x91" * 5000,
    ],
)
async def test_bytes_that_nobody_can_read_are_kept_and_their_run_learns_of_it(app: Motet, raw: bytes) -> None:
    async with app:
        await app.backend.transport.publish([Parcel("run:0:r1", LANE, raw)])
        await app.make_worker(burst=True).serve()

        error = await failure(app.handle("run"))
        assert error.kind == "malformed"
        assert [(letter.id, letter.body) for letter in await letters(app)] == [("run:0:r1", raw)]
        assert await app.backend.transport.queues() == []


async def test_bytes_on_the_internal_lane_end_no_worker_and_no_run(app: Motet) -> None:
    async with app:
        await app.backend.transport.publish([Parcel("junk", CONTROL, b"?"), Parcel("a:b:c", LANE, b"?")])
        await app.make_worker(burst=True).serve()

        assert {letter.id for letter in await letters(app)} == {"junk", "a:b:c"}


async def test_arguments_of_another_release_are_a_failure_that_names_them(app: Motet) -> None:
    @app.task(name="here:task")
    async def before(x: int) -> int:
        return x

    async with app:
        run = await before.delay(1)
        other = Motet("memory://")

        @other.task(name="here:task")
        async def after(y: str) -> str:
            return y

        other.attach(app.backend)
        app.registry.definitions.update(other.registry.definitions)
        async with app.worker():
            error = await failure(run)

    assert (error.kind, error.task) == ("malformed", "here:task")
    assert "x" in error.message


async def test_a_result_that_cannot_travel_fails_the_task(app: Motet) -> None:
    @app.task
    async def odd() -> Any:
        return object()

    async with app, app.worker():
        assert (await failure(await odd.delay())).kind == "not_serializable"


async def test_at_most_once_is_acknowledged_before_it_runs(app: Motet, calls: list[Any]) -> None:
    @app.task(delivery="at_most_once")
    async def risky() -> int:
        calls.append(await app.backend.transport.queues())
        return 5

    async with app, app.worker():
        assert await (await risky.delay()).result(5) == 5
    assert [info.held for infos in calls for info in infos if info.queue == "default"] == []


async def test_at_most_once_does_not_start_what_another_worker_holds_by_now(
    virtual: Motet, clock: VirtualClock, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    @virtual.task(delivery="at_most_once")
    async def risky() -> None:
        calls.append(1)

    async with virtual:
        await risky.delay()
        receive = virtual.backend.transport.receive

        async def stalled(*args: Any) -> Any:
            taken = await receive(*args)
            if taken and not calls:
                clock.elapsed += 60
                calls.append("taken by another")
                await receive((LANE,), 1, timedelta())
            return taken

        monkeypatch.setattr(virtual.backend.transport, "receive", stalled)
        async with virtual.worker():
            await clock.advance(1)
    assert calls == ["taken by another"]
