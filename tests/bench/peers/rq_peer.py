"""RQ: a process for each job, or all jobs in the worker's own; retried when it was abandoned."""

from __future__ import annotations

import os
import time
from typing import Any

from peers.shape import NAP, PATIENCE, URL, ended, lap, started, tick, tick_in_file
from redis import Redis
from rq import Queue, Retry

queue = Queue(connection=Redis.from_url(URL))
# A `result_ttl` of 0, which keeps no results, deletes each job when it is done, and takes twice the CPU.
options: dict[str, Any] = {"retry": Retry(max=3), "result_ttl": 3600}
count_one = tick if os.environ.get("BENCH_SIMPLE") else tick_in_file


def noop(x: int) -> int:
    count_one()
    return x


def done() -> int:
    """Run after other jobs; RQ does not give it their results."""
    return 1


def nap() -> None:
    started()
    time.sleep(NAP)
    ended()


def enqueue(count: int) -> None:
    for number in range(count):
        queue.enqueue("peers.rq_peer.noop", number, **options)


def bulk(count: int) -> None:
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        queue.enqueue_many([Queue.prepare_data("peers.rq_peer.noop", (number,), **options) for number in numbers])


def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            job = queue.enqueue("peers.rq_peer.noop", number, **options)
            result = job.latest_result(timeout=PATIENCE)
            assert result is not None
            assert result.return_value == number


def chords(width: int, count: int) -> None:
    sent = []
    for _ in range(count):
        datas = [Queue.prepare_data("peers.rq_peer.noop", (number,), **options) for number in range(width)]
        sent.append(queue.enqueue("peers.rq_peer.done", depends_on=queue.enqueue_many(datas), **options))
    for job in sent:
        assert job.latest_result(timeout=PATIENCE) is not None


def chains(length: int, count: int) -> None:
    for _ in range(count):
        with lap():
            job = None
            for _ in range(length):
                job = queue.enqueue("peers.rq_peer.noop", 7, depends_on=job, **options)
            assert job is not None
            assert job.latest_result(timeout=PATIENCE) is not None
