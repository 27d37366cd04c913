"""The app that the workloads run: `BENCH_URL` says on which backend, `BENCH_FIRST` where `first` writes the time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from motet import Motet

app = Motet(os.environ.get("BENCH_URL", "memory://"), result_ttl=float(os.environ.get("BENCH_TTL", "3600")))


@app.task(name="noop")
async def noop(x: int) -> int:
    return x


@app.task(name="total")
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="first")
async def first() -> None:
    """Leave the time at which the body ran; the clock is that of the machine, the same in every process."""
    now = time.monotonic()
    Path(os.environ["BENCH_FIRST"]).write_text(repr(now))
