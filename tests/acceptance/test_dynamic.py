"""What tasks decide while they run: other terms in their place, and children."""

from collections.abc import Callable

import anyio
import pytest

from motet import Context, Motet, group, injected


@pytest.fixture
def app(make: Callable[..., Motet]) -> Motet:
    return make(result_ttl=0.2)


async def swept(app: Motet, run: str) -> bool:
    with anyio.move_on_after(5):
        while await app.backend.store.names(run, ""):
            await anyio.sleep(0.02)
        return True
    return False


async def test_a_single_call_may_be_replaced_again_and_again(app: Motet) -> None:
    @app.task
    async def factorial(n: int, product: int = 1, ctx: Context = injected) -> int:
        answer: int = ctx.replace(factorial.s(n - 1, product * n)) if n > 1 else product
        return answer

    async with app, app.worker():
        run = await factorial.delay(5)
        assert await run.result(5) == 120
        assert await swept(app, run.id)


async def test_a_single_call_replaced_by_what_is_decided_at_once_leaves_nothing_behind(app: Motet) -> None:
    @app.task
    async def nothing(ctx: Context = injected) -> list[int]:
        answer: list[int] = ctx.replace(group())
        return answer

    async with app, app.worker():
        run = await nothing.delay()
        assert await run.result(5) == []
        assert await swept(app, run.id)


async def test_a_single_call_waits_for_the_children_attached_to_it(app: Motet, calls: list[int]) -> None:
    @app.task
    async def note(n: int) -> None:
        calls.append(n)

    @app.task
    async def parent(n: int, ctx: Context = injected) -> str:
        ctx.spawn(group(note.s(each) for each in range(n)), attach=True)
        return "done"

    async with app, app.worker():
        run = await parent.delay(3)
        assert await run.result(5) == "done"
        assert sorted(calls) == [0, 1, 2]
        assert await swept(app, run.id)
