"""Requirements R20 to R25: groups."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from motet import ErrorInfo, Group, Motet, NotSupported, ResultTimeout, TaskFailed, group


@pytest.fixture
def tasks(app: Motet) -> Any:
    """Tasks that end when they are told to."""

    class Tasks:
        gates: dict[int, anyio.Event]

        def __init__(self) -> None:
            self.gates = {}

        def gate(self, number: int) -> anyio.Event:
            return self.gates.setdefault(number, anyio.Event())

    tasks = Tasks()

    @app.task
    async def wait(number: int) -> int:
        await tasks.gate(number).wait()
        return number

    @app.task
    async def fail(number: int) -> int:
        await tasks.gate(number).wait()
        raise ValueError(f"no {number}")

    tasks.wait, tasks.fail = wait, fail  # type: ignore[attr-defined]
    return tasks


async def counted(run: Any, completed: int) -> None:
    with anyio.fail_after(5):
        while await run.completed_count() != completed:
            await anyio.sleep(0.01)


async def test_r20_results_are_in_call_order_whatever_the_order_of_completion(app: Motet, tasks: Any) -> None:
    async with app, app.worker():
        run = await group(tasks.wait.s(number) for number in range(4)).submit()
        for completed, number in enumerate((2, 0, 3, 1), start=1):
            tasks.gate(number).set()
            await counted(run, completed)
        assert await run.result(5) == [0, 1, 2, 3]


async def truth(run: Any) -> tuple[bool, ...]:
    return (
        await run.ready(),
        await run.successful(),
        await run.failed(),
        await run.waiting(),
        await run.completed_count(),
        await run.successful_count(),
    )


async def test_r21_a_group_tells_the_truth_at_every_moment(app: Motet, tasks: Any) -> None:
    async with app, app.worker():
        run = await group(tasks.wait.s(0), tasks.fail.s(1), tasks.wait.s(2)).submit()
        assert await truth(run) == (False, False, False, True, 0, 0)
        tasks.gate(0).set()
        await counted(run, 1)
        assert await truth(run) == (False, False, False, True, 1, 1)
        tasks.gate(1).set()
        await counted(run, 2)
        assert await truth(run) == (False, False, True, True, 2, 1)
        tasks.gate(2).set()
        with pytest.raises(TaskFailed):
            await run.result(5)
        assert await truth(run) == (True, False, True, False, 3, 2)


async def test_r21_an_empty_group_is_ready_and_successful(app: Motet) -> None:
    async with app, app.worker():
        empty: Group[Any, Any] = group()
        run = await empty.submit()
        assert await run.result(5) == []
        assert await truth(run) == (True, True, False, False, 0, 0)
        assert await run.join(5) == []
        assert [value async for value in run.iterate(5)] == []


async def test_r21_a_revoked_group_counts_as_failed(app: Motet, tasks: Any) -> None:
    async with app, app.worker():
        run = await group(tasks.wait.s(0), tasks.wait.s(1)).submit()
        await run.revoke("not needed")
        with anyio.fail_after(5):
            while not await run.ready():
                await anyio.sleep(0.01)
        assert (await run.successful(), await run.failed(), await run.waiting()) == (False, True, False)


async def test_r22_join_times_out_at_once_and_raises_the_first_failure_in_call_order(app: Motet, tasks: Any) -> None:
    async with app, app.worker():
        run = await group(tasks.wait.s(0), tasks.fail.s(1), tasks.fail.s(2)).submit()
        with pytest.raises(ResultTimeout), anyio.fail_after(1):
            await run.join(timeout=0)
        tasks.gate(2).set()
        await counted(run, 1)
        tasks.gate(1).set()
        tasks.gate(0).set()
        with pytest.raises(TaskFailed, match="no 1"):
            await run.join(5)
        first, second, third = await run.join(5, propagate=False)

    assert first == 0
    assert isinstance(second, ErrorInfo)
    assert (second.message, third.message) == ("no 1", "no 2")


async def test_r23_iterate_yields_in_the_order_of_completion(app: Motet, tasks: Any) -> None:
    async with app, app.worker():
        run = await group(tasks.wait.s(number) for number in range(4)).submit()
        order = [2, 0, 3, 1]
        seen: list[int] = []
        tasks.gate(order[0]).set()
        async for number in run.iterate(timeout=5):
            seen.append(number)
            if len(seen) < 4:
                tasks.gate(order[len(seen)]).set()

    assert seen == order


async def test_r24_a_group_is_found_by_its_id_and_outlives_its_client(
    app: Motet, make: Callable[..., Motet], url: str, tasks: Any
) -> None:
    for number in range(2):
        tasks.gate(number).set()
    async with app, app.worker():
        run = await group(tasks.wait.s(number) for number in range(2)).submit()
        assert await app.handle(run.id).result(5) == [0, 1]
        if not app.backend.capabilities.shared:
            with pytest.raises(NotSupported, match="shared"):
                app.client.shared("another process")
            return
    code = f"""
import anyio
from motet import Motet
async def main():
    async with Motet({url!r}) as app:
        handle = app.handle({run.id!r})
        print(await handle.join(5), await handle.completed_count())
anyio.run(main)
"""
    seen = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=15)
    )
    assert seen.stdout.split("\n")[0] == "[0, 1] 2"


class LostError(Exception):
    """The connection broke here."""


async def test_r25_a_group_whose_submit_breaks_is_whole_when_submitted_again(app: Motet, tmp_path: Path) -> None:
    @app.task
    async def number(n: int) -> int:
        return n

    members = 600
    for breaking in range(1, 40):
        async with app:
            calls = 0
            backend: Any = app.backend
            store, settler, timers = backend.store, backend.settler, backend.timers
            real = store.put, settler.settle, timers.park

            def breaking_at(call: Any, at: int) -> Any:
                async def broken(*args: Any) -> Any:
                    nonlocal calls
                    calls += 1
                    if calls == at:
                        raise LostError
                    return await call(*args)

                return broken

            store.put, settler.settle, timers.park = (breaking_at(call, breaking) for call in real)
            run_id = f"given-{breaking}"
            try:
                await group(number.s(n) for n in range(members)).submit(id=run_id)
                broke = False
            except LostError:
                broke = True
            store.put, settler.settle, timers.park = real
            run = await group(number.s(n) for n in range(members)).submit(id=run_id)
            async with app.worker():
                assert await run.result(10) == list(range(members))
        if not broke:
            return


async def test_a_group_within_a_group_may_begin_with_a_failure(app: Motet) -> None:
    """The outer list was read as if its member itself were the failure."""

    @app.task
    async def bad() -> int:
        raise ValueError("no")

    async with app, app.worker():
        run = await group(group(bad.si(), bad.si()).policy("collect"), group(bad.si()).policy("collect")).submit()
        values = await run.result(5)

    assert [[type(each) for each in inner] for inner in values] == [[ErrorInfo, ErrorInfo], [ErrorInfo]]
