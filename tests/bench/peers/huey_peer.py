"""huey: its Redis storage, threads; at most once."""

from __future__ import annotations

import os
import time

from huey import RedisHuey, chord
from peers.shape import NAP, PATIENCE, RESULTS, URL, ended, lap, started, tick

# `notify_result` lets a client wait for a result without polling; a worker pays for it with each result.
notify = os.environ.get("BENCH_SECTION") == "latencies"
huey = RedisHuey("peers", url=f"{URL}?max_connections=1000", results=RESULTS, notify_result=notify)


@huey.task(name="noop")
def noop(x: int) -> int:
    tick()
    return x


@huey.task(name="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@huey.task(name="nap")
def nap() -> None:
    started()
    time.sleep(NAP)
    ended()


def enqueue(count: int) -> None:
    for number in range(count):
        noop(number)


def bulk(count: int) -> None:
    """Map: huey has no other call for many, and sends them one by one."""
    noop.map(range(count))


def sleeps(count: int) -> None:
    for _ in range(count):
        nap()


def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            assert noop(number).get(blocking=True, timeout=PATIENCE) == number


def chords(width: int, count: int) -> None:
    sent = [huey.enqueue(chord([noop.s(number) for number in range(width)], total.s())) for _ in range(count)]
    assert [result.get(blocking=True, timeout=PATIENCE) for result in sent] == [sum(range(width))] * count


def chains(length: int, count: int) -> None:
    for _ in range(count):
        with lap():
            steps = noop.s(7)
            for _ in range(length - 1):
                steps.then(noop)
            results = huey.enqueue(steps)
            assert results[length - 1] == 7
