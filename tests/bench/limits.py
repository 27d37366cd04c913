"""What a Redis server has to bear: bytes of a queued task, keys that stay, a wide barrier, and the longest script."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
from measuring import Watch
from redis_server import RedisServer, program

NOTED = 2_000  # microseconds: the server's log has what takes longer
PATIENCE = 120  # seconds


@contextmanager
def server(ttl: float) -> Iterator[RedisServer]:
    """A server that notes what is slow; the app of `tasks` is on it.

    It goes first where we may say so: a script that a busy machine interrupts would be noted as a slow one.
    """
    options = ("--slowlog-log-slower-than", str(NOTED), "--slowlog-max-len", "100000")
    with RedisServer(program(), aof=False, options=options) as running:
        with suppress(PermissionError, AttributeError):
            os.sched_setscheduler(running.pid, os.SCHED_FIFO, os.sched_param(1))
        os.environ.update(BENCH_URL=f"redis://127.0.0.1:{running.port}", BENCH_TTL=str(ttl))
        yield running


def queued(count: int) -> dict[str, Any]:
    """Small tasks that nobody takes: bytes of the server's memory for each."""
    with server(3600) as running:
        return anyio.run(_queued, running, count)


async def _queued(running: RedisServer, count: int) -> dict[str, Any]:
    from tasks import app, noop

    async with app:
        await noop.delay(0)
        before, watch = running.info("memory")["used_memory"], Watch()
        await app.submit_many(noop.s(number) for number in range(count))
        return {**watch.read(), "bytes": (running.info("memory")["used_memory"] - before) / count}


def kept(count: int) -> dict[str, Any]:
    """Tasks that have ended, and whose results have expired: keys that ten thousand leave, more than some."""
    with server(1) as running:
        return anyio.run(_kept, running, count)


async def _kept(running: RedisServer, count: int) -> dict[str, Any]:
    from tasks import app, noop

    async with app, app.worker():
        watch, left = Watch(), []
        for more in (100, count):
            handles = await app.submit_many(noop.s(number) for number in range(more))
            for handle in handles[-100:]:
                await handle.result(PATIENCE)
            left.append(await _settled(running, more))
        return {**watch.read(), "keys": left[1] - left[0], "all": left[1]}


async def _settled(running: RedisServer, done: int) -> int:
    """Wait until nothing expires any more, and count the keys."""
    give_up, counts = time.monotonic() + PATIENCE, [done]
    while len(counts) < 4 or len(set(counts[-4:])) > 1:
        assert time.monotonic() < give_up, f"keys still come and go: {counts[-4:]}"
        await anyio.sleep(1)
        counts.append(running.command("DBSIZE"))
    return counts[-1]


def wide(count: int) -> dict[str, Any]:
    """A wide chord: MiB of its barriers when all members have arrived, and the longest script on the way, in ms."""
    with server(3600) as running:
        return anyio.run(_wide, running, count)


async def _wide(running: RedisServer, count: int) -> dict[str, Any]:
    from tasks import app, noop, total

    from motet import group

    async with app, app.worker():
        watch = Watch()
        run = await (group(noop.s(number) for number in range(count)) | total.s()).submit()
        assert await run.result(PATIENCE) == count * (count - 1) // 2
        took = watch.read()
    with running.client() as client:
        barriers = sum(client.memory_usage(key) or 0 for key in client.scan_iter("*:b:*", count=1000))
        records = sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter("*:s:*", count=1000))
        slow = [entry["duration"] for entry in client.slowlog_get(100_000) if b"EVALSHA" in entry["command"]]
    memory = {"barriers": barriers / 2**20, "records": records / 2**20}
    return {**took, **memory, "longest": max(slow, default=NOTED) / 1000, "slow": len(slow)}
