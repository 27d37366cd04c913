"""One worker process, seen from outside: how soon it works, what it takes when it does not, how large it is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from measuring import HERE, cpu_seconds_of, database, environment, pss_mib


def command() -> list[str]:
    """`motet worker` if this installation has one, else the smallest script that does the same."""
    if importlib.util.find_spec("motet.cli") is not None:
        return [sys.executable, "-m", "motet", "worker", "tasks:app"]
    return [sys.executable, str(HERE / "serving.py")]


def worker_process(idle: float) -> dict[str, Any]:
    """Start it with a message in the queue; look at it once that is done."""
    with database() as url, tempfile.TemporaryDirectory(prefix="motet-bench-") as folder:
        first = Path(folder, "first")
        os.environ.update(BENCH_URL=url, BENCH_FIRST=str(first))
        anyio.run(_queue_one)
        start = time.monotonic()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command(), env=environment(), cwd=HERE, **quiet) as process:  # type: ignore[call-overload]
            try:
                seen = _seen(first)
                family = [process.pid, *_children(process.pid)]
                worker = family[-1]
                started = sum(map(cpu_seconds_of, family))
                time.sleep(1)
                before = [cpu_seconds_of(pid) for pid in family]
                time.sleep(idle)
                used = [cpu_seconds_of(pid) - spent for pid, spent in zip(family, before, strict=True)]
                return {
                    "start": seen - start,
                    "cpu": started,
                    "idle": used[-1] / idle,
                    "idle_all": sum(used) / idle,
                    "pss": pss_mib(worker),
                    "pss_all": sum(map(pss_mib, family)),
                    "command": "motet worker" if len(family) > 1 else "app.make_worker",
                }
            finally:
                process.terminate()


def _seen(first: Path) -> float:
    patience = time.monotonic() + 30
    while time.monotonic() < patience:
        if first.exists() and (text := first.read_text()):
            return float(text)
        time.sleep(0.005)
    raise TimeoutError("the worker did not run its first task")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _queue_one() -> None:
    from tasks import app, first

    async with app:
        await first.delay()


def imports() -> dict[str, Any]:
    """CPU of a python that imports motet and ends, less that of one that does not."""
    everything = "import motet.app, motet.worker.loop, motet_sqlite, anyio._backends._asyncio"
    costs = []
    for statement in (everything, "pass", everything):  # the first writes the compiled files, if there are none
        before = os.times()
        subprocess.run([sys.executable, "-c", statement], check=True, env=environment())
        after = os.times()
        costs.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return {"bare": costs[1], "cpu": costs[2] - costs[1]}
