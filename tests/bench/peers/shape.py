"""What the programs of all peers share. They run in environments of their own: standard library only, and uvloop.

A worker leaves two marks, files that hold the time: `first` when its first task starts, `last` when the last one ends.
A client is a function of numbers, called by call.py.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379")
RESULTS = os.environ.get("BENCH_RESULTS") == "1"  # whether results are stored
SLOTS = int(os.environ.get("BENCH_SLOTS", "1"))  # tasks at a time, where the worker's command does not say it
NAP = 0.05  # seconds that a task of `sleeps` takes
PATIENCE = 60  # seconds

_marks = Path(os.environ.get("BENCH_MARKS", "/nonexistent"))
_count = int(os.environ.get("BENCH_COUNT", "0"))
_ended = itertools.count(1).__next__  # one step of the interpreter: threads do not disturb it
_seen: set[str] = set()
_laps: list[float] = []


# --- in the worker ----------------------------------------------------------------------------------------------------


def started() -> None:
    """Say that a task starts; only the first matters."""
    if not _seen:
        _mark("first")


def ended() -> None:
    """Say that a task has ended; only the last matters."""
    if _ended() == _count:
        _mark("last")


def tick() -> None:
    """Say that a task that does nothing has run."""
    if not _seen:
        _mark("first")
    if _ended() == _count:
        _mark("last")


def tick_in_file() -> None:
    """Do the same where each task has a process of its own: the count is the length of a file."""
    file = os.open(_marks / "count", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b".")
    number = os.lseek(file, 0, os.SEEK_CUR)
    os.close(file)
    if number == 1:
        _mark("first")
    if number == _count:
        _mark("last")


def _mark(name: str) -> None:
    _seen.add(name)
    if _marks.is_dir():
        (_marks / f"{name}.new").write_text(repr(time.monotonic()))
        (_marks / f"{name}.new").rename(_marks / name)


# --- in the client ----------------------------------------------------------------------------------------------------


@contextmanager
def lap() -> Iterator[None]:
    """Take the time of one of several repetitions; the output has the median."""
    start = time.perf_counter()
    yield
    _laps.append(time.perf_counter() - start)


def median_lap() -> dict[str, float]:
    """What the repetitions came to, if there were any."""
    return {"p50": statistics.median(_laps)} if _laps else {}


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


def use_uvloop() -> None:
    """Have a worker that makes its own loop make uvloop's."""
    asyncio.set_event_loop_policy(importlib.import_module("uvloop").EventLoopPolicy())


async def in_batches(count: int, call: Callable[[int], Any], size: int = 100) -> None:
    """Await many calls, some at a time: what a client does whose library has no call for many."""
    for start in range(0, count, size):
        await asyncio.gather(*(call(number) for number in range(start, min(start + size, count))))
