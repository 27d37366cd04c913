"""What a message costs the client of RabbitMQ, by hand: `python tests/bench/rabbitmq_wire.py` in the venv of the tests.

Microseconds of this process's CPU for each message of 200 bytes, on a broker that it starts, and messages in a second,
which are the broker's: on two cores they share them.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

from rabbitmq_server import server_for

from motet_rabbitmq.frames import Frame
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import locate

QUEUE = "bench"
BODY = bytes(200)
COUNT = 20_000


async def measured(what: str, count: int, call: Callable[[], Awaitable[None]]) -> None:
    cpu, clock = time.process_time(), time.perf_counter()
    await call()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    print(f"{what:<50} {cpu / count * 1e6:7.1f} us  {count / clock:9,.0f} /s")


async def publishing(link: Link, size: int, count: int) -> None:
    channel = await link.channel(mode="confirm")
    frames = [Frame(QUEUE, BODY, message_id=f"run:{n:08}") for n in range(size)]

    async def call() -> None:
        for _ in range(count // size):
            await channel.publish(frames)

    await measured(f"publish {size} at once", count, call)
    await channel.close()


async def alone(link: Link, tasks: int, count: int) -> None:
    channel = await link.channel(mode="confirm")

    async def one() -> None:
        for n in range(count // tasks):
            await channel.publish([Frame(QUEUE, BODY, message_id=f"run:{n:08}")])

    async def call() -> None:
        await asyncio.gather(*(one() for _ in range(tasks)))

    await measured(f"publish one by one, {tasks} tasks", count, call)
    await channel.close()


async def draining(link: Link, prefetch: int, count: int) -> None:
    channel = await link.channel(prefetch=prefetch)
    consumer = await channel.consume(QUEUE)

    async def call() -> None:
        left = count
        while left > 0:
            batch = await consumer.batch()
            left -= len(batch)
            channel.ack([each.tag for each in batch if each.message_id])

    await measured(f"receive, read the id, ack; prefetch {prefetch}", count, call)
    await channel.close()


async def handing_over(link: Link, size: int, count: int) -> None:
    """What a task costs at least: received, its settlement published and confirmed, then acknowledged."""
    output, channel = await link.channel(mode="confirm"), await link.channel(prefetch=2 * size)
    consumer = await channel.consume(QUEUE)

    async def call() -> None:
        left = count
        while left > 0:
            batch = await consumer.batch(size)
            left -= len(batch)
            await output.publish([Frame(f"{QUEUE}.shard", each.body, message_id=each.message_id) for each in batch])
            channel.ack([each.tag for each in batch])

    await measured(f"receive, publish a settlement, ack; {size} at once", count, call)
    await channel.close()


async def committing(link: Link, size: int, count: int) -> None:
    channel = await link.channel(prefetch=2 * size, mode="tx")
    consumer = await channel.consume(QUEUE)

    async def call() -> None:
        left = count
        while left > 0:
            batch = await consumer.batch(size)
            left -= len(batch)
            await channel.commit([Frame(QUEUE, each.body) for each in batch], [each.tag for each in batch])

    await measured(f"replace by transaction, {size} at once", count, call)
    await channel.close()


async def main(url: str) -> None:
    link = Link(locate(url), timeout=30)
    try:
        await link.connect()
        print(f"RabbitMQ {link.version}, quorum queues")
        for name in (QUEUE, f"{QUEUE}.shard"):
            await link.topology.declare_queue(name, {"x-queue-type": "quorum", "x-delivery-limit": 2_000_000_000})
        for size in (1, 10, 100, 1000):
            await publishing(link, size, COUNT if size >= 100 else 2000)
        for tasks in (10, 100):
            await alone(link, tasks, 5000)
        await draining(link, 100, COUNT // 2)
        await draining(link, 1000, COUNT // 2)
        await publishing(link, 100, COUNT)
        for size in (10, 100):
            await handing_over(link, size, COUNT // 2)
        await publishing(link, 100, COUNT)
        for size in (1, 100):
            await committing(link, size, 2000 if size == 1 else COUNT // 2)
    finally:
        await link.close()


if __name__ == "__main__":
    with server_for() as server:
        asyncio.run(main(server.url))
