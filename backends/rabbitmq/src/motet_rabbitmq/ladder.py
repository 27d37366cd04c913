"""Delays: a message climbs down queues whose TTLs are the hexadecimal digits of its delay."""

from __future__ import annotations

from motet_rabbitmq.topology import Topology

__all__ = ["LONGEST", "Ladder", "Rung", "route"]

LONGEST = 16**9 - 1
"""Milliseconds: 795 days."""


class Rung(tuple[str, str]):
    """(exchange, routing key) to publish to."""


def route(prefix: str, delay: int, target: str) -> tuple[str, str]:
    """Say where to publish so that it comes to queue `target` after `delay` milliseconds, 0 to LONGEST."""
    raise NotImplementedError


class Ladder:
    """The delays of a namespace. Levels are declared when they are first needed."""

    def __init__(self, topology: Topology, prefix: str) -> None:
        self.topology = topology
        self.prefix = prefix

    async def attach(self, target: str) -> None:
        """Have a queue take what comes down for it. Once for each queue; repeating it costs nothing."""
        raise NotImplementedError

    async def place(self, delay: int, target: str) -> tuple[str, str]:
        """Return (exchange, routing key) for a delay of so many milliseconds, once the queues are there."""
        raise NotImplementedError

    async def fixed(self, delay: int, target: str) -> tuple[str, str]:
        """The same by one queue for this very delay and target, for the few delays that come often: one hop."""
        raise NotImplementedError
