"""pydocket: Redis streams, delivered again when a worker is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from docket import Docket, Worker
from peers.shape import NAP, PATIENCE, RESULTS, SLOTS, URL, ended, lap, loop_factory, started, tick

url = f"{URL}?max_connections=2000"  # of redis-py, whose 100 are too few for 100 tasks at a time
docket = Docket("peers", url=url, execution_ttl=timedelta(hours=1) if RESULTS else timedelta(0))


async def noop(x: int) -> int:
    tick()
    return x


async def nap() -> None:
    started()
    await asyncio.sleep(NAP)
    ended()


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    async with docket:
        docket.register(noop)
        docket.register(nap)
        yield


async def serve() -> None:
    async with opened(), Worker(docket, concurrency=SLOTS, minimum_check_interval=timedelta(milliseconds=10)) as worker:
        await worker.run_forever()


async def enqueue(count: int) -> None:
    for number in range(count):
        await docket.add(noop)(number)


async def bulk(count: int) -> None:
    await docket.add_many(docket.call(noop)(number) for number in range(count))


async def sleeps(count: int) -> None:
    await docket.add_many(docket.call(nap)() for _ in range(count))


async def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            execution = await docket.add(noop)(number)
            assert await execution.get_result(timeout=timedelta(seconds=PATIENCE)) == number


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())
