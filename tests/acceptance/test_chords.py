"""Requirements R26 to R29, and R66: chords and what they leave behind."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from motet import ErrorInfo, Motet, TaskCancelled, TaskFailed, chord, group
from motet.message import Parcel, read_message


@pytest.fixture
def tasks(app: Motet, calls: list[Any]) -> Any:
    class Tasks:
        @staticmethod
        @app.task
        async def number(n: int) -> int:
            return n

        @staticmethod
        @app.task
        async def slow(n: int) -> int:
            await anyio.sleep(0.3)
            return n

        @staticmethod
        @app.task
        async def fail(n: int) -> int:
            raise ValueError(f"no {n}")

        @staticmethod
        @app.task
        async def body(values: list[int | ErrorInfo]) -> int:
            calls.append(values)
            return len(values)

        @staticmethod
        @app.task
        async def failed(error: ErrorInfo) -> None:
            calls.append(error)

    return Tasks


def is_member(delivery: Any) -> bool:
    message = read_message(delivery.body)
    return message.order == "r" and message.source is None


async def quiet(app: Motet) -> None:
    with anyio.fail_after(10):
        while any(info.ready or info.held for info in await app.backend.transport.queues()):
            await anyio.sleep(0.01)


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
async def test_r26_the_body_runs_once_with_the_ordered_list(
    app: Motet, tasks: Any, calls: list[Any], size: int
) -> None:
    async with app, app.worker():
        run = await chord([tasks.number.s(n) for n in range(size)], tasks.body.s()).submit()
        assert await run.result(15) == size
        await quiet(app)

    assert calls == [list(range(size))]


async def test_r27_a_member_counts_once_however_often_it_is_delivered(app: Motet, tasks: Any, calls: list[Any]) -> None:
    async with app:
        publish = app.backend.transport.publish
        run = await chord([tasks.number.s(n) for n in range(5)], tasks.body.s()).submit()
        receive = app.backend.transport.receive
        copies = 0

        async def doubled(*args: Any) -> Any:
            """Every member comes again under another id, as from a broker that duplicates."""
            nonlocal copies
            taken = await receive(*args)
            for each in taken:
                if ":copy" not in each.id and is_member(each):
                    copies += 1
                    await publish([Parcel(f"{each.id}:copy{copies}", each.lane, each.body, suspect=True)])
            return taken

        transport: Any = app.backend.transport
        transport.receive = doubled
        async with app.worker():
            assert await run.result(10) == 5
            await quiet(app)
        assert copies == 5

    assert calls == [[0, 1, 2, 3, 4]]


async def ended(run: Any) -> Exception:
    with pytest.raises((TaskFailed, TaskCancelled)) as caught:
        await run.result(5)
    return caught.value


async def test_r28_a_failing_member_ends_the_chord_once_and_soon(app: Motet, tasks: Any, calls: list[Any]) -> None:
    header = [tasks.number.s(0), tasks.fail.s(1), tasks.fail.s(2)]
    async with app, app.worker():
        run = await chord(header, tasks.body.s()).on_failure(tasks.failed.s()).submit()
        with anyio.fail_after(1):
            error = await ended(run)
        await quiet(app)

    assert isinstance(error, TaskFailed)
    assert [cause.message for cause in error.error.causes] == ["no 1", "no 2"]
    assert [cause.path for cause in error.error.causes] == [(0, 1), (0, 2)]
    (told,) = calls
    assert told == error.error


async def test_r28_an_unknown_member_ends_the_chord(
    app: Motet, make: Callable[..., Motet], tasks: Any, calls: list[Any]
) -> None:
    @app.task(name="here:gone")
    async def gone() -> None: ...

    async with app:
        run = await chord([tasks.number.s(0), gone.si()], tasks.body.s()).on_failure(tasks.failed.s()).submit()
        del app.registry.definitions["here:gone"]
        async with app.worker():
            with anyio.fail_after(1):
                error = await ended(run)
            await quiet(app)

    assert isinstance(error, TaskFailed)
    assert error.error.causes[0].kind == "unknown_task"
    assert len(calls) == 1


async def test_r28_an_expired_member_ends_the_chord(app: Motet, tasks: Any, calls: list[Any]) -> None:
    async with app:
        late = tasks.number.s(1).set(expires=0.01)
        run = await chord([tasks.number.s(0), late], tasks.body.s()).on_failure(tasks.failed.s()).submit()
        await anyio.sleep(0.05)
        async with app.worker():
            with anyio.fail_after(1):
                error = await ended(run)
            await quiet(app)

    assert isinstance(error, TaskFailed)
    assert error.error.causes[0].kind == "expired"
    assert len(calls) == 1


async def test_r28_a_revoked_member_ends_the_chord(app: Motet, tasks: Any, calls: list[Any]) -> None:
    async with app, app.worker():
        members = group(tasks.number.s(0), tasks.number.s(1).set(delay=60))
        run = await (members | tasks.body.s()).on_failure(tasks.failed.s()).submit()
        header, _ = await run.children()
        _, waiting = await header.children()
        await waiting.cancel("not needed")
        with anyio.fail_after(1):
            error = await ended(run)
        await quiet(app)

    assert isinstance(error, TaskFailed)
    assert error.error.causes[0].kind == "cancelled"
    assert len(calls) == 1


async def test_r29_collect_hands_outcomes_to_the_body(app: Motet, tasks: Any, calls: list[Any]) -> None:
    async with app, app.worker():
        header = group(tasks.number.s(0), tasks.fail.s(1), tasks.number.s(2)).policy("collect")
        run = await (header | tasks.body.s()).submit()
        assert await run.result(5) == 3
        alone = await header.submit()
        zero, error, two = await alone.result(5)

    ((first, second, third),) = calls
    assert (first, third, zero, two) == (0, 2, 0, 2)
    assert isinstance(second, ErrorInfo)
    assert (second.message, error.message) == ("no 1", "no 1")


async def test_r29_a_group_may_be_satisfied_by_some(app: Motet, tasks: Any, calls: list[Any]) -> None:
    header = group(tasks.number.s(0), tasks.fail.s(1), tasks.fail.s(2))
    async with app, app.worker():
        run = await (header.policy("wait", min_success=1) | tasks.body.s()).submit()
        assert await run.result(5) == 3
        run = await (header.policy("wait", min_success=2) | tasks.body.s()).submit()
        await ended(run)

    assert len(calls) == 1


async def test_fail_fast_decides_at_the_first_failure(app: Motet, tasks: Any, calls: list[Any]) -> None:
    header = group(tasks.fail.s(1), *(tasks.slow.s(n) for n in range(5))).policy("fail_fast")
    async with app, app.worker():
        run = await (header | tasks.body.s()).submit()
        with anyio.fail_after(0.25):
            error = await ended(run)
        await quiet(app)

    assert isinstance(error, TaskFailed)
    assert calls == []


async def test_r66_work_that_is_done_leaves_no_message_and_no_record_behind(
    make: Callable[..., Motet], tasks: Any
) -> None:
    app = make(result_ttl=0.2)

    @app.task
    async def number(n: int) -> int:
        return n

    @app.task
    async def total(values: list[int]) -> int:
        return sum(values)

    async with app, app.worker():
        runs = [await chord([number.s(n) for n in range(20)], total.s()).submit() for _ in range(5)]
        runs.append(await number.s(1).submit())
        for run in runs:
            await run.result(5)
        with anyio.fail_after(10):
            while await app.backend.transport.queues() or any(
                [await app.backend.store.names(run.id, "") for run in runs]
            ):
                await anyio.sleep(0.05)
        assert await app.backend.store.runs(None, 10) == []
