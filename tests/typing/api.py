"""Every public signature, as a user writes it. Read by mypy and pyright, never executed.

A line that must be an error says so: both checkers fail when an ignore is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_type

from motet import (
    Applied,
    Chain,
    Context,
    ErrorInfo,
    ExponentialBackoff,
    Group,
    GroupHandle,
    Handle,
    Motet,
    Priority,
    Signature,
    Size,
    SyncHandle,
    Term,
    chain,
    chord,
    group,
    injected,
    signature,
)

app = Motet("sqlite:///motet.db")


@app.task
async def add(x: int, y: int) -> int:
    return x + y


@app.task(
    retry_policy=ExponentialBackoff(5, max_retries=3),
    priority=Priority.NORMAL,
    size=Size.SMALL,
    queue="mail",
    timeout=timedelta(seconds=30),
    dlq_eligible=True,
)
def total(numbers: Sequence[int]) -> int:
    return sum(numbers)


@app.task
def text(n: int, width: int = 3) -> str:
    return f"{n:{width}}"


@app.task
async def fan(n: int, ctx: Context = injected) -> int:
    ctx.spawn(add.s(1, 1), attach=True)
    return ctx.replace(group(add.s(i, i) for i in range(n)) | total.s())


@app.task
async def handle_error(error: ErrorInfo) -> None: ...


async def calls() -> None:
    assert_type(await add(1, 2), int)
    assert_type(total([1, 2]), int)
    assert_type(await add.delay(1, y=2), Handle[int])
    assert_type(await (await add.delay(1, 2)).result(), int)
    await add.delay("1", 2)  # type: ignore[arg-type]
    await add.delay(1)  # type: ignore[call-arg]
    assert_type(add.si(1, 2), Signature[object, int])
    assert_type(add.s(1), Signature[int, int])


async def composition() -> None:
    run = await (add.s(1, 1) | add.s(2) | text.s()).submit()
    assert_type(await run.result(timeout=5), str)
    numbers = group(add.s(i, i) for i in range(3))
    members = await numbers.submit()
    assert_type(members, GroupHandle[int])
    assert_type(await members.join(), list[int])
    body = numbers | total.s()
    assert_type(await (await body.submit()).result(), int)
    assert_type(await (await chord(numbers, total.s()).submit()).result(), int)
    assert_type(await (await chain(add.s(1, 1), text.s()).submit()).result(), str)
    assert_type(await (await (add.s(1, 1) >> text.si(2)).submit()).result(), str)
    text.s() | add.s(1)  # type: ignore[operator]


async def decorated() -> None:
    term = add.s(1, 1).on_success(text.s()).on_failure(handle_error.s()).within(5).set(queue="fast")
    assert_type(await (await term.submit(delay=3, id="x", priority=Priority.REALTIME)).result(), int)
    recovered = add.s(1, 1).recover(text.si(3))
    assert_type(await (await recovered.submit()).result(), int | str)
    collected = group(add.s(1, 1), add.s(2, 2)).policy("collect")
    assert_type(await (await collected.submit()).result(), list[int | ErrorInfo])
    add.s(1, 1).on_failure(total.s())  # type: ignore[arg-type]


def data() -> None:
    again: Term[Any, Any] = signature(add.s(1, 1).to_mapping())
    applied: Applied = add.s(1, 1).apply()
    assert_type(applied.successful, bool)
    handle = app.sync.submit(add.s(1, 1))
    assert_type(handle, SyncHandle[int])
    assert_type(handle.result(timeout=1), int)
    assert_type(add.map([1, 2]), Signature[object, list[int]])
    assert_type(add.chunks([(1, 2)], 10), Group[object, list[int]])
    chained: Chain[Any, Any] = again | again
    print(chained)


async def work() -> None:
    async with app, app.worker(concurrency=10):
        async for progress in await add.delay(1, 1):
            assert_type(progress.done, int)
