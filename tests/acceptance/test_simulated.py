"""What the simulation of faults found, and a test of a few lines can show."""

from typing import Any

import anyio
import pytest

from motet import Context, Motet, TaskFailed, chain, group, injected
from motet.message import Place
from motet.options import CONTROL


@pytest.fixture
def add(app: Motet) -> Any:
    @app.task(name="here:add")
    async def add(x: int, y: int) -> int:
        return x + y

    return add


async def no_orders_left(app: Motet) -> None:
    with anyio.fail_after(10):
        while any(
            info.queue == CONTROL.queue and (info.ready or info.held) for info in await app.backend.transport.queues()
        ):
            await anyio.sleep(0.01)


async def test_a_step_that_is_cancelled_before_its_group_is_open_ends_its_chain(app: Motet, add: Any) -> None:
    async with app:
        run = await group(add.s(n, n) | add.s(1) for n in range(300)).submit()
        await app.client.cancel(run.id, Place("", 4), "no longer wanted")
        async with app.worker():
            with pytest.raises(TaskFailed) as caught:
                await run.result(15)

    assert [cause.kind for cause in caught.value.error.causes] == ["cancelled"]


async def test_a_wide_fast_group_that_needs_no_success_waits_for_its_members(app: Motet) -> None:
    gate = anyio.Event()

    @app.task(name="here:odd")
    async def odd(n: int) -> int:
        if n in (0, 299):
            raise ValueError(n)
        await gate.wait()
        return n

    async with app, app.worker(concurrency=300):
        run = await group(odd.s(n) for n in range(300)).policy("fail_fast", min_success=0).submit()
        await anyio.sleep(0.5)
        before = await run.status()
        gate.set()
        values: list[Any] = await run.result(15)

    assert not before.ready
    assert [value for value in values if isinstance(value, int)] == list(range(1, 299))


async def test_a_task_on_any_page_of_the_plan_may_be_replaced(app: Motet, add: Any) -> None:
    @app.task(name="here:twice")
    async def twice(n: int, ctx: Context = injected) -> int:
        value: int = ctx.replace(add.s(n, n))
        return value

    async with app:
        run = await group(twice.s(n) for n in range(300)).submit()
        async with app.worker(queues=("other",)):
            await no_orders_left(app)  # which leaves the next worker with no page of the plan at hand
        async with app.worker(concurrency=1):
            assert await run.result(15) == [2 * n for n in range(300)]


async def test_an_empty_chain_that_was_given_nothing_has_callbacks_and_a_next_step(
    app: Motet, calls: list[Any]
) -> None:
    @app.task(name="here:note")
    async def note(*values: Any) -> str:
        calls.append(values)
        return "noted"

    async with app, app.worker():
        run = await (chain().on_success(note.partial("callback")) | note.partial("step")).submit()
        assert await run.result(5) == "noted"
        with anyio.fail_after(5):
            while len(calls) < 2:
                await anyio.sleep(0.01)

    assert sorted(calls, key=str) == [("step",), (None, "callback")]
