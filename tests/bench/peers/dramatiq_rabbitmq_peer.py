"""Dramatiq: its RabbitMQ broker, acknowledged when done. Results would need another store."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from peers.shape import NAP, URL, ended, started, tick

dramatiq.set_broker(RabbitmqBroker(url=URL, confirm_delivery=True))


@dramatiq.actor(actor_name="noop")
def noop(x: int) -> int:
    tick()
    return x


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
