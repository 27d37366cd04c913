"""Requirements R7 to R12: signatures."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from motet import (
    Context,
    ErrorInfo,
    FixedDelay,
    Motet,
    Term,
    UnknownTask,
    UsageError,
    chord,
    group,
    injected,
    signature,
)


async def test_r7_a_signature_is_a_mapping_that_json_can_carry_and_that_runs_the_same(app: Motet) -> None:
    @app.task
    async def add(x: int, y: int) -> int:
        return x + y

    for term in (
        add.s(2, 3),
        add.si(2, 3).set(queue="default"),
        add.s(1, 1) | add.s(3),
        group(add.s(1, 2), add.s(3, 4)),
    ):
        again = signature(json.loads(json.dumps(term.to_mapping())))

        assert again == term
        assert signature(again) is again or signature(again) == again
        async with app, app.worker():
            assert await (await again.submit()).result(5) == await (await term.submit()).result(5)


async def test_r8_arguments_given_at_the_call_are_prepended_and_options_override(app: Motet) -> None:
    @app.task
    async def show(a: int, b: int, c: int = 0) -> list[int]:
        return [a, b, c]

    stored = show.s(2).set(queue="other")
    before = stored.to_mapping()
    async with app, app.worker():
        assert await (await stored.submit((1,), {"c": 9}, queue="default")).result(5) == [1, 2, 9]
        assert stored.to_mapping() == before


async def test_r9_an_immutable_signature_ignores_the_value_before_it(app: Motet) -> None:
    @app.task
    async def add(x: int, y: int) -> int:
        return x + y

    async with app, app.worker():
        assert await (await (add.s(1, 1) | add.si(5, 5)).submit()).result(5) == 10
        assert await (await (add.s(1, 1) >> add.si(5, 6)).submit()).result(5) == 11


def test_apply_gives_a_function_the_time_that_it_takes(make: Callable[..., Motet]) -> None:
    """Nothing leaps while a task runs: neither its lease nor its own limit is over before it is."""
    app = make(lease=0.2)

    @app.task(timeout=5)
    def slow(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @app.task(retry_policy=FixedDelay(3600, max_retries=1))
    async def again(ctx: Context = injected) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return ctx.attempt

    began = time.monotonic()
    assert group(slow.s(0.5), again.s()).apply().result() == [0.5, 2]
    assert time.monotonic() - began < 4  # and an hour without work passes at once


def test_r10_apply_runs_callbacks_chains_and_chords_here_and_now(app: Motet, calls: list[Any]) -> None:
    @app.task
    async def add(x: int, y: int) -> int:
        return x + y

    @app.task
    def total(xs: list[int]) -> int:
        return sum(xs)

    @app.task
    async def note(x: int) -> None:
        calls.append(x)

    @app.task
    async def fail() -> int:
        raise ValueError("no")

    @app.task
    async def note_error(error: ErrorInfo) -> None:
        calls.append(error.message)

    assert add.s(2).apply(1).result() == 3
    assert add.s(1, 1).on_success(note.s()).apply().result() == 2
    assert chord([add.s(i, i) for i in range(10)], total.s()).apply().result() == 90
    failed = (fail.s() | note.s()).on_failure(note_error.s()).apply()
    assert not failed.successful
    assert calls == [2, "no"]


def test_r10_apply_serves_every_queue(app: Motet) -> None:
    @app.task(queue="mail")
    async def double(x: int) -> int:
        return 2 * x

    assert (double.s(1) | double.s().set(queue="other")).apply().result() == 4


async def test_r11_a_signature_travels_as_an_argument(app: Motet, calls: list[int]) -> None:
    @app.task
    async def note(x: int, y: int) -> int:
        calls.append(x + y)
        return x + y

    @app.task
    async def store(x: int, y: int, callback: Term[Any, Any] | None = None) -> int:
        calls.append(x + y)
        if callback is not None:
            await (await callback.delay(x + y)).result(5)
        return x + y

    async with app, app.worker():
        await (await store.delay(2, 2, callback=note.s(8))).result(5)

    assert calls == [4, 12]


async def test_r12_an_unknown_task_in_a_signature_is_refused_with_the_known_names(app: Motet) -> None:
    @app.task(name="here:known")
    async def known() -> None: ...

    async with app:
        with pytest.raises(UnknownTask, match="here:known"):
            await (known.s() | signature({"task": "here:unknown"})).submit()


async def test_a_call_that_cannot_be_right_is_refused_before_anything_is_sent(app: Motet) -> None:
    @app.task
    async def add(x: int, y: int) -> int:
        return x + y

    async with app:
        with pytest.raises(UsageError, match="needs y"):
            await add.s(1).submit()
        with pytest.raises(TypeError):
            add.s(1, 2, 3)  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="argument 'x'"):
            await add.partial(object(), 2).submit()
        assert await app.backend.transport.queues() == []
