"""saq: its Redis queue, with retries so that a swept job runs again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peers.shape import NAP, RESULTS, SLOTS, URL, ended, in_batches, lap, started, tick, use_uvloop
from saq import Queue

use_uvloop()
queue = Queue.from_url(URL)
options: dict[str, Any] = {"retries": 3, "ttl": 3600 if RESULTS else -1}


async def noop(ctx: dict[str, Any], *, x: int) -> int:
    tick()
    return x


async def nap(ctx: dict[str, Any]) -> None:
    started()
    await asyncio.sleep(NAP)
    ended()


settings = {"queue": queue, "functions": [noop, nap], "concurrency": SLOTS}


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    await queue.connect()
    yield
    await queue.disconnect()


async def enqueue(count: int) -> None:
    for number in range(count):
        await queue.enqueue("noop", x=number, **options)


async def bulk(count: int) -> None:
    await in_batches(count, lambda number: queue.enqueue("noop", x=number, **options))


async def sleeps(count: int) -> None:
    await in_batches(count, lambda _: queue.enqueue("nap", **options))


async def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            job = await queue.enqueue("noop", x=number, **options)
            assert job is not None
            while not job.completed:
                try:
                    await job.refresh(until_complete=1)
                except TimeoutError:  # the news came between its first look and its listening
                    continue
            assert job.result == number
