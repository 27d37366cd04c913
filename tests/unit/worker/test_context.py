"""What a task may ask of its execution: terms beside it, terms in its place, and progress."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from motet import Context, FixedDelay, Motet, TaskFailed, group, injected


async def quiet(app: Motet) -> None:
    with anyio.fail_after(5):
        while any(info.ready or info.held for info in await app.backend.transport.queues()):
            await anyio.sleep(0.005)


@pytest.fixture
def note(app: Motet, calls: list[Any]) -> Any:
    @app.task
    async def note(name: str) -> str:
        calls.append(name)
        return name

    return note


@pytest.mark.parametrize("plain", [False, True])
async def test_a_detached_spawn_is_a_run_of_its_own_and_is_sent_on_success_only(
    app: Motet, note: Any, calls: list[Any], plain: bool
) -> None:
    @app.task(retry_policy=FixedDelay(0.01, max_retries=1), name="here:soon")
    async def soon(ctx: Context = injected) -> str:
        ctx.spawn(note.s(f"by attempt {ctx.attempt}"))
        if ctx.attempt == 1:
            raise ValueError
        return ctx.idempotency_key

    @app.task(retry_policy=FixedDelay(0.01, max_retries=1), name="here:thread")
    def thread(ctx: Context = injected) -> str:
        ctx.spawn(note.s(f"by attempt {ctx.attempt}"))
        if ctx.attempt == 1:
            raise ValueError
        return ctx.idempotency_key

    async with app, app.worker():
        run = await (thread if plain else soon).delay()
        assert await run.result(5) == f"{run.id}:0"
        await quiet(app)

    assert calls == ["by attempt 2"]


@pytest.mark.parametrize("plain", [False, True])
async def test_an_attached_spawn_belongs_to_the_run(app: Motet, note: Any, calls: list[Any], plain: bool) -> None:
    @app.task(name="here:soon")
    async def soon(ctx: Context = injected) -> int:
        ctx.spawn(note.s("child"), attach=True)
        return 7

    @app.task(name="here:thread")
    def thread(ctx: Context = injected) -> int:
        ctx.spawn(note.s("child"), attach=True)
        return 7

    async with app, app.worker():
        run = await (thread if plain else soon).delay()
        assert await run.result(5) == 7

    assert calls == ["child"]


async def test_a_replaced_task_has_the_value_of_the_term(app: Motet, note: Any) -> None:
    @app.task
    async def fan(width: int, ctx: Context = injected) -> list[str]:
        return ctx.replace(group(note.s(str(number)) for number in range(width)))

    async with app, app.worker():
        run = await fan.delay(3)
        assert await run.result(5) == ["0", "1", "2"]
        chained = await (note.s("40") | _width(app) | fan.s()).submit()
        assert len(await chained.result(5)) == 40


def _width(app: Motet) -> Any:
    @app.task
    async def width(text: str) -> int:
        return int(text)

    return width.s()


async def test_a_single_call_may_be_replaced_and_all_it_leaves_is_swept(
    virtual: Motet, clock: Any, calls: list[Any]
) -> None:
    @virtual.task(result_ttl=60)
    async def leaf() -> int:
        return 7

    @virtual.task(result_ttl=60)
    async def first(ctx: Context = injected) -> int:
        return ctx.replace(leaf.s())

    async with virtual, virtual.worker():
        run = await first.delay()
        await clock.advance(1)
        assert await run.result(0) == 7
        await clock.advance(120)
        assert await virtual.backend.store.names(run.id, "") == []


async def test_a_spawn_that_cannot_be_compiled_fails_its_task(app: Motet, note: Any) -> None:
    from motet import signature

    @app.task
    async def wrong(ctx: Context = injected) -> None:
        ctx.spawn(signature({"task": "nobody:knows"}))

    @app.task
    def wrong_too(ctx: Context = injected) -> None:
        ctx.spawn(signature({"task": "nobody:knows"}))

    async with app, app.worker():
        for task in (wrong, wrong_too):
            with pytest.raises(TaskFailed, match="nobody:knows"):
                await (await task.delay()).result(5)


async def test_progress_is_visible_while_a_task_runs(app: Motet, until: Callable[..., Any]) -> None:
    from motet.message import Key

    done = anyio.Event()

    @app.task
    async def work(ctx: Context = injected) -> None:
        ctx.progress(1, 4)
        ctx.progress(2, 4)
        await done.wait()

    async with app, app.worker():
        run = await work.delay()
        with anyio.fail_after(5):
            while (await app.backend.store.get([Key(run.id, "g.0")])) != [b"\x92\x02\x04"]:
                await anyio.sleep(0.01)
        done.set()
        await run.result(5)


async def test_a_task_knows_its_run_its_attempt_and_its_deadline(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def look(ctx: Context = injected) -> None:
        calls.append((ctx.run_id, ctx.attempt, ctx.task, ctx.headers, ctx.deadline is not None, ctx.cancelled))

    async with app, app.worker():
        run = await look.s().submit(expires=60, headers={"trace": "1"})
        await run.result(5)

    (seen,) = calls
    assert seen[0] == run.id
    assert seen[1:] == (1, look.name, {"trace": "1"}, True, False)
