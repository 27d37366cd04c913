"""Celery on RabbitMQ: threads, acknowledged late, quorum queues, confirmed publishes; results by its rpc."""

from __future__ import annotations

import time

from celery import Celery, group
from peers.shape import NAP, PATIENCE, RESULTS, URL, ended, lap, started, tick

app = Celery("peers", broker=URL, backend="rpc://" if RESULTS else None)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=not RESULTS,
    task_default_queue_type="quorum",
    broker_transport_options={"confirm_publish": True},
    worker_detect_quorum_queues=True,
    worker_prefetch_multiplier=50,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(x: int) -> int:
    tick()
    return x


@app.task(name="nap")
def nap() -> None:
    started()
    time.sleep(NAP)
    ended()


def enqueue(count: int) -> None:
    for number in range(count):
        noop.delay(number)


def bulk(count: int) -> None:
    """Send all through one producer, as the manual says; a group costs more."""
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            noop.apply_async((number,), producer=producer)


def sleeps(count: int) -> None:
    group(nap.s() for _ in range(count)).apply_async()


def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            assert noop.delay(number).get(timeout=PATIENCE) == number
