"""Taskiq on RabbitMQ, by aio-pika: quorum queues, acknowledged when done. Results would need another store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from peers.shape import NAP, URL, ended, in_batches, started, tick
from taskiq_aio_pika import AioPikaBroker

broker = AioPikaBroker(URL, qos=100)


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
