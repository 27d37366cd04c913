"""Dramatiq: its Redis broker, acknowledged when done."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from peers.shape import NAP, PATIENCE, RESULTS, URL, ended, lap, started, tick

broker = RedisBroker(url=URL)
broker.add_middleware(GroupCallbacks(LimitsBackend(url=URL)))
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop")
def noop(x: int) -> int:
    tick()
    return x


@dramatiq.actor(actor_name="done")
def done() -> int:
    """Run when a group is complete; Dramatiq's callbacks are not given the results."""
    return 1


@dramatiq.actor(actor_name="nap")
def nap() -> None:
    started()
    time.sleep(NAP)
    ended()


def enqueue(count: int) -> None:
    for number in range(count):
        noop.send(number)


def bulk(count: int) -> None:
    """Send a group: Dramatiq has no other call for many, and sends them one by one."""
    dramatiq.group(noop.message(number) for number in range(count)).run()


def sleeps(count: int) -> None:
    for _ in range(count):
        nap.send()


def roundtrip(count: int) -> None:
    for number in range(count):
        with lap():
            assert noop.send(number).get_result(block=True, timeout=PATIENCE * 1000) == number


def chords(width: int, count: int) -> None:
    callbacks: list[Any] = []
    for _ in range(count):
        group = dramatiq.group(noop.message(number) for number in range(width))
        callbacks.append(done.message())
        group.add_completion_callback(callbacks[-1])
        group.run()
    for callback in callbacks:
        callback.get_result(block=True, timeout=PATIENCE * 1000)


def chains(length: int, count: int) -> None:
    for _ in range(count):
        with lap():
            pipe = dramatiq.pipeline([noop.message(7), *(noop.message() for _ in range(length - 1))]).run()
            assert pipe.get_result(block=True, timeout=PATIENCE * 1000) == 7
