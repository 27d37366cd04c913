"""streaQ: Redis streams, claimed again when idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peers.shape import NAP, PATIENCE, RESULTS, SLOTS, URL, ended, lap, started, tick
from streaq import Worker

worker = Worker(redis_url=URL, concurrency=SLOTS, anyio_kwargs={"use_uvloop": True})
options: dict[str, Any] = {"silent": True, "ttl": 3600 if RESULTS else 0}


@worker.task(name="noop", **options)
async def noop(x: int) -> int:
    tick()
    return x


@worker.task(name="done", **options)
async def done() -> int:
    """Run after other tasks; streaQ does not give it their results."""
    return 1


@worker.task(name="nap", **options)
async def nap() -> None:
    started()
    await asyncio.sleep(NAP)
    ended()


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    async with worker:
        yield


async def enqueue(count: int) -> None:
    for number in range(count):
        await noop.enqueue(number)


async def bulk(count: int) -> None:
    for start in range(0, count, 1000):
        await worker.enqueue_many([noop.enqueue(number) for number in range(start, min(start + 1000, count))])


async def sleeps(count: int) -> None:
    await worker.enqueue_many([nap.enqueue() for _ in range(count)])


async def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            task = await noop.enqueue(number)
            assert (await task.result(PATIENCE)).result == number


async def chords(width: int, count: int) -> None:
    sent = []
    for _ in range(count):
        members = [noop.enqueue(number) for number in range(width)]
        await worker.enqueue_many(members)
        sent.append(await done.enqueue().start(after=[member.id for member in members]))
    # Each wait opens a subscription, which takes coredis 100 ms: all of them at once.
    results = await asyncio.gather(*(task.result(PATIENCE) for task in sent))
    assert [result.result for result in results] == [1] * count


async def chains(length: int, count: int) -> None:
    for _ in range(count):
        with lap():
            steps: Any = noop.enqueue(7)
            for _ in range(length - 1):
                steps = steps.then(noop)
            task = await steps
            assert (await task.result(PATIENCE)).result == 7
