"""The values of nested terms, wide groups and replaced tasks, on every backend."""

from typing import Any

import anyio
import pytest

from motet import Context, Motet, TooLarge, chain, group, injected
from motet.message import Parcel
from motet.options import Lane


@pytest.fixture
def echo(app: Motet) -> Any:
    @app.task
    async def echo(value: Any) -> Any:
        return value

    return echo


async def value(term: Any) -> Any:
    return await (await term.submit()).result(20)


async def test_a_nested_group_keeps_its_shape(app: Motet, echo: Any) -> None:
    async with app, app.worker():
        assert await value(group(echo.s("A"), group(echo.s("B"), echo.s("C")))) == ["A", ["B", "C"]]


async def test_an_empty_group_in_the_middle_of_a_chain_feeds_an_empty_list(app: Motet, echo: Any) -> None:
    async with app, app.worker():
        assert await value(chain(echo.s("A"), group(), echo.s())) == []


async def test_replace_inside_a_chord_keeps_the_order(app: Motet, echo: Any) -> None:
    @app.task
    async def replaced(n: int, ctx: Context = injected) -> Any:
        return ctx.replace(group(echo.s(n), echo.s(-n)))

    async with app, app.worker():
        header = group(echo.s(0), replaced.s(1), echo.s(2), replaced.s(3))
        assert await value(header | echo.s()) == [0, [1, -1], 2, [3, -3]]


async def test_a_task_says_how_far_it_is(app: Motet) -> None:
    gate = anyio.Event()

    @app.task
    async def long(ctx: Context = injected) -> str:
        ctx.progress(3, 10)
        await gate.wait()
        return "done"

    async with app, app.worker():
        run = await long.s().submit()
        with anyio.fail_after(5):
            while (await run.progress()).done != 3:
                await anyio.sleep(0.02)
        gate.set()
        assert await run.result(5) == "done"


async def test_a_message_above_the_limit_is_parked_before_it_is_decoded(app: Motet) -> None:
    async with app, app.worker():
        lane = Lane("default", "medium", 1)
        await app.backend.transport.publish([Parcel("large:0:r1", lane, b"\x90" * (1024 * 1024 + 1))])
        with anyio.fail_after(5):
            while await app.backend.deadletters.get(["large:0:r1"]) == [None]:
                await anyio.sleep(0.02)


async def test_an_argument_above_the_limit_is_refused_at_submit(app: Motet, echo: Any) -> None:
    async with app:
        with pytest.raises(TooLarge, match="the arguments of"):
            await echo.s("x" * (64 * 1024 * 1024 + 1)).submit()
        assert await app.backend.transport.queues() == []
