"""Taskiq on NATS: its pull consumer on JetStream, which acknowledges; results in its object store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.js.api import ConsumerConfig
from peers.shape import NAP, PATIENCE, RESULTS, URL, ended, in_batches, lap, started, tick
from taskiq.abc.broker import AsyncBroker
from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

POLL = 0.001  # seconds; the default is 0.2
AHEAD = ConsumerConfig(durable_name="taskiq_durable", max_ack_pending=20_000)
BATCH = 1 if os.environ.get("BENCH_SECTION") == "latencies" else 100  # it waits until so many have come

broker: AsyncBroker = PullBasedJetStreamBroker(URL, pull_consume_batch=BATCH, consumer_config=AHEAD)
if RESULTS:
    broker = broker.with_result_backend(NATSObjectStoreResultBackend(URL))


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
