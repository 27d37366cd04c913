"""What docs say of NATS in figures: memory of parked calls, the price of fsync, and what an idle worker costs.

python tests/system/nats_figures.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import anyio

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "bench"), str(TESTS / "servers")]

from measuring import cpu_seconds_of
from nats_server import NatsServer, find

from motet import Motet

PARKED = 100_000
BATCH = 1000
ONE_BY_ONE, BULK = 500, 5000
IDLE = 10.0
WORKER = """
import anyio, sys
from motet import Motet
app = Motet(sys.argv[1])

@app.task(name="figures:noop")
async def noop(x: int) -> int:
    return x

async def main() -> None:
    async with app:
        await app.make_worker().serve()

anyio.run(main)
"""
app = Motet("nats://localhost")


@app.task(name="figures:noop")
async def noop(x: int) -> int:
    return x


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def park(server: NatsServer) -> None:
    """Park calls for a day, and see how much memory the server has then."""
    app.url = server.url
    before = rss_mib(server.pid)
    async with app:
        limit = anyio.CapacityLimiter(64)

        async def one(number: int) -> None:
            async with limit:
                await noop.s(number).submit(delay=timedelta(days=1))

        for first in range(0, PARKED, BATCH):
            async with anyio.create_task_group() as tasks:
                for number in range(first, first + BATCH):
                    tasks.start_soon(one, number)
        await anyio.sleep(5)
        print(f"{PARKED:,} parked calls: the server has {rss_mib(server.pid):.0f} MiB, {before:.0f} before them")


async def publish(server: NatsServer, what: str) -> None:
    """Enqueue one after the other, and in bulk."""
    app.url = server.url
    async with app:
        await noop.delay(0)
        began = time.perf_counter()
        for number in range(ONE_BY_ONE):
            await noop.delay(number)
        single = (time.perf_counter() - began) / ONE_BY_ONE
        began = time.perf_counter()
        await app.submit_many(noop.s(number) for number in range(BULK))
        bulk = BULK / (time.perf_counter() - began)
        print(f"{what}: a call in {single * 1000:.2f} ms, {bulk:,.0f} calls a second in bulk")


def idle(server: NatsServer) -> None:
    """See what a worker costs that has nothing to do."""
    with subprocess.Popen([sys.executable, "-c", WORKER, server.url]) as worker:
        time.sleep(3)
        before = cpu_seconds_of(worker.pid)
        time.sleep(IDLE)
        print(f"an idle worker: {(cpu_seconds_of(worker.pid) - before) / IDLE:.2%} of a CPU")
        worker.kill()


def main() -> None:
    program = find()
    with NatsServer(program) as server:
        idle(server)
        anyio.run(publish, server, "fsync every two minutes")
    with NatsServer(program, sync="always") as server:
        anyio.run(publish, server, "fsync always")
    with NatsServer(program) as server:
        anyio.run(park, server)


if __name__ == "__main__":
    main()
