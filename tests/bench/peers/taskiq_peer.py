"""Taskiq on Redis: the broker on streams, which acknowledges, or the one on lists, which does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from peers.shape import NAP, PATIENCE, RESULTS, URL, ended, in_batches, lap, started, tick
from taskiq.abc.broker import AsyncBroker
from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

POLL = 0.001  # seconds; the default is 0.2

broker: AsyncBroker = (ListQueueBroker if os.environ.get("BENCH_BROKER") == "list" else RedisStreamBroker)(URL)
if RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=3600))
if os.environ.get("BENCH_SECTION") == "latencies":
    broker.add_middlewares(PipelineMiddleware())


@broker.task("noop")
async def noop(x: int) -> int:
    tick()
    return x


@broker.task("nap")
async def nap() -> None:
    started()
    await asyncio.sleep(NAP)
    ended()


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


async def enqueue(count: int) -> None:
    for number in range(count):
        await noop.kiq(number)


async def bulk(count: int) -> None:
    await in_batches(count, noop.kiq)


async def sleeps(count: int) -> None:
    await in_batches(count, lambda _: nap.kiq())


async def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            task = await noop.kiq(number)
            result = await task.wait_result(check_interval=POLL, timeout=PATIENCE)
            assert result.return_value == number


async def chains(length: int, count: int) -> None:
    for _ in range(count):
        with lap():
            steps: Pipeline[[int], int] = Pipeline(broker, noop)
            for _ in range(length - 1):
                steps.call_next(noop)
            task = await steps.kiq(7)
            result = await task.wait_result(check_interval=POLL, timeout=PATIENCE)
            assert result.return_value == 7
