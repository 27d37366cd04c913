"""Motet itself, with nothing but what a user has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peers.shape import NAP, PATIENCE, RESULTS, URL, ended, lap, started, tick

from motet import Motet, chain, group

app = Motet(URL, result_ttl=3600 if RESULTS else 0)


@app.task(name="noop")
async def noop(x: int) -> int:
    tick()
    return x


@app.task(name="total")
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="nap")
async def nap() -> None:
    started()
    await asyncio.sleep(NAP)
    ended()


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    async with app:
        yield


async def enqueue(count: int) -> None:
    for number in range(count):
        await noop.delay(number)


async def bulk(count: int) -> None:
    await app.submit_many(noop.s(number) for number in range(count))


async def sleeps(count: int) -> None:
    await app.submit_many(nap.s() for _ in range(count))


async def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            handle = await noop.delay(number)
            assert await handle.result(PATIENCE) == number


async def chords(width: int, count: int) -> None:
    term = group(noop.s(number) for number in range(width)) | total.s()
    handles = await app.submit_many([term] * count)
    values = await asyncio.gather(*(handle.result(PATIENCE) for handle in handles))
    assert values == [sum(range(width))] * count


async def chains(length: int, count: int) -> None:
    for _ in range(count):
        with lap():
            steps: Any = chain(noop.s(7), *[noop.s() for _ in range(length - 1)])
            handle = await steps.submit()
            assert await handle.result(PATIENCE) == 7
