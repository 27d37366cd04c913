"""arq: pessimistic execution, a job stays in the queue until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from peers.shape import NAP, PATIENCE, RESULTS, SLOTS, URL, ended, in_batches, lap, started, tick, use_uvloop

use_uvloop()

POLL = 0.001  # seconds; the default of a client is 0.5
LOGGING = {"version": 1, "disable_existing_loggers": False}
pool: ArqRedis


async def noop(ctx: dict[str, Any], x: int) -> int:
    tick()
    return x


async def nap(ctx: dict[str, Any]) -> None:
    started()
    await asyncio.sleep(NAP)
    ended()


class WorkerSettings:
    """What arq's command reads."""

    functions = (noop, nap)
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = SLOTS
    poll_delay = 0.01  # the default, 0.5, is the time that every batch of jobs takes
    keep_result = 3600 if RESULTS else 0
    log_results = False


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    global pool  # noqa: PLW0603 - the commands of a client are functions of numbers
    pool = await create_pool(WorkerSettings.redis_settings)
    yield
    await pool.aclose()


async def enqueue(count: int) -> None:
    for number in range(count):
        await pool.enqueue_job("noop", number)


async def bulk(count: int) -> None:
    await in_batches(count, lambda number: pool.enqueue_job("noop", number))


async def sleeps(count: int) -> None:
    await in_batches(count, lambda _: pool.enqueue_job("nap"))


async def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            job = await pool.enqueue_job("noop", number)
            assert job is not None
            assert await job.result(PATIENCE, poll_delay=POLL) == number
