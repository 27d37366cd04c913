"""What somebody who waits sees: a worker in another process is running already, on one SQLite file."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from measuring import HERE, Watch, cpu_seconds_of, database, environment


@contextmanager
def running_worker(**variables: str) -> Iterator[int]:
    """A worker process on the app of `tasks.py`; ended by a signal."""
    with subprocess.Popen([sys.executable, str(HERE / "serving.py")], env={**environment(), **variables}) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def compositions(width: int, length: int, calls: int) -> dict[str, Any]:
    """A chord, a chain, and single calls one after another."""
    with database() as url:
        os.environ["BENCH_URL"] = url
        with running_worker(BENCH_URL=url) as pid:
            return anyio.run(_compositions, pid, width, length, calls)


async def _compositions(pid: int, width: int, length: int, calls: int) -> dict[str, Any]:
    from tasks import app, noop, total

    from motet import chain, group

    async with app:
        await noop.s(0).delay()
        await (await noop.delay(0)).result(30)  # both processes are warm
        figures = {}
        chord = group(noop.s(number) for number in range(width)) | total.s()
        steps: Any = chain(noop.s(0), *[noop.s() for _ in range(length - 1)])
        for name, term, expected in (("chord", chord, sum(range(width))), ("chain", steps, 0)):
            watch, before = Watch(), cpu_seconds_of(pid)
            handle = await term.submit()
            value = await handle.result(60)
            assert value == expected
            figures[name] = {**watch.read(), "worker": cpu_seconds_of(pid) - before}
        watch, before = Watch(), cpu_seconds_of(pid)
        times = []
        for number in range(calls):
            start = time.perf_counter()
            call = await noop.delay(number)
            assert await call.result(30) == number
            times.append(time.perf_counter() - start)
        cost = {**watch.read(), "worker": cpu_seconds_of(pid) - before}
        figures["call"] = {**cost, "p50": statistics.median(times), "calls": calls}
    return figures
